//! Models that bear joined rows and models that do not.

use inference::{ModelMetadata, TensorSpec};

use super::*;
use crate::backend::ort::tests::floats;

fn signature() -> Signature {
    let specs = vec![TensorSpec { name: "x".into(), datatype: Datatype::Fp32, shape: vec![-1, 2] }];
    let metadata = ModelMetadata {
        name: "m".into(),
        versions: vec![],
        platform: String::new(),
        inputs: specs.clone(),
        outputs: specs,
    };
    Signature::of(&metadata).unwrap()
}

fn sample(shape: &[usize], values: &[f32]) -> InferRequest {
    InferRequest { inputs: vec![floats("x", shape, values)], ..InferRequest::default() }
}

fn values(request: &InferRequest) -> Vec<f32> {
    let TensorData::Fixed(bytes) = &request.inputs[0].data else { panic!("numbers") };
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Examines a model that is a function of all numbers of a request.
fn examined(model: impl Fn(&[f32]) -> Vec<f32>, samples: &[InferRequest]) -> Result<(), Doubt> {
    let run = |request: &InferRequest| {
        let outputs = model(&values(request));
        Ok(vec![floats("x", &[outputs.len() / 2, 2], &outputs)])
    };
    examine(run, &signature(), samples)
}

#[test]
fn rows_that_are_answered_each_for_itself_may_be_joined() {
    let twice = |all: &[f32]| all.iter().map(|value| value * 2.0).collect();
    for samples in [sample(&[1, 2], &[0.0; 2]), sample(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])] {
        assert_eq!(examined(twice, &[samples]), Ok(()));
    }
    // Rounding in another order is no difference, and NaN is NaN.
    let rounded = |all: &[f32]| all.iter().map(|value| value * (1.0 + 1e-7 * all.len() as f32)).collect();
    assert_eq!(examined(rounded, &[sample(&[1, 2], &[0.0; 2])]), Ok(()));
    assert_eq!(examined(|all| vec![f32::NAN; all.len()], &[sample(&[1, 2], &[0.0; 2])]), Ok(()));
}

#[test]
fn rows_that_the_model_mixes_may_not() {
    let zeros = [sample(&[1, 2], &[0.0; 2])];
    let largest = |all: &[f32]| all.iter().copied().fold(f32::MIN, f32::max);
    let differs = |result| matches!(result, Err(Doubt::Differs(_)));
    assert!(differs(examined(|all| all.iter().map(|value| value / largest(all)).collect(), &zeros)));
    assert!(differs(examined(|all| all.iter().map(|value| value - all.iter().sum::<f32>()).collect(), &zeros)));
    // Rows that come in another order, or fewer.
    assert!(differs(examined(|all| all.chunks_exact(2).rev().flatten().copied().collect(), &zeros)));
    assert!(differs(examined(|all| all[..2].to_vec(), &zeros)));
}

#[test]
fn a_batch_that_fails_is_a_difference_and_a_row_that_fails_none() {
    let zeros = [sample(&[1, 2], &[0.0; 2])];
    let up_to = |rows: usize| {
        move |request: &InferRequest| match request.inputs[0].shape[0] {
            few if few <= rows => Ok(request.inputs.clone()),
            _ => Err(InferError::InvalidInput("too many".into())),
        }
    };
    assert_eq!(examine(up_to(3), &signature(), &zeros), Ok(()));
    let Err(Doubt::Differs(text)) = examine(up_to(2), &signature(), &zeros) else { panic!("three rows fail") };
    assert_eq!(text, "3 joined rows failed: too many");
    assert_eq!(examine(up_to(0), &signature(), &zeros), Err(Doubt::NotTried("too many".into())));
    assert!(matches!(examine(up_to(3), &signature(), &[]), Err(Doubt::NotTried(_))));
}

#[test]
fn made_up_rows_differ_whatever_their_datatype() {
    for datatype in Datatype::ALL {
        let data = match datatype.size() {
            Some(size) => TensorData::Fixed(vec![0; 4 * size].into()),
            None => TensorData::Strings(vec![Bytes::new(); 4]),
        };
        let input = Tensor { name: "x".into(), datatype, shape: vec![1, 4], parameters: vec![], data };
        let row = InferRequest { inputs: vec![input], ..InferRequest::default() };
        let changed: Vec<_> = (0..ROWS).map(|seed| change(&row, seed)).collect();
        assert_ne!(changed[0], changed[1], "{datatype}");
        assert_ne!(changed[1], changed[2], "{datatype}");
        for request in changed {
            assert_eq!(request.inputs[0].data.elements(datatype), 4);
        }
    }
    let ids = Tensor {
        name: "x".into(),
        datatype: Datatype::Int32,
        shape: vec![1, 3],
        parameters: vec![],
        data: TensorData::from_vec(vec![101_i32, 7, 102]),
    };
    let row = InferRequest { inputs: vec![ids], ..InferRequest::default() };
    let TensorData::Fixed(turned) = &change(&row, 1).inputs[0].data else { panic!("numbers") };
    assert_eq!(turned.as_ref(), [7_i32, 102, 101].map(i32::to_le_bytes).concat());
}
