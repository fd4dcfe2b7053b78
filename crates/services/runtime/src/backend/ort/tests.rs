//! Every datatype through ONNX Runtime, and what it refuses.

use std::path::PathBuf;

use bytes::Bytes;
use inference::{Datatype, TensorData};

use super::*;
use crate::{library::tests::environment, onnx};

/// Writes `model` to a file that is gone with its directory.
pub(crate) fn file(model: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    std::fs::write(&path, model).unwrap();
    (directory, path)
}

fn open(model: &[u8]) -> OrtBackend {
    let (_directory, path) = file(model);
    OrtBackend::open(environment(), &path, Optimisation::All, 1).unwrap()
}

pub(crate) fn tensor(name: &str, datatype: Datatype, shape: &[usize], data: TensorData) -> Tensor {
    Tensor { name: name.into(), datatype, shape: shape.into(), parameters: vec![], data }
}

pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, Datatype::Fp32, shape, TensorData::Fixed(bytes.into()))
}

fn request(inputs: Vec<Tensor>) -> InferRequest {
    InferRequest { inputs, ..InferRequest::default() }
}

#[test]
fn every_fixed_datatype_comes_back_whatever_its_alignment() {
    for datatype in Datatype::ALL {
        let Some(size) = datatype.size() else { continue };
        let mut backend = open(&onnx::identity(datatype));
        for offset in 0..size.max(2) {
            // 0 and 1 alone, which every datatype has a bit pattern for.
            let memory: Vec<u8> = (0..offset + 5 * size).map(|at| u8::from(at % 3 == 0)).collect();
            let bytes = Bytes::from(memory).slice(offset..);
            let input = tensor("x", datatype, &[5], TensorData::Fixed(bytes));
            let ran = backend.run(&request(vec![input.clone()])).unwrap();
            let expected = Tensor { name: "y".into(), ..input };
            assert_eq!(ran.outputs, vec![expected], "{datatype} at offset {offset}");
        }
    }
}

#[test]
fn strings_come_back_and_must_be_text() {
    let mut backend = open(&onnx::identity(Datatype::Bytes));
    let strings = |all: &[&[u8]]| TensorData::Strings(all.iter().map(|one| Bytes::copy_from_slice(one)).collect());
    for zero in ["a", "a\0b", "\0\0"] {
        let data = strings(&[b"", "größe".as_bytes(), zero.as_bytes()]);
        let ran = backend.run(&request(vec![tensor("x", Datatype::Bytes, &[3], data.clone())])).unwrap();
        assert_eq!(ran.outputs[0].data, data);
    }
    for wrong in [b"\xff".as_slice(), b"\0\xff"] {
        let refused = backend.run(&request(vec![tensor("x", Datatype::Bytes, &[1], strings(&[wrong]))]));
        assert!(matches!(refused, Err(InferError::InvalidInput(_))));
    }
}

#[test]
fn no_elements_are_fine_and_a_bool_is_0_or_1() {
    for datatype in Datatype::ALL {
        let data =
            if datatype == Datatype::Bytes { TensorData::Strings(vec![]) } else { TensorData::Fixed(Bytes::new()) };
        let ran =
            open(&onnx::identity(datatype)).run(&request(vec![tensor("x", datatype, &[0], data.clone())])).unwrap();
        assert_eq!((ran.outputs[0].shape.as_slice(), &ran.outputs[0].data), ([0].as_slice(), &data));
    }
    let two = tensor("x", Datatype::Bool, &[1], TensorData::Fixed(Bytes::from_static(&[2])));
    let refused = open(&onnx::identity(Datatype::Bool)).run(&request(vec![two]));
    assert!(matches!(refused, Err(InferError::InvalidInput(text)) if text.contains("0 or 1")));
}

#[test]
fn outputs_come_in_the_order_asked_for_and_outlive_the_session() {
    let mut backend = open(&onnx::sum_and_difference());
    let inputs = vec![floats("a", &[1, 4], &[1.0, 2.0, 3.0, 4.0]), floats("b", &[1, 4], &[1.0; 4])];
    let wanted = |name: &str| RequestedOutput { name: name.into(), parameters: vec![] };
    let sum = floats("sum", &[1, 4], &[2.0, 3.0, 4.0, 5.0]);
    let difference = floats("difference", &[1, 4], &[0.0, 1.0, 2.0, 3.0]);
    for (outputs, expected) in [
        (vec![], vec![sum.clone(), difference.clone()]),
        (vec![wanted("difference"), wanted("sum")], vec![difference.clone(), sum.clone()]),
        (vec![wanted("sum")], vec![sum.clone()]),
    ] {
        let ran = backend.run(&InferRequest { inputs: inputs.clone(), outputs, ..InferRequest::default() }).unwrap();
        assert_eq!(ran.outputs, expected);
    }
    let ran = backend.run(&request(inputs)).unwrap();
    drop(backend);
    assert_eq!(ran.outputs, vec![sum, difference]);
}

#[test]
fn sizes_that_do_not_agree_are_the_clients_fault() {
    let mut backend = open(&onnx::sum_and_difference());
    let inputs = vec![floats("a", &[3, 4], &[0.0; 12]), floats("b", &[2, 4], &[0.0; 8])];
    let refused = backend.run(&request(inputs));
    assert!(matches!(refused, Err(InferError::InvalidInput(_))), "{refused:?}");
}

#[test]
fn a_signature_has_minus_one_for_variable_dimensions() {
    let (inputs, outputs) = open(&onnx::sum_and_difference()).signature().unwrap();
    assert_eq!(inputs[0], TensorSpec { name: "a".into(), datatype: Datatype::Fp32, shape: vec![-1, 4] });
    assert_eq!(outputs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), ["sum", "difference"]);
}

#[test]
fn a_zipmap_says_how_to_export_without_it() {
    let input = onnx::tensor_type(Datatype::Fp32, &[onnx::Dim::Named("n"), onnx::Dim::Size(2)]);
    let node = onnx::ml_node("ZipMap", &["x"], &["y"], &[("classlabels_int64s", &[0, 1])]);
    let model = onnx::model(&[node], &[("x", input)], &[("y", onnx::zipmap_type())]);
    let text = open(&model).signature().unwrap_err();
    assert!(text.contains("`y` is a sequence or a map") && text.contains("zipmap"), "{text}");
}

#[test]
fn what_is_not_onnx_is_refused() {
    let (_directory, path) = file(b"not a model");
    assert!(OrtBackend::open(environment(), &path, Optimisation::All, 1).is_err());
}
