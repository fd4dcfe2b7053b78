//! Loading of real models through ONNX Runtime.

use inference::Datatype;

use super::*;
use crate::{
    backend::{
        ort::tests::{file, floats},
        trees::tests::{LIGHTGBM, XGBOOST},
    },
    batching::policy::Policy,
    library::tests::environment,
    onnx::{self, Dim},
    registry::Model,
};

fn load(path: &Path) -> Result<Loaded, LoadError> {
    let loader = Loader {
        environment: environment().clone(),
        cpus: 2,
        batching: Policy::default(),
        memory_bytes_max: None,
        cpu: None,
        known: None,
    };
    loader.load(Model::announced("m".into(), "4".into()).metadata(), path)
}

fn condition_of(loaded: &Loaded, kind: ConditionKind) -> &Condition {
    loaded.report.conditions.iter().find(|condition| condition.kind == kind).unwrap()
}

#[tokio::test]
async fn a_file_becomes_a_model_that_answers() {
    let (_directory, path) = file(&onnx::sum_and_difference());
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.report.optimisation, Some(Optimisation::All));
    assert_eq!(condition_of(&loaded, ConditionKind::Optimised).status, ConditionStatus::True);
    assert_eq!(condition_of(&loaded, ConditionKind::GoldenVerified).status, ConditionStatus::Unknown);
    let model = Model::announced("m".into(), "4".into());
    model.load(loaded);
    let inputs = vec![floats("b", &[2, 4], &[1.0; 8]), floats("a", &[2, 4], &[2.0; 8])];
    let request = InferRequest { id: Some("7".into()), inputs, ..InferRequest::default() };
    let answer = model.infer(request, None).await.unwrap();
    assert_eq!(answer.response.id.as_deref(), Some("7"));
    assert_eq!((answer.response.model_name.as_str(), answer.response.model_version.as_str()), ("m", "4"));
    assert_eq!(answer.response.outputs[0], floats("sum", &[2, 4], &[3.0; 8]));
    let wrong = InferRequest { inputs: vec![floats("a", &[2, 3], &[2.0; 6])], ..InferRequest::default() };
    assert!(matches!(model.infer(wrong, None).await, Err(inference::InferError::InvalidInput(_))));
}

#[test]
fn a_directory_has_its_model_in_it() {
    let (directory, _path) = file(&onnx::identity(Datatype::Int64));
    assert!(load(directory.path()).is_ok());
    let empty = tempfile::tempdir().unwrap();
    let text = load(empty.path()).unwrap_err().to_string();
    assert!(text.contains("there is no `model.onnx` in it"), "{text}");
    let text = load(Path::new("/nowhere")).unwrap_err().to_string();
    assert!(text.contains("`/nowhere`"), "{text}");
}

const GOLDEN: &str = r#"{"cases":[{"name":"twos",
    "request":{"inputs":[
        {"name":"a","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]},
        {"name":"b","shape":[1,4],"datatype":"FP32","data":[1,1,1,1]}]},
    "response":{"outputs":[{"name":"sum","shape":[1,4],"datatype":"FP32","data":[2,3,4,5]}]}}]}"#;

#[test]
fn golden_cases_are_verified_and_a_wrong_answer_stops_the_model() {
    let (directory, _path) = file(&onnx::sum_and_difference());
    let golden = directory.path().join("golden.json");
    std::fs::write(&golden, GOLDEN).unwrap();
    let loaded = load(directory.path()).unwrap();
    assert_eq!(condition_of(&loaded, ConditionKind::GoldenVerified).status, ConditionStatus::True);
    std::fs::write(&golden, GOLDEN.replace("[2,3,4,5]", "[2,3,4,6]")).unwrap();
    let text = load(directory.path()).unwrap_err().to_string();
    assert!(text.contains("golden case `twos` failed: output `sum` is 5 at element 3, expected 6"), "{text}");
    std::fs::write(&golden, GOLDEN.replace("\"b\"", "\"c\"")).unwrap();
    let text = load(directory.path()).unwrap_err().to_string();
    assert!(text.contains("golden case `twos` failed") && text.contains("`c`"), "{text}");
    std::fs::write(&golden, "{}").unwrap();
    assert!(matches!(load(directory.path()), Err(LoadError::GoldenFile { .. })));
}

