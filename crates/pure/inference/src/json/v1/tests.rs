//! Rows and columns in, predictions and outputs out.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn model(inputs: &[(&str, Datatype, &[i64])]) -> ModelMetadata {
    let specs = inputs.iter().map(|(name, datatype, shape)| TensorSpec {
        name: (*name).to_owned(),
        datatype: *datatype,
        shape: shape.to_vec(),
    });
    let (name, platform) = ("m".to_owned(), String::new());
    ModelMetadata { name, versions: vec![], platform, inputs: specs.collect(), outputs: vec![] }
}

fn read(body: &str, metadata: &ModelMetadata) -> Result<(InferRequest, Form), String> {
    let read = read_request(&Bytes::copy_from_slice(body.as_bytes()), metadata);
    let (request, form) = read.map_err(|error| error.to_string())?;
    contract::check(&request, metadata).map_err(|error| error.to_string())?;
    Ok((request, form))
}

/// What comes back when the inputs are the outputs.
fn echoed(body: &str, metadata: &ModelMetadata) -> Value {
    let (request, form) = read(body, metadata).unwrap();
    serde_json::from_slice(&write_response(&response(request.inputs), form).unwrap()).unwrap()
}

fn response(outputs: Vec<Tensor>) -> InferResponse {
    InferResponse { model_name: "m".into(), model_version: "1".into(), id: None, parameters: vec![], outputs }
}

