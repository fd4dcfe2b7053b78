//! What is joined comes apart as it was.

use inference::{Datatype, RequestedOutput};
use proptest::{collection::vec, prelude::*};

use super::*;

fn spec(name: &str, datatype: Datatype, dims: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: dims.into() }
}

fn metadata(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> ModelMetadata {
    ModelMetadata { name: "m".into(), versions: vec![], platform: String::new(), inputs, outputs }
}

/// A model with numbers `x` and texts `s`, which are also its outputs.
fn both() -> Signature {
    let specs = vec![spec("x", Datatype::Int16, &[-1, -1]), spec("s", Datatype::Bytes, &[-1])];
    Signature::of(&metadata(specs.clone(), specs)).unwrap()
}

fn request(rows: usize, width: usize, seed: i16) -> InferRequest {
    let numbers: Vec<i16> = (0..rows * width).map(|at| seed + i16::try_from(at).unwrap()).collect();
    let texts = (0..rows).map(|at| Bytes::from(format!("{seed}-{at}"))).collect();
    let tensor = |name: &str, datatype, shape: &[usize], data| Tensor {
        name: name.into(),
        datatype,
        shape: shape.into(),
        parameters: vec![],
        data,
    };
    let inputs = vec![
        tensor("x", Datatype::Int16, &[rows, width], TensorData::from_vec(numbers)),
        tensor("s", Datatype::Bytes, &[rows], TensorData::Strings(texts)),
    ];
    InferRequest { inputs, ..InferRequest::default() }
}

#[test]
fn every_input_and_output_must_have_rows() {
    let x = |dims: &[i64]| vec![spec("x", Datatype::Fp32, dims)];
    assert!(Signature::of(&metadata(x(&[-1, 4]), x(&[-1]))).is_some());
    for (inputs, outputs) in [(x(&[1, 4]), x(&[-1])), (x(&[-1]), x(&[4])), (x(&[-1]), x(&[])), (vec![], x(&[-1]))] {
        assert!(Signature::of(&metadata(inputs, outputs)).is_none());
    }
}

#[test]
fn a_group_has_the_same_shapes_beyond_rows_and_the_same_outputs() {
    let signature = both();
    let group = |request: &InferRequest| signature.group(request);
    assert_eq!(group(&request(1, 3, 0)), group(&request(7, 3, 5)));
    assert_ne!(group(&request(1, 3, 0)), group(&request(1, 4, 0)));
    let wanting = |names: &[&str]| {
        let outputs = names.iter().map(|name| RequestedOutput { name: (*name).into(), parameters: vec![] });
        group(&InferRequest { outputs: outputs.collect(), ..request(1, 3, 0) })
    };
    assert_eq!(wanting(&[]), wanting(&["x", "s"]));
    assert_ne!(wanting(&["s", "x"]), wanting(&["x", "s"]));
    assert_ne!(wanting(&["x"]), wanting(&["s"]));
    let mut swapped = request(1, 3, 0);
    swapped.inputs.swap(0, 1);
    assert_eq!(group(&swapped), group(&request(1, 3, 0)));
    let mut uneven = request(2, 3, 0);
    uneven.inputs[1] = request(1, 3, 0).inputs[1].clone();
    assert_eq!(group(&uneven), None);
    assert_eq!(group(&request(0, 3, 0)), None);
}

#[test]
fn an_answer_with_other_rows_does_not_come_apart() {
    let outputs = request(3, 2, 0).inputs;
    assert!(split(outputs.clone(), &[1, 2]).is_some());
    assert!(split(outputs.clone(), &[1, 1]).is_none());
    assert!(split(outputs, &[3, 1]).is_none());
    let mut scalar = request(1, 1, 0).inputs;
    scalar[0].shape = vec![];
    assert!(split(scalar, &[1]).is_none());
}

#[test]
fn parts_of_an_answer_are_not_copied() {
    let outputs = request(4, 2, 0).inputs;
    let TensorData::Fixed(whole) = outputs[0].data.clone() else { panic!("numbers") };
    let parts = split(outputs, &[3, 1]).unwrap();
    let TensorData::Fixed(last) = &parts[1][0].data else { panic!("numbers") };
    assert_eq!(last.as_ptr(), whole[12..].as_ptr());
}

proptest! {
    #[test]
    fn joined_and_split_they_are_as_before(all in vec((1..5_usize, 0..100_i16), 1..8), width in 0..4_usize) {
        let requests: Vec<_> = all.iter().map(|(rows, seed)| request(*rows, width, *seed)).collect();
        let joined = both().join(&requests.iter().collect::<Vec<_>>()).unwrap();
        let rows: Vec<usize> = all.iter().map(|(rows, _)| *rows).collect();
        prop_assert_eq!(joined.inputs[0].shape[0], rows.iter().sum::<usize>());
        let parts = split(joined.inputs, &rows).unwrap();
        let before: Vec<_> = requests.into_iter().map(|request| request.inputs).collect();
        prop_assert_eq!(parts, before);
    }
}
