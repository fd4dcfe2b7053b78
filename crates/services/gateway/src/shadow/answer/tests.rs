//! Tests of what two answers say of each other.

use super::*;

fn rest(status: u16, body: &'static str) -> Taken {
    let mut taken = Taken::new(status, &HeaderMap::new());
    let (first, rest) = body.split_at(body.len() / 2);
    assert!(taken.add(Bytes::from(first), 10_000) && taken.add(Bytes::from(rest), 10_000));
    taken
}

fn grpc(status: &'static str, response: Option<&Response>) -> Taken {
    let mut taken = Taken::new(200, &HeaderMap::new());
    if let Some(response) = response {
        let message = response.encode_to_vec();
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(message);
        assert!(taken.add(framed.into(), 10_000));
    }
    taken.note_trailers(&HeaderMap::from_iter([(headers::GRPC_STATUS, http::HeaderValue::from_static(status))]));
    taken
}

fn output(datatype: &str, shape: &[i64], contents: Option<Contents>) -> OutputTensor {
    OutputTensor { name: "y".to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec(), contents }
}

const LABEL_1: &str = r#"{"model_name":"m","outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[1]}]}"#;
const LABEL_2: &str = r#"{"model_name":"m","outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[2]}]}"#;
const SCORE_1: &str = r#"{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1.0]}]}"#;
const SCORE_2: &str = r#"{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[2.5]}]}"#;

#[test]
fn answers_of_rest() {
    for (primary, mirrored, wanted) in [
        (rest(200, LABEL_1), rest(200, LABEL_1), Outcome::Agreed),
        (rest(200, LABEL_1), rest(200, LABEL_2), Outcome::Differed("class")),
        (rest(200, SCORE_1), rest(200, SCORE_2), Outcome::Differed("score")),
        (rest(200, SCORE_1), rest(200, LABEL_1), Outcome::Differed("form")),
        (rest(200, LABEL_1), rest(400, "{}"), Outcome::Differed("status")),
        (rest(400, "{\"error\":\"a\"}"), rest(400, "{\"error\":\"b\"}"), Outcome::Agreed),
        (rest(200, LABEL_1), rest(500, "{}"), Outcome::Failed("status")),
        (rest(200, LABEL_1), rest(200, "spam"), Outcome::Failed("unreadable")),
        (rest(200, "spam"), rest(200, LABEL_1), Outcome::Dropped("unreadable")),
        (rest(503, ""), rest(200, LABEL_1), Outcome::Dropped("primary_failed")),
    ] {
        assert_eq!(judge((Protocol::Rest, Form::V2), primary, mirrored).0, wanted);
    }
    let (rows, other) = (rest(200, "{\"predictions\":[1.5]}"), rest(200, "{\"predictions\":[1.75]}"));
    let (outcome, agreement) = judge((Protocol::Rest, Form::V1), rows, other);
    assert_eq!((outcome, agreement.unwrap().difference_max), (Outcome::Differed("score"), Some(0.25)));
}

#[test]
fn answers_of_grpc() {
    let raw = |value: f32| Response {
        outputs: vec![output("FP32", &[1], None)],
        raw: vec![Bytes::from(value.to_le_bytes().to_vec())],
    };
    let contents = |value: f32| Contents { floats: vec![value], ..Contents::default() };
    let typed = |value: f32| Response { outputs: vec![output("FP32", &[1], Some(contents(value)))], raw: Vec::new() };
    let judged = |primary, mirrored| judge((Protocol::Grpc, Form::Grpc), primary, mirrored).0;
    // Raw or typed, the numbers are what they are.
    assert_eq!(judged(grpc("0", Some(&raw(1.0))), grpc("0", Some(&typed(1.0)))), Outcome::Agreed);
    assert_eq!(judged(grpc("0", Some(&raw(1.0))), grpc("0", Some(&raw(3.0)))), Outcome::Differed("score"));
    assert_eq!(judged(grpc("3", None), grpc("3", None)), Outcome::Agreed);
    assert_eq!(judged(grpc("0", Some(&raw(1.0))), grpc("3", None)), Outcome::Differed("status"));
    assert_eq!(judged(grpc("0", Some(&raw(1.0))), grpc("13", None)), Outcome::Failed("status"));
    assert_eq!(judged(grpc("0", Some(&raw(1.0))), grpc("0", None)), Outcome::Failed("unreadable"));
}

#[test]
fn every_typed_field_is_read() {
    let contents = Contents {
        bools: vec![true],
        ints: vec![1],
        longs: vec![1],
        uints: vec![1],
        ulongs: vec![1],
        floats: vec![1.0],
        doubles: vec![1.0],
        texts: vec![Bytes::from_static(b"1")],
    };
    for datatype in Datatype::ALL {
        let found = typed(datatype, contents.clone());
        let none = matches!(datatype, Datatype::Fp16 | Datatype::Bf16);
        assert_eq!(found.map(|data| data.elements(datatype)), (!none).then_some(1), "{datatype}");
    }
}

#[test]
fn what_is_over_the_bound_is_not_kept() {
    let mut taken = Taken::default();
    assert!(taken.add(Bytes::from_static(b"12345"), 9));
    assert!(!taken.add(Bytes::from_static(b"67890"), 9));
}
