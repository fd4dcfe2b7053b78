//! From KServe's manifest to Berth's: a walk along the table.

use serde_json::{Map, Value};

use super::{
    API_VERSION, KINDS, NOT_HONOURED, Place, extensions, listed, refused,
    table::{Field, Inside, PREDICTOR, Treatment, WHOLE, sections},
    values::Outcome,
};
use crate::manifest::{
    FieldError,
    walk::{Errors, clipped, found, join, nearest},
};

/// A manifest in Berth's own shape, not yet checked for the values of its fields.
#[derive(Debug)]
pub(in crate::manifest) struct Converted {
    pub(in crate::manifest) value: Value,
    /// The form that became `model`, if it was another.
    form: Option<&'static str>,
}

impl Converted {
    /// Errors of the value with the paths that the person wrote.
    pub(in crate::manifest) fn as_written(&self, mut errors: Vec<FieldError>) -> Vec<FieldError> {
        if let Some(form) = self.form {
            for error in &mut errors {
                if let Some(rest) = error.path.strip_prefix("spec.predictor.model") {
                    error.path = format!("spec.predictor.{form}{rest}");
                }
            }
        }
        errors
    }
}

/// Converts one document.
///
/// # Errors
///
/// Every field that is refused or unknown.
pub(in crate::manifest) fn convert(item: &Value) -> Result<Converted, Vec<FieldError>> {
    kind(item)?;
    let mut walk = Walk::default();
    let mut document = walk.fields(WHOLE, item, "");
    let form = model(&mut document, &mut walk);
    document.insert("apiVersion".to_owned(), Value::from(crate::API_VERSION));
    annotate(&mut document, &mut walk);
    if walk.errors.list.is_empty() {
        Ok(Converted { value: Value::Object(document), form })
    } else {
        Err(walk.errors.list)
    }
}

/// Whether the document is of the one kind and version that is read.
fn kind(item: &Value) -> Result<(), Vec<FieldError>> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if let Some((name, instead)) = KINDS.iter().find(|(name, _)| *name == kind) {
        return Err(refused("kind", format!("`{name}` of KServe is not supported: {instead}")));
    }
    if kind != "InferenceService" {
        let meant = nearest(kind, KINDS.iter().map(|(name, _)| *name).chain(["InferenceService"]));
        let meant = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        let text = format!("expected `InferenceService`, found `{}`{meant}", clipped(kind));
        return Err(refused("kind", text));
    }
    if version != API_VERSION {
        let text =
            format!("expected `{API_VERSION}`, found `{}`: write the manifest in that version", clipped(version));
        return Err(refused("apiVersion", text));
    }
    Ok(())
}

/// Turns the form that names the model into `model`.
fn model(document: &mut Map<String, Value>, walk: &mut Walk) -> Option<&'static str> {
    let predictor = document.get_mut("spec")?.get_mut("predictor")?.as_object_mut()?;
    let is_form = |field: &&Field| matches!(field.treatment, Treatment::Form) || field.name == "model";
    let given: Vec<&'static str> =
        PREDICTOR.iter().filter(is_form).map(|field| field.name).filter(|name| predictor.contains_key(*name)).collect();
    match given.as_slice() {
        ["model"] => None,
        [form] => {
            let mut model = match predictor.remove(*form) {
                Some(Value::Object(model)) => model,
                _ => Map::new(),
            };
            model.insert("modelFormat".to_owned(), serde_json::json!({"name": form}));
            predictor.insert("model".to_owned(), Value::Object(model));
            Some(form)
        }
        [] => {
            // A form that was refused has been spoken of.
            if walk.errors.list.is_empty() {
                let text = "names no model: write `model: {modelFormat: {name: onnx}, storageUri: …}`";
                walk.errors.add("spec.predictor", text);
            }
            None
        }
        [one, other, ..] => {
            walk.errors
                .add("spec.predictor", format!("has `{one}` and `{other}`: a predictor has one model, keep one"));
            None
        }
    }
}