#[test]
fn one_input_needs_no_name() {
    let x = model(&[("x", Datatype::Fp32, &[-1, 2])]);
    let predictions = json!({"predictions": [[1.0, 2.0], [3.5, -1.0]]});
    for body in [
        r#"{"instances": [[1, 2], [3.5, -1]]}"#,
        r#"{"instances": [{"x": [1, 2]}, {"x": [3.5, -1]}]}"#,
        r#"{"signature_name": "serving_default", "instances": [[1, 2], {"x": [3.5, -1]}], "other": {"a": null}}"#,
    ] {
        assert_eq!(echoed(body, &x), predictions, "{body}");
    }
    for body in [r#"{"inputs": [[1, 2], [3.5, -1]]}"#, r#"{"inputs": {"x": [[1, 2], [3.5, -1]]}}"#] {
        assert_eq!(echoed(body, &x), json!({"outputs": [[1.0, 2.0], [3.5, -1.0]]}), "{body}");
    }
    let (request, form) = read(r#"{"instances": [[1, 2], [3, 4], [5, 6]]}"#, &x).unwrap();
    assert_eq!((request.inputs[0].shape.as_slice(), form), ([3, 2].as_slice(), Form::Rows(3)));
}

#[test]
fn several_inputs_and_outputs_have_their_names() {
    let both = model(&[("a", Datatype::Int64, &[-1]), ("b", Datatype::Bytes, &[-1, 2])]);
    let rows = json!([{"a": 1, "b": ["x", "y"]}, {"a": 2, "b": ["z", "ß"]}]);
    assert_eq!(echoed(&json!({"instances": rows}).to_string(), &both), json!({"predictions": rows}));
    let columns = json!({"a": [1, 2], "b": [["x", "y"], ["z", "ß"]]});
    assert_eq!(echoed(&json!({"inputs": columns}).to_string(), &both), json!({"outputs": columns}));
}

#[test]
fn scalars_have_no_rows() {
    let scalar = model(&[("x", Datatype::Fp64, &[])]);
    assert_eq!(echoed(r#"{"inputs": 1.5}"#, &scalar), json!({"outputs": 1.5}));
    assert_eq!(echoed(r#"{"inputs": {"x": 1.5}}"#, &scalar), json!({"outputs": 1.5}));
    assert!(read(r#"{"instances": [1.5]}"#, &scalar).unwrap_err().contains("shape"));
    let response = response(read(r#"{"inputs": 1.5}"#, &scalar).unwrap().0.inputs);
    assert!(write_response(&response, Form::Rows(1)).unwrap_err().to_string().contains("`inputs`"));
}

#[test]
fn no_rows_have_the_models_shape() {
    let x = model(&[("x", Datatype::Fp32, &[-1, 4])]);
    assert_eq!(read(r#"{"instances": []}"#, &x).unwrap().0.inputs[0].shape, [0, 4]);
    assert_eq!(echoed(r#"{"instances": []}"#, &x), json!({"predictions": []}));
}

#[test]
fn bytes_may_be_base64() {
    let text = model(&[("s", Datatype::Bytes, &[-1])]);
    let body = r#"{"instances": ["a", {"b64": "//4="}, {"s": {"b64": "Yg=="}}]}"#;
    let (request, _) = read(body, &text).unwrap();
    let wanted = [&b"a"[..], b"\xff\xfe", b"b"].map(Bytes::from_static);
    assert_eq!(request.inputs[0].data, TensorData::Strings(wanted.to_vec()));
    assert_eq!(echoed(body, &text), json!({"predictions": ["a", {"b64": "//4="}, "b"]}));
}

#[test]
fn what_is_not_finite_is_a_string() {
    let x = model(&[("x", Datatype::Fp32, &[-1])]);
    let body = r#"{"instances": [NaN, "Infinity", -Infinity]}"#;
    assert_eq!(echoed(body, &x), json!({"predictions": ["NaN", "Infinity", "-Infinity"]}));
}

#[test]
fn errors_say_where_and_what_was_expected() {
    let x = model(&[("x", Datatype::Uint8, &[-1, 2])]);
    let both = model(&[("a", Datatype::Fp32, &[-1]), ("b", Datatype::Fp32, &[-1])]);
    for (metadata, body, place, words) in [
        (&x, r#"{"instances": [[1, 256]]}"#, "`instances[0][1]`", "from 0 to 255"),
        (&x, r#"{"instances": [[1, 2], [3]]}"#, "`instances[1]`", "expected 2 elements"),
        (&x, r#"{"instances": [[1, 2], 3]}"#, "`instances[1]`", "an array"),
        (&x, r#"{"instances": [[1, [2]]]}"#, "`instances[0][1]`", "a whole number"),
        (&x, r#"{"instances": [{"y": [1, 2]}]}"#, "`instances[0].y`", "it has `x`"),
        (&x, r#"{"instances": 3}"#, "`instances`", "an array"),
        (&x, r#"{"instances": [[1, 2, 3]]}"#, "`inputs[0]`", "expected the shape [-1, 2]"),
        (&x, r#"{"instances": [[1, 2]], "inputs": [[1, 2]]}"#, "`inputs`", "a second one"),
        (&x, r#"{"signature_name": "other", "instances": []}"#, "`signature_name`", "serving_default"),
        (&both, r#"{"instances": [{"a": 1}]}"#, "`instances[0]`", "expected the input `b`"),
        (&both, r#"{"instances": [{"a": 1, "a": 1, "b": 2}]}"#, "`instances[0].a`", "twice"),
        (&both, r#"{"instances": [{"a": 1, "b": 2}, 3]}"#, "`instances[1]`", "an object"),
        (&both, r#"{"inputs": [1]}"#, "`inputs`", "it has `a`, `b`"),
        (&both, r#"{"inputs": {"a": [1]}}"#, "`inputs`", "`b`"),
    ] {
        let error = read(body, metadata).unwrap_err();
        assert!(error.starts_with(place) && error.contains(words), "{body}: {error}");
    }
    for body in ["", "{", "[]", "{}", "null", r#"{"instances": []} x"#] {
        assert!(read(body, &x).is_err(), "{body}");
    }
}

proptest! {
    #[test]
    fn never_panics(body in "[\\[\\]{}\",:0-9a-z. ]{0,120}", wrapped in any::<bool>()) {
        let body = if wrapped { format!("{{\"instances\":{body}}}") } else { body };
        let both = model(&[("a", Datatype::Fp32, &[-1]), ("b", Datatype::Bytes, &[-1])]);
        for metadata in [both, model(&[("s", Datatype::Bytes, &[-1, 2])])] {
            if let Ok((request, form)) = read_request(&Bytes::from(body.clone()), &metadata) {
                let _ = write_response(&response(request.inputs), form);
            }
        }
    }

    #[test]
    fn rows_come_back_as_they_were_sent(rows in proptest::collection::vec(proptest::array::uniform3(any::<i64>()), 0..20)) {
        let x = model(&[("x", Datatype::Int64, &[-1, 3])]);
        let body = json!({"instances": rows}).to_string();
        prop_assert_eq!(echoed(&body, &x), json!({"predictions": rows}));
    }
}