#[test]
fn a_bundle_is_verified_before_it_is_opened() {
    let (directory, _path) = file(&onnx::sum_and_difference());
    std::fs::write(directory.path().join("golden.json"), GOLDEN).unwrap();
    std::fs::write(directory.path().join("bundle.yaml"), "classes: {sum: [a, b, c, d]}\n").unwrap();
    let root = tempfile::tempdir().unwrap();
    let store = store::Store::open(root.path()).unwrap();
    let pushed = store.push(directory.path()).unwrap();
    let bundle = store.bundle_dir(&pushed.digest).unwrap();
    let loaded = load(&bundle).unwrap();
    assert_eq!(loaded.classes["sum"], ["a", "b", "c", "d"]);
    assert_eq!(condition_of(&loaded, ConditionKind::GoldenVerified).status, ConditionStatus::True);
    let golden = bundle.join("golden.json");
    std::fs::remove_file(&golden).unwrap();
    std::fs::write(&golden, GOLDEN.replace("twos", "ones")).unwrap();
    assert!(matches!(load(&bundle), Err(LoadError::Bundle(_))));
}

#[test]
fn variable_sizes_that_one_does_not_suit_are_found() {
    // Concatenated to itself and multiplied by rows of 16: the variable size must be eight.
    let input = onnx::tensor_type(Datatype::Fp32, &[Dim::Named("batch"), Dim::Named("width")]);
    let other = onnx::tensor_type(Datatype::Fp32, &[Dim::Size(1), Dim::Size(8)]);
    let model = onnx::model(
        &[
            onnx::node("Add", &["x", "w"], &["s"]),
            onnx::node("MatMul", &["x", "t"], &["y"]),
            onnx::node("Transpose", &["w"], &["t"]),
        ],
        &[("x", input.clone()), ("w", other)],
        &[("s", input.clone()), ("y", input)],
    );
    let (_directory, path) = file(&model);
    // Its nodes are not in topological order, which ONNX Runtime accepts.
    let loaded = load(&path).unwrap();
    assert_eq!(condition_of(&loaded, ConditionKind::Optimised).status, ConditionStatus::True);
}

/// Seven columns are wanted by the second operand, and seven is not among the sizes that are tried.
fn seven_columns() -> Vec<u8> {
    let input = onnx::tensor_type(Datatype::Fp32, &[Dim::Named("width")]);
    let other = onnx::tensor_type(Datatype::Fp32, &[Dim::Size(7), Dim::Size(7)]);
    let node = onnx::node("MatMul", &["x", "w"], &["y"]);
    onnx::model(&[node], &[("x", input.clone()), ("w", other)], &[("y", input)])
}

#[test]
fn a_model_that_no_made_up_input_suits_is_served_untried() {
    let (_directory, path) = file(&seven_columns());
    let loaded = load(&path).unwrap();
    let optimised = condition_of(&loaded, ConditionKind::Optimised);
    assert_eq!((optimised.status, optimised.reason.as_str()), (ConditionStatus::Unknown, "NotTried"));
    assert!(optimised.message.contains("golden.json"));
}

#[test]
fn what_cannot_be_served_says_why() {
    let (_directory, path) = file(b"no model");
    assert!(matches!(load(&path), Err(LoadError::Refused(_))));
    let kind = onnx::tensor_type(Datatype::Fp32, &[Dim::Size(1)]);
    let constant = onnx::model(&[onnx::node("RandomUniformLike", &["x"], &["y"])], &[("x", kind.clone())], &[]);
    let (_directory, path) = file(&constant);
    assert!(load(&path).is_err());
}

/// Writes trees to a file under `name`.
fn saved(directory: &tempfile::TempDir, name: &str, model: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, model).unwrap();
    path
}

#[tokio::test]
async fn trees_are_known_by_their_content_and_answer() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = load(&saved(&directory, "spam", XGBOOST)).unwrap();
    assert_eq!((loaded.metadata.platform.as_str(), loaded.report.optimisation), ("xgboost_json", None));
    let optimised = condition_of(&loaded, ConditionKind::Optimised);
    assert_eq!((optimised.status, optimised.reason.as_str()), (ConditionStatus::True, "NothingToOptimise"));
    let model = Model::announced("m".into(), "4".into());
    model.load(loaded);
    let inputs = vec![floats("input", &[2, 2], &[0.4, 0.0, 0.5, 0.0])];
    let answer = model.infer(InferRequest { inputs, ..InferRequest::default() }, None).await.unwrap();
    assert_eq!(answer.response.outputs, [floats("prediction", &[2], &[-1.0, 2.0])]);
    let wide = InferRequest { inputs: vec![floats("input", &[1, 3], &[0.0; 3])], ..InferRequest::default() };
    assert!(matches!(model.infer(wide, None).await, Err(inference::InferError::InvalidInput(_))));
}

