//! Rows, order, labels, and what has no classes.

use bytes::Bytes;

use super::{apply, asked};
use crate::{Datatype, InferError, InferRequest, InferResponse, Parameter, RequestedOutput, Tensor, TensorData};

fn request(value: Parameter) -> InferRequest {
    let parameters = vec![("classification".to_owned(), value)];
    let plain = RequestedOutput { name: "z".to_owned(), parameters: Vec::new() };
    let output = RequestedOutput { name: "y".to_owned(), parameters };
    InferRequest { outputs: vec![plain, output], ..InferRequest::default() }
}

/// Shape and classes of output `y`.
fn classes(
    datatype: Datatype,
    shape: &[usize],
    data: TensorData,
    count: usize,
    labels: &[String],
) -> Result<(Vec<usize>, Vec<String>), InferError> {
    let output = Tensor { name: "y".to_owned(), datatype, shape: shape.to_vec(), parameters: Vec::new(), data };
    let mut response = InferResponse {
        model_name: String::new(),
        model_version: String::new(),
        id: None,
        parameters: Vec::new(),
        outputs: vec![output],
    };
    apply(&mut response, &[("y".to_owned(), count)], |_| Some(labels))?;
    let output = response.outputs.remove(0);
    assert_eq!(output.datatype, Datatype::Bytes);
    let TensorData::Strings(strings) = output.data else { panic!() };
    Ok((output.shape, strings.iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()))
}

#[test]
fn the_count_is_a_whole_number() {
    assert_eq!(asked(&request(Parameter::Int(2))), Ok(vec![("y".to_owned(), 2)]));
    assert_eq!(asked(&InferRequest::default()), Ok(Vec::new()));
    for value in [Parameter::Int(0), Parameter::Int(-1), Parameter::Double(1.5), Parameter::String("2".to_owned())] {
        let error = asked(&request(value)).unwrap_err();
        assert!(error.to_string().starts_with("`outputs[1].parameters.classification`: expected"), "{error}");
    }
}

#[test]
fn the_highest_of_each_row_come_first() {
    let data = || TensorData::from_vec(vec![1.1_f32, 3.3, 0.5, 2.4]);
    let found = |shape: &[usize], count| classes(Datatype::Fp32, shape, data(), count, &[]).unwrap();
    assert_eq!(found(&[4], 2), (vec![2], vec!["3.3:1".to_owned(), "2.4:3".to_owned()]));
    assert_eq!(found(&[1, 4], 2), (vec![1, 2], vec!["3.3:1".to_owned(), "2.4:3".to_owned()]));
    assert_eq!(found(&[2, 2], 1), (vec![2, 1], vec!["3.3:1".to_owned(), "2.4:1".to_owned()]));
    assert_eq!(found(&[2, 2], 9).0, [2, 2]);
    assert_eq!(found(&[1, 2, 2], 1), (vec![1, 1], vec!["3.3:1".to_owned()]));
    let labels = ["a".to_owned(), "b".to_owned()];
    let labelled = classes(Datatype::Fp32, &[4], data(), 3, &labels).unwrap();
    assert_eq!(labelled.1, ["3.3:1:b", "2.4:3", "1.1:0:a"]);
}

#[test]
fn ties_go_to_the_lower_index_and_nan_comes_last() {
    let data = TensorData::from_vec(vec![f64::NAN, 1.0, f64::NEG_INFINITY, 1.0]);
    let found = classes(Datatype::Fp64, &[4], data, 4, &[]).unwrap();
    assert_eq!(found.1, ["1.0:1", "1.0:3", "-Infinity:2", "NaN:0"]);
    let exact = TensorData::from_vec(vec![i64::MAX - 1, i64::MAX]);
    assert_eq!(classes(Datatype::Int64, &[2], exact, 1, &[]).unwrap().1, ["9223372036854775807:1"]);
}

#[test]
fn outputs_without_rows_or_elements() {
    let none = || TensorData::from_vec(Vec::<f32>::new());
    assert_eq!(classes(Datatype::Fp32, &[0, 3], none(), 2, &[]).unwrap(), (vec![0, 0], Vec::new()));
    assert_eq!(classes(Datatype::Fp32, &[2, 0], none(), 2, &[]).unwrap(), (vec![2, 0], Vec::new()));
    assert_eq!(classes(Datatype::Int8, &[], TensorData::from_vec(vec![5_i8]), 2, &[]).unwrap().1, ["5:0"]);
}

#[test]
fn what_has_no_order_or_too_many_classes_is_refused() {
    let text = TensorData::Strings(vec![Bytes::from_static(b"a")]);
    assert!(matches!(classes(Datatype::Bytes, &[1], text, 1, &[]), Err(InferError::InvalidInput(_))));
    let truth = TensorData::from_vec(vec![1_u8]);
    assert!(matches!(classes(Datatype::Bool, &[1], truth, 1, &[]), Err(InferError::InvalidInput(_))));
    let many = TensorData::from_vec(vec![0_u8; (1 << 21) + 1]);
    assert!(matches!(classes(Datatype::Uint8, &[(1 << 21) + 1], many, usize::MAX, &[]), Err(InferError::TooLarge(_))));
}
