//! The body of a request for embeddings.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::INPUTS_MAX;
use crate::limits::NAME_BYTES_MAX;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The model.
    pub model: String,
    /// One or more inputs.
    pub inputs: Vec<Input>,
    /// How vectors are written.
    pub encoding: Encoding,
    /// Numbers that are wanted of each vector.
    pub dimensions: Option<usize>,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Text, which is made into tokens.
    Text(String),
    /// Tokens of the model's own tokeniser, run as they are.
    Tokens(Vec<u32>),
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of 32-bit floats, little-endian.
    Base64,
}

/// What is wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Wrong {
    /// What is wrong and what to do.
    pub message: String,
    /// The parameter that is wrong.
    pub param: Option<&'static str>,
}

impl Wrong {
    /// Something is wrong with `param`.
    pub fn new(param: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param) }
    }
}

/// Unknown fields are let pass, as OpenAI's clients send what their server may know; `user` is one of them.
#[derive(Deserialize)]
struct Body {
    model: String,
    input: Asked,
    #[serde(default)]
    encoding_format: Option<Encoding>,
    #[serde(default)]
    dimensions: Option<usize>,
}

/// Reads a body.
///
/// # Errors
///
/// [`Wrong`] says what was expected.
pub fn read(json: &[u8]) -> Result<Request, Wrong> {
    let Body { model, input, encoding_format, dimensions } = serde_json::from_slice(json).map_err(|error| {
        let param = ["model", "input", "encoding_format", "dimensions"].into_iter();
        let text = error.to_string();
        let named = param.clone().find(|name| text.contains(&format!("`{name}`")));
        Wrong { message: format!("the body is not a request for embeddings: {text}"), param: named }
    })?;
    if model.is_empty() || model.len() > NAME_BYTES_MAX {
        return Err(Wrong::new("model", format!("`model` must have 1 to {NAME_BYTES_MAX} bytes")));
    }
    if dimensions == Some(0) {
        return Err(Wrong::new("dimensions", "`dimensions` must be 1 or more"));
    }
    let inputs = match input {
        Asked::Text(text) => vec![Input::Text(text)],
        Asked::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
        Asked::Tokens(tokens) => vec![Input::Tokens(tokens)],
        Asked::Lists(lists) => lists.into_iter().map(Input::Tokens).collect(),
        Asked::Nothing => Vec::new(),
    };
    check(&inputs)?;
    Ok(Request { model, inputs, encoding: encoding_format.unwrap_or_default(), dimensions })
}

fn check(inputs: &[Input]) -> Result<(), Wrong> {
    if inputs.is_empty() {
        return Err(Wrong::new("input", "`input` has nothing in it: give a text, or a list of texts"));
    }
    let empty = |input: &Input| match input {
        Input::Text(text) => text.is_empty(),
        Input::Tokens(tokens) => tokens.is_empty(),
    };
    match inputs.iter().position(empty) {
        None => Ok(()),
        Some(at) => {
            Err(Wrong::new("input", format!("input {at} is empty: leave it out, an empty text has no meaning")))
        }
    }
}

/// `input` in its four forms.
enum Asked {
    Nothing,
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

const EXPECTED: &str = "a text, a list of texts, a list of tokens or a list of lists of tokens for `input`";

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AskedVisitor)
    }
}

struct AskedVisitor;

impl<'de> Visitor<'de> for AskedVisitor {
    type Value = Asked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Asked, E> {
        Ok(Asked::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Asked, A::Error> {
        let asked = match list.next_element()? {
            None => return Ok(Asked::Nothing),
            Some(Element::Text(first)) => Asked::Texts(rest(first.into_owned(), &mut list, INPUTS_MAX)?),
            // How many tokens an input may have is the model's to say; a body holds no more than its bytes.
            Some(Element::Token(first)) => Asked::Tokens(rest(first, &mut list, usize::MAX)?),
            Some(Element::Tokens(first)) => Asked::Lists(rest(first, &mut list, INPUTS_MAX)?),
        };
        Ok(asked)
    }
}

fn rest<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(first: T, list: &mut A, most: usize) -> Result<Vec<T>, A::Error> {
    let mut all = vec![first];
    while let Some(next) = list.next_element()? {
        if all.len() >= most {
            return Err(de::Error::custom(format!("`input` has more than {most} inputs: ask in several requests")));
        }
        all.push(next);
    }
    Ok(all)
}

/// The first of a list, which says what the others are.
enum Element<'a> {
    Text(Cow<'a, str>),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Element<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Element::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, token: u64) -> Result<Self::Value, E> {
        let token = u32::try_from(token).map_err(|_| E::custom("a token of `input` is out of range"))?;
        Ok(Element::Token(token))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut tokens = Vec::new();
        while let Some(token) = list.next_element()? {
            tokens.push(token);
        }
        Ok(Element::Tokens(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(input: &str) -> Result<Vec<Input>, Wrong> {
        read(format!(r#"{{"input":{input},"model":"m"}}"#).as_bytes()).map(|request| request.inputs)
    }

    fn text(text: &str) -> Input {
        Input::Text(text.to_owned())
    }

    #[test]
    fn input_has_four_forms() {
        assert_eq!(inputs(r#""a""#), Ok(vec![text("a")]));
        assert_eq!(inputs(r#"["a","b\n"]"#), Ok(vec![text("a"), text("b\n")]));
        assert_eq!(inputs("[1,2]"), Ok(vec![Input::Tokens(vec![1, 2])]));
        assert_eq!(inputs("[[1],[2,3]]"), Ok(vec![Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]));
    }

    #[test]
    fn what_cannot_be_embedded_names_its_parameter() {
        for input in ["[]", "[[]]", r#""""#, r#"["a",""]"#, "[[1],[]]"] {
            assert_eq!(inputs(input).unwrap_err().param, Some("input"), "{input}");
        }
        for input in ["1", "null", "{}", "[1.5]", "[-1]", "[4294967296]", r#"["a",1]"#, r#"[1,"a"]"#, "[[[1]]]"] {
            assert!(inputs(input).is_err(), "{input}");
        }
        let many = format!("[{}]", vec![r#""a""#; INPUTS_MAX + 1].join(","));
        assert!(inputs(&many).unwrap_err().message.contains("more than 2048 inputs"));
        let most = format!("[{}]", vec![r#""a""#; INPUTS_MAX].join(","));
        assert_eq!(inputs(&most).unwrap().len(), INPUTS_MAX);
    }

    #[test]
    fn the_other_fields_are_checked() {
        let request =
            read(br#"{"model":"m","input":"a","encoding_format":"base64","dimensions":2,"user":"u","more":[1]}"#);
        let wanted =
            Request { model: "m".to_owned(), inputs: vec![text("a")], encoding: Encoding::Base64, dimensions: Some(2) };
        assert_eq!(request, Ok(wanted));
        let nothing = read(br#"{"model":"m","input":"a","encoding_format":null,"dimensions":null}"#).unwrap();
        assert_eq!((nothing.encoding, nothing.dimensions), (Encoding::Float, None));
        for (body, param) in [
            (r#"{"input":"a"}"#, Some("model")),
            (r#"{"model":"m"}"#, Some("input")),
            (r#"{"model":"","input":"a"}"#, Some("model")),
            (r#"{"model":"m","model":"n","input":"a"}"#, Some("model")),
            (r#"{"model":"m","input":"a","dimensions":0}"#, Some("dimensions")),
            (r#"{"model":"m","input":"a","encoding_format":"hex"}"#, None),
            ("[", None),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap_err().param, param, "{body}");
        }
    }
}
