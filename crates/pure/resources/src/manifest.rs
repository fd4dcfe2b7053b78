//! Manifests: YAML or JSON text to checked resources, with every error of a document named by its path.

use std::fmt;

use serde_json::Value;

use crate::{API_VERSION, inference_service::InferenceService};

pub mod kserve;
mod schema;
mod source;
mod validate;
mod walk;

pub use source::{StorageSource, storage_source};
pub use validate::validate;

/// Bytes of one manifest text: a person's file is some kilobytes, and Kubernetes' own objects end at 1.5 MB.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Documents in one text, and items of one list.
pub const DOCUMENTS_MAX: usize = 256;
/// Nesting: the deepest field of the kind is six levels down, the rest is room to say what is wrong there.
const DEPTH_MAX: usize = 32;
/// Aliases and merge keys in one text: for anchors that a person wrote, not for a bomb.
const ALIASES_MAX: usize = 256;
/// Values in one text, aliases followed.
const NODES_MAX: usize = 50_000;
/// Errors kept per document: more than a person reads.
const ERRORS_MAX: usize = 64;

/// Something wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct FieldError {
    /// Where: `spec.predictor.minReplicas`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl FieldError {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// What is wrong with one document of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// Counts from 1.
    pub document: usize,
    /// `metadata.name`, when it can be read.
    pub name: Option<String>,
    /// Every error, in the order of the document.
    pub errors: Vec<FieldError>,
}

/// Why a text is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is longer than a manifest may be.
    #[error("the manifest has {0} bytes, more than the {MANIFEST_BYTES_MAX} that are read: split it")]
    TooLarge(usize),
    /// The text is neither YAML nor JSON, or nests or repeats more than is read.
    #[error("the manifest is not valid YAML or JSON{}: {message}", place(*.at))]
    Syntax {
        /// Line and column, from 1.
        at: Option<(u64, u64)>,
        /// What the parser says.
        message: String,
    },
    /// There is no document.
    #[error("the manifest is empty: write an `InferenceService` (`berth apply --help` shows one)")]
    Empty,
    /// Too many documents or items.
    #[error("the manifest has {0} documents, more than the {DOCUMENTS_MAX} that are read: split it")]
    TooMany(usize),
    /// Fields are wrong.
    #[error("{}", lines(.0))]
    Fields(Vec<DocumentError>),
}

impl ManifestError {
    /// The field errors of every document; none for a text that could not be read at all.
    pub fn field_errors(&self) -> impl Iterator<Item = &FieldError> {
        let documents = match self {
            Self::Fields(documents) => documents.as_slice(),
            _ => &[],
        };
        documents.iter().flat_map(|document| document.errors.iter())
    }
}

/// Reads every `InferenceService` of a text: YAML with one or several documents, or JSON; lists are flattened. Those of KServe
/// ([`kserve::API_VERSION`]) are converted.
///
/// # Errors
///
/// Every error of every document, not only the first.
pub fn parse(text: &str) -> Result<Vec<InferenceService>, ManifestError> {
    read(text, None)
}

/// The same, where `file://./model.onnx` and `file://../model.onnx` start at the directory `base`, an absolute path.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_beside(text: &str, base: &str) -> Result<Vec<InferenceService>, ManifestError> {
    read(text, Some(base))
}

fn read(text: &str, base: Option<&str>) -> Result<Vec<InferenceService>, ManifestError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge(text.len()));
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| syntax(&e))?;
    let items: Vec<Value> = documents.into_iter().filter(|value| !value.is_null()).flat_map(flattened).collect();
    match items.len() {
        0 => return Err(ManifestError::Empty),
        many if many > DOCUMENTS_MAX => return Err(ManifestError::TooMany(many)),
        _ => {}
    }
    let several = items.len() > 1;
    let (mut services, mut wrong) = (Vec::new(), Vec::new());
    let mut places = kserve::Places::default();
    for (index, item) in items.iter().enumerate() {
        match places.check(item).and_then(|()| of_document(item, base)) {
            Ok(service) => services.push(service),
            Err(errors) => {
                let name = name_of(item).filter(|_| several);
                wrong.push(DocumentError { document: index + 1, name, errors });
            }
        }
    }
    if wrong.is_empty() { Ok(services) } else { Err(ManifestError::Fields(wrong)) }
}

