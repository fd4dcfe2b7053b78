//! Models of XGBoost and LightGBM: taken as they are, under the name that their content gives them.

use super::*;
use crate::fixture::{LIGHTGBM, PICKLES, XGBOOST};

fn shown(tensors: &[TensorInfo]) -> Vec<(&str, &str, &[i64])> {
    tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.datatype.as_str(), tensor.shape.as_slice())).collect()
}

fn refusal(bench: &Bench, source: &Path) -> String {
    let error = bench.store.push(source).unwrap_err();
    assert!(error.is_refusal() && bench.left_over().is_empty(), "{error}");
    error.to_string()
}

#[test]
fn a_file_is_taken_whatever_its_name() {
    let bench = Bench::new();
    for name in ["spam.txt", "spam.onnx", "spam"] {
        let manifest = bench.store.push(&bench.file(name, LIGHTGBM)).unwrap().manifest;
        assert_eq!((manifest.format.as_str(), manifest.files[0].path.as_str()), ("lightgbm", "model.txt"));
        assert_eq!(shown(&manifest.inputs), [("input", "FP64", &[-1, 2][..])]);
        let outputs = [("label", "INT64", &[-1][..]), ("probabilities", "FP64", &[-1, 2][..])];
        assert_eq!(shown(&manifest.outputs), outputs);
    }
    assert_eq!(bench.store.list().unwrap().len(), 1);
    let pushed = bench.store.push(&bench.file("m.json", XGBOOST)).unwrap();
    let manifest = bench.store.verify(&pushed.digest).unwrap();
    assert_eq!((manifest.format.as_str(), manifest.files[0].path.as_str()), ("xgboost", "model.json"));
    assert_eq!(shown(&manifest.inputs), [("input", "FP32", &[-1, 2][..])]);
    assert_eq!(shown(&manifest.outputs), [("prediction", "FP32", &[-1][..])]);
    assert_eq!(manifest.producer.as_deref(), Some("XGBoost 3.2.0"));
}

#[test]
fn a_directory_has_notes_and_golden_cases_beside_it() {
    let bench = Bench::new();
    bench.file("t/model.txt", LIGHTGBM);
    bench.file("t/bundle.yaml", "classes: {probabilities: [ham, spam]}\n");
    bench.file("t/golden.json", r#"{"cases": [{"request": {"inputs": []}, "response": {"outputs": []}}]}"#);
    let source = bench.directory.path().join("t");
    let manifest = bench.store.push(&source).unwrap().manifest;
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["bundle.yaml", "golden.json", "model.txt"]);
    assert_eq!(manifest.classes["probabilities"], ["ham", "spam"]);
    assert_eq!(format(&source).unwrap().name(), "lightgbm");
    bench.file("t/model.json", XGBOOST);
    assert!(refusal(&bench, &source).contains("several models, `model.txt` among them"));
    fs::remove_file(source.join("model.json")).unwrap();
    bench.file("t/bundle.yaml", "classes: {probabilities: [a, b, c]}\n");
    assert!(refusal(&bench, &source).contains("3 labels"));
    fs::remove_file(source.join("bundle.yaml")).unwrap();
    bench.file("t/scaler.pkl", PICKLES[2]);
    assert!(refusal(&bench, &source).contains("`scaler.pkl`"));
}

#[test]
fn content_decides_in_a_directory_too() {
    let bench = Bench::new();
    bench.file("t/model.json", LIGHTGBM);
    let source = bench.directory.path().join("t");
    assert_eq!(bench.store.push(&source).unwrap().manifest.files[0].path, "model.txt");
    bench.file("t/model.json", identity());
    let manifest = bench.store.push(&source).unwrap().manifest;
    assert_eq!((manifest.format.as_str(), manifest.files[0].path.as_str()), ("onnx", "model.onnx"));
    assert_eq!(format(&source).unwrap().name(), "onnx");
}

#[test]
fn models_that_cannot_be_evaluated_say_why() {
    let bench = Bench::new();
    let refused = |content: &str, words: &[&str]| {
        let text = refusal(&bench, &bench.file("m", content));
        assert!(!text.contains('\n') && words.iter().all(|word| text.contains(word)), "{text}");
    };
    let (cut, _) = LIGHTGBM.split_once("leaf_value").unwrap();
    refused(cut, &["damaged model (lightgbm)", "tree 0", "cut off"]);
    refused(&XGBOOST.replace("[2, -1, -1]", "[0, -1, -1]"), &["damaged model (xgboost)", "reached twice"]);
    refused(&XGBOOST.replace("gbtree", "gblinear"), &["cannot be served (xgboost)", "`gblinear`"]);
    refused(&XGBOOST.replace("reg:squarederror", "mine"), &["cannot be served", "`mine`"]);
    refused(&LIGHTGBM.replace("binary", "\u{1b}[2J"), &["cannot be served (lightgbm)", "\\u{1b}[2J"]);
}

#[test]
fn a_model_over_the_limit() {
    let bench = Bench::new();
    let path = bench.file("m.txt", LIGHTGBM);
    // Sparse: it takes no room.
    fs::File::options().write(true).open(&path).unwrap().set_len(inference::trees::FILE_BYTES_MAX as u64 + 1).unwrap();
    assert!(refusal(&bench, &path).contains("256 MiB"));
}
