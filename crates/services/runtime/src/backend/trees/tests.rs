//! Small trees, asked in every way that the contract allows.

use bytes::Bytes;
use inference::{
    RequestedOutput,
    trees::{self, Format},
};

use super::*;

/// A binary classifier of LightGBM: two features, one tree of two leaves.
pub(crate) const LIGHTGBM: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\n\
    objective=binary sigmoid:1\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nthreshold=0.5\ndecision_type=2\n\
    left_child=-1\nright_child=-2\nleaf_value=0 2\n\nend of trees\n";

/// A regression of XGBoost: two features, one tree of two leaves.
pub(crate) const XGBOOST: &str = r#"{"learner": {"gradient_booster": {"name": "gbtree", "model": {"tree_info": [0], "trees": [{
    "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [0, 0, 0], "default_left": [1, 0, 0],
    "split_conditions": [0.5, -1, 2], "tree_param": {}}]}}, "objective": {"name": "reg:squarederror"},
    "learner_model_param": {"base_score": "0", "num_class": "0", "num_feature": "2"}}, "version": [3, 2, 0]}"#;

fn backend(format: Format, file: &str) -> TreesBackend {
    TreesBackend::new(Arc::new(trees::read(format, file.as_bytes()).unwrap()))
}

fn tensor(name: &str, datatype: Datatype, shape: &[usize], data: TensorData) -> Tensor {
    Tensor { name: name.into(), datatype, shape: shape.into(), parameters: vec![], data }
}

fn request(input: Tensor, outputs: &[&str]) -> InferRequest {
    let wanted = |name: &&str| RequestedOutput { name: (*name).to_owned(), parameters: vec![] };
    InferRequest { inputs: vec![input], outputs: outputs.iter().map(wanted).collect(), ..InferRequest::default() }
}

#[test]
fn rows_are_answered_one_by_one_whatever_their_alignment() {
    let mut backend = backend(Format::XgboostJson, XGBOOST);
    for offset in 0..4 {
        let values = [0.4_f32, 0.0, 0.5, f32::NAN, f32::NAN, 1.0];
        let memory: Vec<u8> = vec![0; offset].into_iter().chain(values.iter().flat_map(|v| v.to_le_bytes())).collect();
        let data = TensorData::Fixed(Bytes::from(memory).slice(offset..));
        let ran = backend.run(&request(tensor("input", Datatype::Fp32, &[3, 2], data), &[])).unwrap();
        let expected = TensorData::from_vec(vec![-1.0_f32, 2.0, -1.0]);
        assert_eq!(ran.outputs, [tensor("prediction", Datatype::Fp32, &[3], expected)]);
    }
}

#[test]
fn a_classifier_gives_the_outputs_that_are_asked_for_in_their_order() {
    let mut backend = backend(Format::LightgbmText, LIGHTGBM);
    let input = || tensor("input", Datatype::Fp64, &[2, 2], TensorData::from_vec(vec![0.5, 0.0, 0.6, 0.0]));
    let likely = 1.0 / (1.0 + (-2.0_f64).exp());
    let label = tensor("label", Datatype::Int64, &[2], TensorData::from_vec(vec![0_i64, 1]));
    let values = TensorData::from_vec(vec![0.5, 0.5, 1.0 - likely, likely]);
    let probabilities = tensor("probabilities", Datatype::Fp64, &[2, 2], values);
    let mut asked = |outputs: &[&str]| backend.run(&request(input(), outputs)).unwrap().outputs;
    assert_eq!(asked(&[]), [label.clone(), probabilities.clone()]);
    assert_eq!(asked(&["probabilities", "label"]), [probabilities, label.clone()]);
    assert_eq!(asked(&["label"]), [label]);
}

#[test]
fn no_rows_have_no_answers_and_too_many_are_refused() {
    let mut backend = backend(Format::LightgbmText, LIGHTGBM);
    let none = tensor("input", Datatype::Fp64, &[0, 2], TensorData::Fixed(Bytes::new()));
    let outputs = backend.run(&request(none, &[])).unwrap().outputs;
    assert_eq!((outputs[0].shape.as_slice(), outputs[1].shape.as_slice()), (&[0][..], &[0, 2][..]));
    let many = tensor("input", Datatype::Fp64, &[1 << 40, 2], TensorData::Fixed(Bytes::new()));
    assert!(matches!(backend.run(&request(many, &[])), Err(InferError::TooLarge(_))));
}

#[test]
fn the_highest_is_the_first_of_equals() {
    assert_eq!(highest(&[0.1, 0.6, 0.3]), 1);
    assert_eq!(highest(&[0.5, 0.5]), 0);
    assert_eq!(highest(&[f64::NAN, 0.1]), 1);
    assert_eq!(highest(&[f64::NAN, f64::NAN]), 0);
}