const TREES_GOLDEN: &str = r#"{"cases":[{"name":"low",
    "request":{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64","data":[0.1,"NaN"]}]},
    "response":{"outputs":[{"name":"probabilities","shape":[1,2],"datatype":"FP64","data":[0.5,0.5]}]}}]}"#;

#[test]
fn a_bundle_of_trees_has_classes_and_verified_cases() {
    let directory = tempfile::tempdir().unwrap();
    saved(&directory, "model.txt", LIGHTGBM);
    saved(&directory, "bundle.yaml", "classes: {probabilities: [ham, spam]}\n");
    let golden = saved(&directory, "golden.json", TREES_GOLDEN);
    let root = tempfile::tempdir().unwrap();
    let store = store::Store::open(root.path()).unwrap();
    let pushed = store.push(directory.path()).unwrap();
    let loaded = load(&store.bundle_dir(&pushed.digest).unwrap()).unwrap();
    assert_eq!(loaded.metadata.platform, "lightgbm_text");
    assert_eq!(loaded.classes["probabilities"], ["ham", "spam"]);
    assert_eq!(condition_of(&loaded, ConditionKind::GoldenVerified).status, ConditionStatus::True);
    std::fs::write(&golden, TREES_GOLDEN.replace("[0.5,0.5]", "[0.4,0.6]")).unwrap();
    let text = load(directory.path()).unwrap_err().to_string();
    assert!(text.contains("golden case `low` failed: output `probabilities` is 0.5 at element 0"), "{text}");
}

#[test]
fn trees_that_are_damaged_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = saved(&directory, "model.txt", &LIGHTGBM.replace("end of trees", ""));
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("the model cannot be evaluated") && text.contains("cut off"), "{text}");
}

/// A model of one operator from `x` to `y`, both of this shape.
fn one_operator(operator: &str, dims: &[Dim]) -> Vec<u8> {
    let kind = onnx::tensor_type(Datatype::Fp32, dims);
    onnx::model(&[onnx::node(operator, &["x"], &["y"])], &[("x", kind.clone())], &[("y", kind)])
}

fn batched(model: &[u8], policy: Policy) -> (ConditionStatus, String) {
    let (_directory, path) = file(model);
    let loader = Loader {
        environment: environment().clone(),
        cpus: 2,
        batching: policy,
        memory_bytes_max: None,
        cpu: None,
        known: None,
    };
    let loaded = loader.load(Model::announced("m".into(), "4".into()).metadata(), &path).unwrap();
    let condition = condition_of(&loaded, ConditionKind::Batched);
    (condition.status, condition.reason.clone())
}

#[test]
fn requests_are_joined_where_the_model_bears_it() {
    let rows = [Dim::Named("rows"), Dim::Size(3)];
    let on = Policy::default();
    let said = |status, reason: &str| (status, reason.to_owned());
    for datatype in Datatype::ALL {
        assert_eq!(batched(&onnx::identity(datatype), on), said(ConditionStatus::True, "SameAnswers"), "{datatype}");
    }
    assert_eq!(batched(&onnx::sum_and_difference(), on), said(ConditionStatus::True, "SameAnswers"));
    assert_eq!(batched(&one_operator("Softmax", &rows), on), said(ConditionStatus::True, "SameAnswers"));
    // Over the only dimension, which is then no batch.
    let softmax = one_operator("Softmax", &[Dim::Named("classes")]);
    assert_eq!(batched(&softmax, on), said(ConditionStatus::False, "AnswersDiffer"));
    let fixed = one_operator("Relu", &[Dim::Size(1), Dim::Size(3)]);
    assert_eq!(batched(&fixed, on), said(ConditionStatus::False, "FixedBatch"));
    assert_eq!(batched(&one_operator("Relu", &rows), Policy::OFF), said(ConditionStatus::False, "SwitchedOff"));
}

fn parallel(model: &[u8], loader: &Loader) -> (ConditionStatus, String) {
    let (_directory, path) = file(model);
    let loaded = loader.load(Model::announced("m".into(), "4".into()).metadata(), &path).unwrap();
    let condition = condition_of(&loaded, ConditionKind::Parallel);
    (condition.status, condition.reason.clone())
}