/// Reads one document of a text, of Berth's own kind or of KServe's.
fn of_document(item: &Value, base: Option<&str>) -> Result<InferenceService, Vec<FieldError>> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let converted = if kserve::is_kserve(item) {
        Some(kserve::convert(item)?)
    } else {
        // A file for a cluster has accounts and secrets beside its services: their fields would all be unknown.
        if let (Some(version), Some(kind)) = (text("apiVersion"), text("kind"))
            && !version.starts_with("berth.dev/")
            && kind != "InferenceService"
        {
            let kind = walk::clipped(kind);
            let message =
                format!("`{kind}` of `{}` is no kind of Berth's: leave the document out", walk::clipped(version));
            return Err(vec![FieldError::new("kind", message)]);
        }
        None
    };
    let mut value = converted.as_ref().map_or(item, |converted| &converted.value).clone();
    if let Some(base) = base {
        make_absolute(&mut value, base);
    }
    from_json_value(&value).map_err(|errors| match &converted {
        Some(converted) => converted.as_written(errors),
        None => errors,
    })
}

/// Reads one `InferenceService` from a JSON value: the body of an API request. `status` is dropped.
///
/// # Errors
///
/// Every error of the document: unknown fields, fields that are not honoured, wrong kinds of values, and what
/// [`validate`] finds.
pub fn from_json_value(value: &Value) -> Result<InferenceService, Vec<FieldError>> {
    if kserve::is_kserve(value) {
        let message = format!("expected `{API_VERSION}`, found KServe's: `berth apply` converts such a manifest");
        return Err(vec![FieldError::new("apiVersion", message)]);
    }
    let mut errors = walk::Errors::default();
    let normal = walk::object(&schema::INFERENCE_SERVICE, value, "", &mut errors);
    if !errors.list.is_empty() {
        return Err(errors.list);
    }
    // The schema has said yes, so this does too; if they ever part, the person still learns where.
    let service: InferenceService = serde_path_to_error::deserialize(normal)
        .map_err(|error| vec![FieldError::new(error.path().to_string(), error.inner().to_string())])?;
    let errors = validate(&service);
    if errors.is_empty() { Ok(service) } else { Err(errors) }
}

/// The text that [`parse`] reads back.
pub fn to_yaml(value: &impl serde::Serialize) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(value)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_documents: DOCUMENTS_MAX + 1,
            max_nodes: NODES_MAX,
            max_events: NODES_MAX * 2,
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_merge_keys: ALIASES_MAX,
            max_recorded_anchor_events: NODES_MAX,
            max_total_scalar_bytes: MANIFEST_BYTES_MAX,
            max_recorded_anchor_bytes: MANIFEST_BYTES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: DEPTH_MAX,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn syntax(error: &serde_saphyr::Error) -> ManifestError {
    let at = error.location().map(|location| (location.line(), location.column())).filter(|(line, _)| *line > 0);
    // The place is said once, by us.
    let text = error.without_snippet().to_string();
    let message = text.split(" at line ").next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    ManifestError::Syntax { at, message }
}

/// The items of a list as Kubernetes writes it, or the value itself.
fn flattened(value: Value) -> Vec<Value> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind == "List" || kind == LIST_KIND);
    match value {
        Value::Object(mut object) if is_list => match object.remove("items") {
            Some(Value::Array(items)) => items,
            _ => vec![Value::Object(object)],
        },
        value => vec![value],
    }
}

/// Kind of a list of services.
pub const LIST_KIND: &str = "InferenceServiceList";

fn make_absolute(item: &mut Value, base: &str) {
    if let Some(Value::String(uri)) = item.pointer_mut("/spec/predictor/model/storageUri")
        && let Some(whole) = source::beside(uri, base)
    {
        *uri = whole;
    }
}

fn name_of(item: &Value) -> Option<String> {
    item.get("metadata")?.get("name")?.as_str().map(str::to_owned)
}

fn place(at: Option<(u64, u64)>) -> impl fmt::Display {
    at.map_or_else(String::new, |(line, column)| format!(" at line {line}, column {column}"))
}

fn lines(documents: &[DocumentError]) -> String {
    let mut lines = Vec::new();
    for document in documents {
        let label = match (&document.name, document.document) {
            (Some(name), _) => format!("`{name}`: "),
            (None, 1) if documents.len() == 1 => String::new(),
            (None, number) => format!("document {number}: "),
        };
        lines.extend(document.errors.iter().map(|error| format!("{label}{error}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
