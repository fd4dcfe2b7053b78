//! Each way in which a request may not fit its model.

use super::check;
use crate::{Datatype, InferRequest, ModelMetadata, RequestedOutput, Tensor, TensorData, TensorSpec};

fn model() -> ModelMetadata {
    let spec =
        |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    ModelMetadata {
        name: "m".to_owned(),
        versions: vec!["1".to_owned()],
        platform: "onnx_onnxv1".to_owned(),
        inputs: vec![spec("x", Datatype::Fp32, &[-1, 2]), spec("s", Datatype::Bytes, &[1])],
        outputs: vec![spec("y", Datatype::Fp32, &[-1])],
    }
}

fn request() -> InferRequest {
    let x = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![3, 2],
        parameters: Vec::new(),
        data: TensorData::from_vec(vec![0_f32; 6]),
    };
    let s = Tensor {
        name: "s".to_owned(),
        datatype: Datatype::Bytes,
        shape: vec![1],
        parameters: Vec::new(),
        data: TensorData::Strings(vec![bytes::Bytes::new()]),
    };
    let y = RequestedOutput { name: "y".to_owned(), parameters: Vec::new() };
    InferRequest { inputs: vec![x, s], outputs: vec![y], ..InferRequest::default() }
}

fn refusal(change: impl FnOnce(&mut InferRequest)) -> String {
    let mut request = request();
    change(&mut request);
    check(&request, &model()).unwrap_err().to_string()
}

#[test]
fn a_request_that_fits() {
    assert_eq!(check(&request(), &model()), Ok(()));
    let mut swapped = request();
    swapped.inputs.reverse();
    swapped.outputs.clear();
    assert_eq!(check(&swapped, &model()), Ok(()));
}

#[test]
fn each_misfit_is_named() {
    assert_eq!(
        refusal(|r| r.inputs[0].name = "z".to_owned()),
        "`inputs[0]`: the model has no input `z`: it has `x`, `s`"
    );
    assert_eq!(refusal(|r| r.inputs[1] = r.inputs[0].clone()), "`inputs[1]`: the input `x` is given twice");
    assert_eq!(refusal(|r| drop(r.inputs.pop())), "`inputs`: expected the input `s` (BYTES [1]), found nothing");
    assert_eq!(
        refusal(|r| r.inputs[0].datatype = Datatype::Int32),
        "`inputs[0]`: expected the datatype FP32 for `x`, found INT32"
    );
    for shape in [vec![6], vec![3, 2, 1], vec![2, 3], vec![]] {
        let said = format!("`inputs[0]`: expected the shape [-1, 2] (-1 is any size) for `x`, found {shape:?}");
        assert_eq!(refusal(|r| r.inputs[0].shape = shape.clone()), said);
    }
    let elements = "`inputs[0]`: `x` does not have the elements that its shape [3, 2] says";
    assert_eq!(refusal(|r| r.inputs[0].data = TensorData::from_vec(vec![0_u8; 23])), elements);
    assert_eq!(refusal(|r| r.inputs[0].data = TensorData::Strings(Vec::new())), elements);
    assert_eq!(
        refusal(|r| r.outputs[0].name = "q".to_owned()),
        "`outputs[0]`: the model has no output `q`: it has `y`"
    );
    assert_eq!(refusal(|r| r.outputs.push(r.outputs[0].clone())), "`outputs[1]`: the output `y` is asked for twice");
}