#[test]
fn how_requests_run_beside_each_other_is_said() {
    let said = |status, reason: &str| (status, reason.to_owned());
    let two = Loader {
        environment: environment().clone(),
        cpus: 2,
        batching: Policy::default(),
        memory_bytes_max: None,
        cpu: None,
        known: None,
    };
    let tiny = onnx::sum_and_difference();
    assert_eq!(parallel(&tiny, &two), said(ConditionStatus::True, "SessionPerCpu"));
    assert_eq!(parallel(&tiny, &Loader { cpus: 1, ..two.clone() }), said(ConditionStatus::False, "OneCpu"));
    assert_eq!(parallel(&seven_columns(), &two), said(ConditionStatus::False, "NotTried"));
}

/// A bundle of `model` in a store, loaded with what an earlier replica found out.
fn load_bundle(root: &Path, model: &[u8], known: Option<Findings>, cpus: usize) -> Loaded {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("model.onnx"), model).unwrap();
    let store = store::Store::open(root).unwrap();
    let pushed = store.push(source.path()).unwrap();
    let loader = Loader {
        environment: environment().clone(),
        cpus,
        batching: Policy::default(),
        memory_bytes_max: None,
        cpu: Some("some".to_owned()),
        known,
    };
    let path = store.bundle_dir(&pushed.digest).unwrap();
    loader.load(Model::announced("m".into(), "4".into()).metadata(), &path).unwrap()
}

#[test]
fn what_an_earlier_replica_found_out_is_taken_over_where_it_holds() {
    let root = tempfile::tempdir().unwrap();
    let model = onnx::identity(Datatype::Fp32);
    let first = load_bundle(root.path(), &model, None, 2);
    let mut found = first.report.findings.clone().unwrap();
    assert_eq!(found.batched, Verdict::of(condition_of(&first, ConditionKind::Batched)));
    assert_eq!(found.batched.reason, "SameAnswers");
    assert_eq!(Findings::parse(&serde_json::to_string(&found).unwrap()).as_ref(), Some(&found));
    // A verdict that no trial would come to shows whether there was one.
    "told".clone_into(&mut found.batched.reason);
    found.run_nanos = 1234;
    let second = load_bundle(root.path(), &model, Some(found.clone()), 2);
    assert_eq!(condition_of(&second, ConditionKind::Batched).reason, "told");
    assert_eq!(second.report.findings.as_ref(), Some(&found));
    // Another machine, another model: the trials are made.
    let elsewhere = load_bundle(root.path(), &model, Some(found.clone()), 1);
    assert_eq!(condition_of(&elsewhere, ConditionKind::Batched).reason, "SameAnswers");
    let other = load_bundle(root.path(), &onnx::sum_and_difference(), Some(found), 2);
    assert_eq!(condition_of(&other, ConditionKind::Batched).reason, "SameAnswers");
    assert_ne!(other.report.findings.unwrap().circumstances, second.report.findings.unwrap().circumstances);
    // A file of one's own may change at any moment, and says nothing of the next.
    let (_directory, path) = file(&model);
    assert_eq!(load(&path).unwrap().report.findings, None);
}

#[test]
fn lanes_that_won_are_opened_without_another_trial() {
    let root = tempfile::tempdir().unwrap();
    // Too slow for a session on each CPU, as `known` says, so that lanes are looked at.
    let model = onnx::identity(Datatype::Fp32);
    let mut found = load_bundle(root.path(), &model, None, 2).report.findings.unwrap();
    found.run_nanos = 20_000_000;
    found.lanes = Some(LaneTimes { count: 2, lane_nanos: 20_000_000, wide_nanos: 19_000_000 });
    "told".clone_into(&mut found.parallel.reason);
    let again = load_bundle(root.path(), &model, Some(found.clone()), 2);
    assert_eq!(condition_of(&again, ConditionKind::Parallel).reason, "told");
    assert_eq!(again.report.findings.unwrap().lanes, found.lanes);
    // Lanes that never won are not opened for what somebody says.
    found.lanes = Some(LaneTimes { count: 2, lane_nanos: 90_000_000, wide_nanos: 19_000_000 });
    let tried = load_bundle(root.path(), &model, Some(found), 2);
    assert_ne!(condition_of(&tried, ConditionKind::Parallel).reason, "told");
}
