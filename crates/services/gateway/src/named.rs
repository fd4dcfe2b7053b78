//! Finds the model's name in a body of JSON, without knowing the rest of it.
//!
//! Clients of OpenAI's API write `model` anywhere in the object, so the whole body is looked through, once, without recursion and
//! without memory of its own. What is between keys is stepped over: whether it is JSON at all the runtime says, which also
//! refuses a request whose name is not that of the service it was routed to.

use std::borrow::Cow;

/// The key.
const KEY: &str = "model";
/// Bytes of the name as it is written: that of a service has at most 63, and each may be an escape of six.
const NAME_BYTES_MAX: usize = 512;

/// Why there is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// The body is not one object.
    #[error("the body is not a JSON object")]
    Malformed,
    /// The object has no such key.
    #[error("the body names no model: give `model`")]
    Missing,
    /// Which of two would count depends on who reads them.
    #[error("the body has `model` twice")]
    Twice,
    /// The name is not text, or too long to be one.
    #[error("`model` must be the name of a service")]
    NotAName,
}

/// The value of the key `model` of the object in `body`.
pub(crate) fn model(body: &[u8]) -> Result<String, NameError> {
    let mut rest = Rest(body);
    let mut found = None;
    rest.expect(b'{')?;
    if rest.next_is(b'}') {
        rest.step();
    } else {
        loop {
            let key = rest.text()?;
            rest.expect(b':')?;
            let value = rest.value()?;
            if unescaped(key).is_some_and(|key| key == KEY) {
                let name = Some(value).filter(|value| value.len() <= NAME_BYTES_MAX).and_then(unescaped);
                let name = name.ok_or(NameError::NotAName)?;
                if found.replace(name.into_owned()).is_some() {
                    return Err(NameError::Twice);
                }
            }
            if !rest.next_is(b',') {
                break;
            }
            rest.step();
        }
        rest.expect(b'}')?;
    }
    rest.blank();
    if rest.0.is_empty() { found.ok_or(NameError::Missing) } else { Err(NameError::Malformed) }
}

/// What a text of JSON, in its quotes, says.
fn unescaped(text: &[u8]) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') || inner.iter().any(u8::is_ascii_control) {
        return serde_json::from_slice::<String>(text).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// What was not looked at yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn blank(&mut self) {
        let blanks = self.0.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.take(blanks);
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }

    fn step(&mut self) {
        self.take(1);
    }

    /// Whether `byte` comes next, after blanks.
    fn next_is(&mut self, byte: u8) -> bool {
        self.blank();
        self.0.first() == Some(&byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), NameError> {
        if !self.next_is(byte) {
            return Err(NameError::Malformed);
        }
        self.step();
        Ok(())
    }

    /// A text with its quotes.
    fn text(&mut self) -> Result<&'a [u8], NameError> {
        if !self.next_is(b'"') {
            return Err(NameError::Malformed);
        }
        let len = text_len(self.0).ok_or(NameError::Malformed)?;
        Ok(self.take(len))
    }

    /// Any value: a text, or everything up to where its brackets are closed, or up to what ends a number or a word.
    fn value(&mut self) -> Result<&'a [u8], NameError> {
        if self.next_is(b'"') {
            return self.text();
        }
        let whole = self.0;
        let (mut depth, mut at) = (0_usize, 0_usize);
        loop {
            let here = whole.get(at..).unwrap_or_default();
            match here.first().ok_or(NameError::Malformed)? {
                b'"' if depth > 0 => {
                    at += text_len(here).ok_or(NameError::Malformed)?;
                    continue;
                }
                b'"' => return Err(NameError::Malformed),
                b'[' | b'{' => depth += 1,
                b']' | b'}' | b',' if depth == 0 => break,
                b']' | b'}' => {
                    depth -= 1;
                    if depth == 0 {
                        at += 1;
                        break;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if at == 0 { Err(NameError::Malformed) } else { Ok(self.take(at)) }
    }
}

/// Bytes of the text that begins with a quote, both quotes with it; nothing when it does not end.
fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let stop = bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        at += stop;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        // The backslash and what it escapes; of `\u` the digits are no quotes.
        at += 2;
    }
}

#[cfg(test)]
mod tests {
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
}
