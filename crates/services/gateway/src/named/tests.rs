//! Bodies that name a model, those that name none, and what a parser says of both.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn named(body: &str) -> Result<String, NameError> {
    model(body.as_bytes())
}

#[test]
fn the_name_is_found_wherever_it_stands() {
    for body in [
        r#"{"model":"m","input":"x"}"#,
        r#"{"input":["}","{\"model\":\"n\"}","\\"],"model":"m"}"#,
        "\n{ \"a\" : {\"model\":\"n\",\"b\":[[{}],1.5e3,null]} ,\t\"model\" : \"m\" }\r\n",
        r#"{"mod\u0065l":"\u006d"}"#,
        r#"{"x":true,"y":-1,"model":"m","z":[]}"#,
    ] {
        assert_eq!(named(body).as_deref(), Ok("m"), "{body}");
    }
}

#[test]
fn what_names_no_model_says_why() {
    for (body, error) in [
        ("", NameError::Malformed),
        ("[]", NameError::Malformed),
        ("null", NameError::Malformed),
        ("{", NameError::Malformed),
        (r#"{"model":"m""#, NameError::Malformed),
        (r#"{"model":"m"} {}"#, NameError::Malformed),
        (r#"{"model":"m",}"#, NameError::Malformed),
        (r#"{"model":}"#, NameError::Malformed),
        (r#"{"model" "m"}"#, NameError::Malformed),
        (r#"{"a":"b"c"model":"m"}"#, NameError::Malformed),
        (r#"{"a":[1,"model":"m"}"#, NameError::Malformed),
        (r#"{"a":"\"#, NameError::Malformed),
        ("{}", NameError::Missing),
        (r#"{"models":"m","input":{"model":"m"}}"#, NameError::Missing),
        (r#"{"model":"m","model":"m"}"#, NameError::Twice),
        (r#"{"model":"m","\u006dodel":"n"}"#, NameError::Twice),
        (r#"{"model":1}"#, NameError::NotAName),
        (r#"{"model":["m"]}"#, NameError::NotAName),
        (r#"{"model":"\x"}"#, NameError::NotAName),
    ] {
        assert_eq!(named(body), Err(error), "{body}");
    }
    assert_eq!(model(b"{\"model\":\"\xff\"}"), Err(NameError::NotAName));
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(NAME_BYTES_MAX));
    assert_eq!(named(&long), Err(NameError::NotAName));
}

#[test]
fn depth_takes_no_stack() {
    let deep = 1_000_000;
    let body = format!(r#"{{"input":{}{},"model":"m"}}"#, "[".repeat(deep), "]".repeat(deep));
    assert_eq!(named(&body).as_deref(), Ok("m"));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        "[\\[\\]{}\",:\\\\ ]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let keys = prop_oneof![any::<String>(), Just(KEY.to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn it_finds_what_a_parser_finds(value in values(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let found = named(&text);
        match value.as_object().map(|object| object.get(KEY)) {
            None => prop_assert_eq!(found, Err(NameError::Malformed)),
            Some(None) => prop_assert_eq!(found, Err(NameError::Missing)),
            Some(Some(Value::String(name))) if serde_json::to_string(name).unwrap().len() <= NAME_BYTES_MAX => {
                prop_assert_eq!(found.as_ref(), Ok(name));
            }
            Some(Some(_)) => prop_assert_eq!(found, Err(NameError::NotAName)),
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes: Vec<u8>) {
        drop(model(&bytes));
    }

    #[test]
    fn a_name_that_is_found_is_that_of_the_parser(text in "[{}\\[\\]\":,a-dmodel\\\\ ]{0,24}") {
        let body = format!("{{\"model\":\"m\"{text}");
        if let (Ok(found), Ok(parsed)) = (named(&body), serde_json::from_str::<Value>(&body)) {
            prop_assert_eq!(parsed[KEY].as_str(), Some(found.as_str()));
        }
    }
}
