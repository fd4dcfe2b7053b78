//! Models of the Python libraries with what those predict (`tests/models/trees.py` makes them), and files that are wrong.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

macro_rules! fixture {
    ($name:literal, $ending:literal) => {
        (
            concat!($name, ".", $ending),
            include_bytes!(concat!("fixtures/", $name, ".", $ending)).as_slice(),
            include_str!(concat!("fixtures/", $name, ".rows.json")),
        )
    };
}

/// Name, model, and rows with expected values.
const FIXTURES: [(&str, &[u8], &str); 11] = [
    fixture!("xgboost-binary", "json"),
    fixture!("xgboost-multiclass", "ubj"),
    fixture!("xgboost-dart", "ubj"),
    fixture!("xgboost-poisson", "json"),
    fixture!("xgboost-labels", "ubj"),
    fixture!("xgboost-categories-sets", "ubj"),
    fixture!("lightgbm-binary", "txt"),
    fixture!("lightgbm-multiclass", "txt"),
    fixture!("lightgbm-linear", "txt"),
    fixture!("lightgbm-zero-missing", "txt"),
    fixture!("lightgbm-categories", "txt"),
];

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Vec<Option<f64>>>,
    expected: Vec<Vec<f64>>,
}

fn read_any(file: &[u8]) -> Result<Ensemble, TreeError> {
    read(recognise(file).unwrap(), file)
}

fn predict(model: &Ensemble, row: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; model.outputs()];
    model.predict(row, &mut model.scratch(), &mut out);
    out
}

fn shape_of(spec: &TensorSpec) -> (&str, Datatype, &[i64]) {
    (&spec.name, spec.datatype, &spec.shape)
}

