//! Walks a document beside its schema, collects what is wrong, and gives back a value in normal form.

use serde_json::{Map, Value};

use super::{
    ERRORS_MAX, FieldError,
    schema::{Field, Kind, PLACES, Schema},
};
use crate::id::ServiceName;

/// What is wrong so far; bounded.
#[derive(Debug, Default)]
pub(super) struct Errors {
    pub(super) list: Vec<FieldError>,
}

impl Errors {
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>) {
        if self.list.len() < ERRORS_MAX {
            self.list.push(FieldError::new(path, message));
        }
    }
}

/// Longest piece of a person's input that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;
/// Items of a list that are looked at: one more than any list may have, which is what its own check refuses.
const ITEMS_MAX: usize = 64;
/// Names closer than this are taken for a slip of the pen (Jaro-Winkler).
const ALIKE_MIN: f64 = 0.82;

/// Checks `value` against `schema`. Empty fields are left out of what comes back, numbers for quantities become text.
pub(super) fn object(schema: &Schema, value: &Value, path: &str, errors: &mut Errors) -> Value {
    let Value::Object(given) = value else {
        let place = if path.is_empty() { "manifest" } else { path };
        errors.add(place, format!("expected fields, found {}", found(value)));
        return Value::Null;
    };
    let mut normal = Map::new();
    // In the order of the schema, then of the alphabet: the same document gives the same text.
    for field in schema.fields {
        let place = join(path, field.name);
        match given.get(field.name) {
            None | Some(Value::Null) if field.required => errors.add(&place, format!("is missing: {}", how(field))),
            None | Some(Value::Null) => {}
            Some(value) => {
                if let Some(value) = field_value(field, value, &place, errors) {
                    normal.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    let is_known = |key: &str| schema.fields.iter().any(|field| field.name == key);
    let mut strangers: Vec<&String> = given.keys().filter(|key| !is_known(key)).collect();
    strangers.sort();
    for key in strangers {
        errors.add(&join(path, key), stranger(schema, key, path));
    }
    Value::Object(normal)
}

fn field_value(field: &Field, value: &Value, path: &str, errors: &mut Errors) -> Option<Value> {
    match field.kind {
        Kind::Ignored => return None,
        Kind::Object(schema) => return Some(object(schema, value, path, errors)),
        Kind::List(schema) => return list(schema, value, path, errors),
        Kind::Map => return map(value, path, errors),
        Kind::Quantity => {
            if let Value::Number(number) = value {
                return Some(Value::String(number.to_string()));
            }
        }
        Kind::Name => {
            if let Some(Err(error)) = value.as_str().map(ServiceName::parse) {
                errors.add(path, error.to_string());
                return None;
            }
        }
        Kind::Text | Kind::Integer | Kind::Signed | Kind::Number | Kind::Boolean => {}
    }
    let fits = match field.kind {
        Kind::Integer => value.is_u64(),
        Kind::Signed => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Kind::Number => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        _ => value.is_string(),
    };
    if !fits {
        errors.add(path, expected(field.kind, value));
        return None;
    }
    // The kind's whole numbers are of 32 bits, but for the server's own counter.
    if matches!(field.kind, Kind::Integer) && field.name != "generation" && value.as_u64() > Some(u64::from(u32::MAX)) {
        errors.add(path, format!("`{value}` is too large"));
        return None;
    }
    Some(value.clone())
}

fn list(schema: &Schema, value: &Value, path: &str, errors: &mut Errors) -> Option<Value> {
    let Value::Array(given) = value else {
        errors.add(path, format!("expected a list (`- …`), found {}", found(value)));
        return None;
    };
    let items = given.iter().enumerate().take(ITEMS_MAX + 1);
    Some(Value::Array(items.map(|(at, item)| object(schema, item, &format!("{path}[{at}]"), errors)).collect()))
}

fn map(value: &Value, path: &str, errors: &mut Errors) -> Option<Value> {
    let Value::Object(given) = value else {
        errors.add(path, format!("expected texts by name (`team: search`), found {}", found(value)));
        return None;
    };
    for (key, value) in given {
        if !value.is_string() {
            errors.add(&join(path, key), expected(Kind::Text, value));
        }
    }
    Some(value.clone())
}

fn expected(kind: Kind, value: &Value) -> String {
    let found = found(value);
    match (kind, value) {
        (Kind::Integer, _) => format!("expected a whole number from 0, found {found}"),
        (Kind::Signed, _) => format!("expected a whole number of 32 bits, found {found}"),
        (Kind::Number, _) => format!("expected a number, found {found}"),
        (Kind::Boolean, _) => format!("expected `true` or `false`, found {found}"),
        (Kind::Quantity, _) => format!("expected a quantity (`500m`, `2`, `256Mi`), found {found}"),
        (_, Value::Number(_) | Value::Bool(_)) => format!("expected text, found {found}: write `\"{}\"`", shown(value)),
        _ => format!("expected text, found {found}"),
    }
}

/// What stands there, in words.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => format!("`{value}`"),
        Value::Number(_) => format!("the number `{}`", shown(value)),
        Value::String(_) => format!("the text `{}`", shown(value)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "fields".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    clipped(&text)
}

/// A text short enough for a message, on one line.
pub(super) fn clipped(text: &str) -> String {
    let mut short: String =
        text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// What to write for a field that is missing.
fn how(field: &Field) -> &'static str {
    match field.name {
        "apiVersion" => "write `apiVersion: berth.dev/v1alpha1`",
        "kind" => "write `kind: InferenceService`",
        "metadata" => "write `metadata: {name: …}`",
        "spec" => "write `spec: {predictor: …}`",
        "predictor" => "write `predictor: {model: …}`",
        "model" => "write `model: {modelFormat: {name: onnx}, storageUri: …}`",
        "modelFormat" => "write `modelFormat: {name: onnx}`",
        "steps" => "write `steps: [{percent: 5}, {percent: 25}]`",
        "percent" => "write `percent: 20` for one request of five",
        "storageUri" => "write `storageUri: file:///…` with the path of a model",
        _ => "give one",
    }
}

/// What to say of a field that the schema does not have.
fn stranger(schema: &Schema, key: &str, path: &str) -> String {
    if let Some((name, instead)) = schema.unsupported.iter().find(|(name, _)| *name == key) {
        return format!("`{name}` is not supported yet: {instead}");
    }
    let unknown = format!("unknown field `{}`", clipped(key));
    // Another case of a field's own name is nearer than anything else.
    if let Some(field) = schema.fields.iter().find(|field| field.name.eq_ignore_ascii_case(key)) {
        return format!("{unknown}; did you mean `{}`?", field.name);
    }
    let elsewhere = PLACES
        .iter()
        .find(|(place, other)| *place != path && key != "name" && other.fields.iter().any(|field| field.name == key));
    if let Some((place, _)) = elsewhere {
        let place = if place.is_empty() { "the top".to_owned() } else { format!("`{place}`") };
        return format!("unknown field `{key}` here; it belongs to {place}");
    }
    let names = schema.fields.iter().map(|field| field.name);
    match nearest(key, names.chain(schema.unsupported.iter().map(|(name, _)| *name))) {
        Some(name) if schema.fields.iter().any(|field| field.name == name) => {
            format!("{unknown}; did you mean `{name}`?")
        }
        Some(name) => format!("{unknown}; `{name}` is not supported yet either: remove it"),
        None => format!("{unknown}; known are {}", known(schema)),
    }
}

/// The name that a slip of the pen may have meant.
pub(super) fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A long key is no slip of the pen, and comparing it would cost its square.
    if key.len() > SHOWN_CHARS_MAX {
        return None;
    }
    let lower = key.to_ascii_lowercase();
    let alike = names.map(|name| (strsim::jaro_winkler(&lower, &name.to_ascii_lowercase()), name));
    alike.filter(|(alike, _)| *alike >= ALIKE_MIN).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn known(schema: &Schema) -> String {
    let names: Vec<String> = schema.fields.iter().map(|field| format!("`{}`", field.name)).collect();
    names.join(", ")
}

/// The path of a field.
pub(super) fn join(path: &str, key: &str) -> String {
    let key = clipped(key);
    match (path, key.contains(['.', '/'])) {
        ("", false) => key,
        ("", true) => format!("[\"{key}\"]"),
        (path, false) => format!("{path}.{key}"),
        (path, true) => format!("{path}[\"{key}\"]"),
    }
}