/// Takes Berth's own fields out of the annotations, and writes down what is not honoured.
fn annotate(document: &mut Map<String, Value>, walk: &mut Walk) {
    let Some(Value::Object(mut metadata)) = document.remove("metadata") else { return };
    let mut annotations = match metadata.remove("annotations") {
        Some(Value::Object(annotations)) => annotations,
        Some(other) => {
            metadata.insert("annotations".to_owned(), other);
            document.insert("metadata".to_owned(), Value::Object(metadata));
            return;
        }
        None => Map::new(),
    };
    for (annotation, place, field) in extensions() {
        let Some(text) = annotations.remove(&annotation) else { continue };
        let parsed = text.as_str().map(serde_json::from_str::<Value>);
        let spec = document.get_mut("spec");
        let object = match place {
            Place::Spec => spec,
            Place::Predictor => spec.and_then(|spec| spec.get_mut("predictor")),
        };
        match (parsed, object.and_then(Value::as_object_mut)) {
            (Some(Ok(value)), Some(object)) => {
                object.insert(field.to_owned(), value);
            }
            (Some(Ok(_)), None) => {}
            (_, _) => {
                let path = join("metadata.annotations", &annotation);
                walk.errors.add(&path, format!("is not the JSON of `{field}`: write `{{…}}` in quotes"));
            }
        }
    }
    let before = annotations.get(NOT_HONOURED).and_then(Value::as_str);
    let list = listed(before, &walk.not_honoured);
    if !list.is_empty() {
        annotations.insert(NOT_HONOURED.to_owned(), Value::from(list));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    document.insert("metadata".to_owned(), Value::Object(metadata));
}

/// A walk along the table.
#[derive(Debug, Default)]
struct Walk {
    errors: Errors,
    /// Paths, in the order of the table.
    not_honoured: Vec<String>,
}

impl Walk {
    fn fields(&mut self, groups: &'static [&'static [Field]], value: &Value, path: &str) -> Map<String, Value> {
        let mut normal = Map::new();
        let Value::Object(given) = value else {
            let place = if path.is_empty() { "manifest" } else { path };
            self.errors.add(place, format!("expected fields, found {}", found(value)));
            return normal;
        };
        let known = || groups.iter().copied().flatten();
        for field in known() {
            let mut keys: Vec<&String> = given.keys().filter(|key| is_first(groups, field, key)).collect();
            keys.sort();
            for key in keys {
                let Some(value) = given.get(key).filter(|value| !value.is_null()) else { continue };
                if let Some(value) = self.field(field, value, &join(path, key)) {
                    normal.insert(key.clone(), value);
                }
            }
        }
        let mut strangers: Vec<&String> = given.keys().filter(|key| !known().any(|field| field.is(key))).collect();
        strangers.sort();
        for key in strangers {
            self.errors.add(&join(path, key), stranger(groups, key, path));
        }
        normal
    }

    fn field(&mut self, field: &'static Field, value: &Value, path: &str) -> Option<Value> {
        match field.treatment {
            Treatment::Honoured | Treatment::Form => match field.inside {
                Inside::Value => Some(value.clone()),
                Inside::Fields(groups) => Some(Value::Object(self.fields(groups, value, path))),
                Inside::Keys(fields) => Some(self.keys(fields, value, path)),
            },
            Treatment::Mapped(to) => match to(value) {
                Outcome::Value(value) => Some(value),
                Outcome::Absent => None,
                Outcome::NotHonoured => {
                    self.not_honoured.push(path.to_owned());
                    None
                }
                Outcome::Refused(message) => {
                    self.errors.add(path, message);
                    None
                }
            },
            Treatment::NotHonoured => {
                if !is_empty(value) {
                    self.not_honoured.push(path.to_owned());
                }
                None
            }
            Treatment::Refused => {
                if !asks_nothing(value) {
                    self.errors.add(path, format!("`{}` is not supported: {}", clipped(last(path)), field.note));
                }
                None
            }
            Treatment::LeftOut => None,
        }
    }

    /// Labels or annotations: all are kept, but for what the table leaves out.
    fn keys(&mut self, fields: &'static [Field], value: &Value, path: &str) -> Value {
        let Value::Object(given) = value else { return value.clone() };
        let mut kept = given.clone();
        let mut keys: Vec<&String> = given.keys().collect();
        keys.sort();
        for key in keys {
            let Some(field) = fields.iter().find(|field| field.is(key)) else { continue };
            let Some(value) = given.get(key) else { continue };
            self.field(field, value, &join(path, key));
            if matches!(field.treatment, Treatment::LeftOut) {
                kept.remove(key);
            }
        }
        Value::Object(kept)
    }
}

/// Whether `field` is the one of its groups that speaks about `key`.
fn is_first(groups: &'static [&'static [Field]], field: &Field, key: &str) -> bool {
    let first = groups.iter().copied().flatten().find(|field| field.is(key));
    first.is_some_and(|first| first.name == field.name)
}

/// The name of the field at a path.
fn last(path: &str) -> &str {
    match path.strip_suffix("\"]").and_then(|path| path.rsplit_once("[\"")) {
        Some((_, name)) => name,
        None => path.rsplit('.').next().unwrap_or(path),
    }
}

fn is_empty(value: &Value) -> bool {
    asks_nothing(value) || value.as_object().is_some_and(Map::is_empty)
}

fn asks_nothing(value: &Value) -> bool {
    value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty)
}

/// What to say of a field that KServe does not have there.
fn stranger(groups: &'static [&'static [Field]], key: &str, path: &str) -> String {
    let unknown = format!("unknown field `{}`", clipped(key));
    let here = || groups.iter().copied().flatten().map(|field| field.name).filter(|name| !name.ends_with('*'));
    if let Some(name) = here().find(|name| name.eq_ignore_ascii_case(key)) {
        return format!("{unknown}; did you mean `{name}`?");
    }
    let elsewhere = sections()
        .iter()
        .find(|section| section.path != path && key != "name" && section.fields.iter().any(|field| field.name == key));
    if let Some(section) = elsewhere {
        let place = if section.path.is_empty() { "the top".to_owned() } else { format!("`{}`", section.path) };
        return format!("unknown field `{key}` here; it belongs to {place}");
    }
    match nearest(key, here()) {
        Some(name) => format!("{unknown}; did you mean `{name}`?"),
        None => {
            let taken = groups.iter().copied().flatten().filter(|field| {
                !matches!(field.treatment, Treatment::NotHonoured | Treatment::Refused | Treatment::LeftOut)
            });
            let taken: Vec<String> = taken.map(|field| format!("`{}`", field.name)).collect();
            format!("{unknown}; Berth honours {}", taken.join(", "))
        }
    }
}