#[test]
fn predictions_are_those_of_the_libraries() {
    for (name, file, rows) in FIXTURES {
        let model = read_any(file).unwrap();
        let Rows { rows, expected } = serde_json::from_str(rows).unwrap();
        assert!(rows.len() > 20 && rows.len() == expected.len());
        for (row, expected) in rows.iter().zip(&expected) {
            let row: Vec<f64> = row.iter().map(|value| value.unwrap_or(f64::NAN)).collect();
            assert_eq!(row.len(), model.features(), "{name}");
            let found = predict(&model, &row);
            assert_eq!(found.len(), expected.len(), "{name}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 2e-7 * expected.abs().max(1.0), "{name}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn signatures_say_what_kind_of_model_it_is() {
    let model = |wanted: &str| read_any(FIXTURES.iter().find(|(name, ..)| *name == wanted).unwrap().1).unwrap();
    let binary = model("xgboost-binary.json");
    assert_eq!(shape_of(&binary.input()), ("input", Datatype::Fp32, &[-1, 8][..]));
    let output = binary.output();
    assert_eq!(shape_of(&output[0]), ("label", Datatype::Int64, &[-1][..]));
    assert_eq!(shape_of(&output[1]), ("probabilities", Datatype::Fp32, &[-1, 2][..]));
    assert_eq!((binary.task(), binary.trees(), binary.producer()), (Task::Binary, 3, Some("XGBoost 3.2.0")));
    let several = model("lightgbm-multiclass.txt");
    assert_eq!(several.task(), Task::Multiclass);
    assert_eq!(shape_of(&several.input()), ("input", Datatype::Fp64, &[-1, 4][..]));
    assert_eq!(shape_of(&several.output()[1]), ("probabilities", Datatype::Fp64, &[-1, 3][..]));
    assert_eq!(shape_of(&model("xgboost-poisson.json").output()[0]), ("prediction", Datatype::Fp32, &[-1][..]));
    assert_eq!(shape_of(&model("xgboost-labels.ubj").output()[0]), ("prediction", Datatype::Fp32, &[-1, 2][..]));
}

#[test]
fn formats_are_known_by_their_first_bytes() {
    for (name, file, _) in FIXTURES {
        let format = recognise(&file[..HEAD_BYTES]).unwrap();
        let expected = match name.rsplit_once('.').unwrap().1 {
            "json" => "xgboost_json",
            "ubj" => "xgboost_ubj",
            _ => "lightgbm_text",
        };
        assert_eq!(format.platform(), expected, "{name}");
    }
    assert_eq!(recognise(b" {\n\t\"version\": [1]}"), Some(Format::XgboostJson));
    for other in
        [&b""[..], b"{", b"{\"learners\":", b"{\"model\": 1}", b"trees\n", b"tree", b"{i\x07learned", b"{L\x07learner"]
    {
        assert_eq!(recognise(other), None, "{other:?}");
    }
}

/// A tree of one node with two leaves, as XGBoost writes it.
fn stump() -> Value {
    json!({
        "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [0, 0, 0],
        "split_conditions": [0.5, -1.0, 2.0], "default_left": [1, 0, 0], "tree_param": {"size_leaf_vector": "1"},
    })
}

fn xgboost(tree: &Value, objective: &str) -> Value {
    json!({"version": [3, 2, 0], "learner": {
        "gradient_booster": {"name": "gbtree", "model": {"tree_info": [0], "trees": [tree]}},
        "learner_model_param": {"base_score": "[0E0]", "num_class": "0", "num_feature": "2", "num_target": "1"},
        "objective": {"name": objective},
    }})
}

fn read_json(model: &Value) -> Result<Ensemble, TreeError> {
    read(Format::XgboostJson, model.to_string().as_bytes())
}

fn refused(model: &Value, words: &str) {
    let text = read_json(model).unwrap_err().to_string();
    assert!(text.contains(words), "{text}");
}

#[test]
fn a_stump_sends_values_left_right_and_where_missing_ones_go() {
    let model = read_json(&xgboost(&stump(), "reg:squarederror")).unwrap();
    for (value, expected) in
        [(0.4, -1.0), (0.5, 2.0), (f64::NAN, -1.0), (f64::INFINITY, 2.0), (f64::NEG_INFINITY, -1.0)]
    {
        assert_eq!(predict(&model, &[value, 0.0]), [expected], "{value}");
    }
    // A row that is too short is missing the rest.
    assert_eq!(predict(&model, &[]), [-1.0]);
}

#[test]
fn trees_that_are_no_trees_are_refused() {
    let with = |key: &str, value: Value| {
        let mut tree = stump();
        tree[key] = value;
        xgboost(&tree, "reg:squarederror")
    };
    refused(&with("left_children", json!([0, -1, -1])), "reached twice");
    refused(&with("right_children", json!([7, -1, -1])), "not in its tree");
    refused(&with("right_children", json!([-1, -1, -1])), "not in its tree");
    refused(&with("split_indices", json!([2, 0, 0])), "feature 2 of 2");
    refused(&with("default_left", json!([1, 0])), "differ in length");
    refused(&with("left_children", json!([])), "differ in length");
    refused(&with("tree_param", json!({"size_leaf_vector": "3"})), "one_output_per_tree");
    let mut set = stump();
    set["split_type"] = json!([1, 0, 0]);
    (set["categories_nodes"], set["categories_segments"], set["categories_sizes"]) =
        (json!([0]), json!([0]), json!([1]));
    set["categories"] = json!([4_000_000_000_u32]);
    refused(&xgboost(&set, "reg:squarederror"), "too high");
    set["categories"] = json!([]);
    refused(&xgboost(&set, "reg:squarederror"), "not in the file");
}

#[test]
fn what_would_be_a_guess_is_refused() {
    let fine = xgboost(&stump(), "reg:squarederror");
    let with = |pointer: &str, value: Value| {
        let mut model = fine.clone();
        *model.pointer_mut(pointer).unwrap() = value;
        model
    };
    refused(&xgboost(&stump(), "my:objective"), "`my:objective` is not known");
    refused(&with("/learner/gradient_booster/name", json!("gblinear")), "`gblinear` is not evaluated");
    refused(&with("/learner/learner_model_param/num_feature", json!("0")), "no features");
    refused(&with("/learner/learner_model_param/num_feature", json!("1e30")), "a whole number up to");
    refused(&with("/learner/learner_model_param/num_class", json!("-1")), "a whole number up to");
    refused(&with("/learner/learner_model_param/base_score", json!("[0, 1]")), "2 numbers for 1 groups");
    refused(&with("/learner/learner_model_param/base_score", json!("none")), "not a number");
    refused(&with("/learner/gradient_booster/model/tree_info", json!([1])), "does not have");
    refused(&with("/learner/gradient_booster/model/tree_info", json!([])), "do not belong together");
    refused(&json!({"learner": {}}), "not a whole model");
}

#[test]
fn ubjson_is_bounded_by_what_is_there() {
    let text = |file: &[u8]| read(Format::XgboostUbj, file).unwrap_err().to_string();
    let deep = [b"{i\x01x".as_slice(), &b"[".repeat(1000)].concat();
    assert!(text(&deep).contains("nested"), "{}", text(&deep));
    let many = b"{i\x07learner[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff";
    assert!(text(many).contains("does not fit"), "{}", text(many));
    assert!(text(b"{i\x07learner[$Z#l\x7f\xff\xff\xff").contains("without content"));
    assert!(text(b"{i\x07learner[$d").contains("no count"));
    assert!(text(b"{i\x07learner?").contains("not a UBJSON marker"));
    let whole = FIXTURES[1].1;
    assert!(text(&[whole, b"N"].concat()).contains("follow the end"));
}

#[test]
fn lightgbm_files_that_are_wrong_are_refused() {
    let whole = std::str::from_utf8(FIXTURES[6].1).unwrap();
    let refused = |file: &str, words: &str| {
        let text = read(Format::LightgbmText, file.as_bytes()).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    };
    refused(whole.split_once("end of trees").unwrap().0, "cut off");
    refused(&whole.replacen("Tree=1", "Twig=1", 1), "number that its first lines give");
    refused(&whole.replacen("objective=binary", "objective=mine", 1), "`mine` is not known");
    refused(&whole.replacen("num_tree_per_iteration=1", "num_tree_per_iteration=3", 1), "cannot have 3");
    refused(&whole.replacen("num_leaves=6", "num_leaves=999999999999", 1), "`num_leaves`");
    refused(&whole.replacen("num_leaves=6", "num_leaves=7", 1), "expected");
    refused(&whole.replacen("left_child=", "left_child=0 ", 1), "values");
    refused(&format!("tree\n{}", "a\n".repeat(5000)), "lines");
    refused("tree\n", "`max_feature_idx=`");
    assert!(read(Format::LightgbmText, b"tree\n\xff").unwrap_err().to_string().contains("UTF-8"));
}

/// Every answer is there and its evaluation ends; the values of a damaged model may be anything.
fn answers(model: &Ensemble) {
    for value in [f64::NAN, 0.0, -1.0, 1e9, f64::INFINITY] {
        let row = vec![value; model.features().min(1000)];
        assert_eq!(predict(model, &row).len(), model.outputs());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        for format in [Format::XgboostJson, Format::XgboostUbj, Format::LightgbmText] {
            drop(read(format, &bytes));
        }
        for start in [&b"{L\0\0\0\0\0\0\0\x07learner"[..], b"{\"learner\"", b"tree\n"] {
            drop(read_any(&[start, &bytes].concat()));
        }
    }

    #[test]
    fn damaged_models_are_refused_or_answer(
        which in 0..FIXTURES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (_, file, _) = FIXTURES[which];
        let format = recognise(file).unwrap();
        let mut file = file.to_vec();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(model) = read(format, &file) {
            answers(&model);
        }
    }

    /// The children of a node are any numbers: what is accepted is a tree.
    #[test]
    fn any_links_make_a_tree_or_are_refused(children in prop::collection::vec((-1..8_i32, -1..8_i32), 1..8)) {
        let mut tree = stump();
        let (left, right): (Vec<i32>, Vec<i32>) = children.iter().copied().unzip();
        let count = left.len();
        (tree["left_children"], tree["right_children"]) = (json!(left), json!(right));
        for key in ["split_indices", "split_conditions", "default_left"] {
            tree[key] = json!(vec![0; count]);
        }
        if let Ok(model) = read_json(&xgboost(&tree, "reg:squarederror")) {
            answers(&model);
        }
    }
}
