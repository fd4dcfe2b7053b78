//! KServe's `v1beta1` manifests: read as Berth's own kind, and written from it.
//!
//! What becomes of each field is data ([`sections`]): the conversion walks it, and the reference page is written from it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{FieldError, schema, walk::clipped};
use crate::condition::{Condition, ConditionKind, ConditionStatus};

mod convert;
mod export;
mod kinds;
mod pod;
mod table;
mod values;

pub(super) use convert::convert;
pub use export::{Exported, export};
pub use kinds::{FORMATS, KINDS};
pub use table::{Field, Section, Treatment, sections};
pub use values::Outcome;

pub use super::source::SCHEMES;

/// API group and version of the manifests that are read and written.
pub const API_VERSION: &str = "serving.kserve.io/v1beta1";
/// Annotation with the fields of a manifest that were accepted and are not honoured, separated by commas.
pub const NOT_HONOURED: &str = "berth.dev/not-honoured";
/// Bytes of that annotation: some fifty fields, more than a manifest has.
const NOT_HONOURED_BYTES_MAX: usize = 4096;
/// Fields of it that are looked at: what the conversion writes is shorter.
const FIELDS_MAX: usize = 128;
/// Between two fields of that annotation.
const SEPARATOR: &str = ", ";
/// API groups of KServe and of what it was called before.
const GROUPS: [&str; 2] = ["serving.kserve.io", "serving.kubeflow.org"];

/// A field that was accepted and is not honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHonoured {
    /// Where it stood in KServe's manifest.
    pub path: String,
    /// Why not, and what to do if it matters.
    pub note: Option<&'static str>,
}

/// Whether a document is of one of KServe's kinds, whatever its version.
pub(super) fn is_kserve(item: &Value) -> bool {
    let version = item.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let group = version.split('/').next().unwrap_or_default();
    GROUPS.contains(&group)
}

/// The fields that the manifest of a service asked for and that are not honoured.
pub fn not_honoured(annotations: &BTreeMap<String, String>) -> Vec<NotHonoured> {
    paths(annotations).map(|path| NotHonoured { path: path.to_owned(), note: table::note(path) }).collect()
}

/// The list of the annotation, which somebody may have written by hand.
fn paths(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let list = annotations.get(NOT_HONOURED).map(String::as_str).unwrap_or_default();
    list.split(SEPARATOR).filter(|path| !path.is_empty()).take(FIELDS_MAX)
}

/// What a service has to say about the manifest that it came from; nothing where every field is honoured.
pub fn condition(annotations: &BTreeMap<String, String>) -> Option<Condition> {
    let fields: Vec<String> = paths(annotations).map(|path| format!("`{path}`")).collect();
    if fields.is_empty() {
        return None;
    }
    let mut message = fields.join(SEPARATOR);
    // A status is read whole each time.
    if message.len() > NOT_HONOURED_BYTES_MAX * 2 {
        message = format!("{} fields", fields.len());
    }
    Some(Condition {
        kind: ConditionKind::KServeCompatible,
        status: ConditionStatus::False,
        reason: "NotHonoured".to_owned(),
        message: format!("not honoured of the manifest of KServe: {message}"),
        last_transition_time: None,
    })
}

/// The list in an annotation: what was there, then what is new, within the bound.
fn listed(before: Option<&str>, found: &[String]) -> String {
    let mut list = before.unwrap_or_default().to_owned();
    // What was shortened once says nothing about what it left out.
    if list.ends_with(MORE) {
        return list;
    }
    let mut left_out = 0_usize;
    for path in found {
        if list.split(SEPARATOR).any(|known| known == path) {
            continue;
        }
        if left_out > 0 || list.len() + path.len() + SEPARATOR.len() > NOT_HONOURED_BYTES_MAX {
            left_out += 1;
            continue;
        }
        if !list.is_empty() {
            list.push_str(SEPARATOR);
        }
        list.push_str(path);
    }
    if left_out > 0 {
        list.push_str(&format!("{SEPARATOR}and {left_out}{MORE}"));
    }
    list
}

/// End of a list that was shortened.
const MORE: &str = " more";

/// Fields of Berth's own kind that KServe has not: the annotation that carries each as JSON, and the object it stands in.
fn extensions() -> impl Iterator<Item = (String, Place, &'static str)> {
    let own = schema::SPEC.fields.iter().filter(|field| field.name != "predictor");
    let own = own.map(|field| (format!("berth.dev/{}", field.name), Place::Spec, field.name));
    let known = |name: &str| table::PREDICTOR.iter().any(|field| field.name == name);
    let inner = schema::PREDICTOR.fields.iter().filter(move |field| !known(field.name));
    own.chain(inner.map(|field| (format!("berth.dev/predictor.{}", field.name), Place::Predictor, field.name)))
}

/// The object that an extension stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Spec,
    Predictor,
}

/// The field that an annotation of Berth's own kind repeats: such a name is kept for manifests of KServe.
pub(super) fn reserved(annotation: &str) -> Option<String> {
    if !annotation.starts_with("berth.dev/") {
        return None;
    }
    let found = extensions().find(|(name, _, _)| name == annotation);
    found.map(|(_, place, field)| match place {
        Place::Spec => format!("spec.{field}"),
        Place::Predictor => format!("spec.predictor.{field}"),
    })
}

/// Names of services of a text and their namespaces: a machine has one namespace, so that two of a name would be one service.
#[derive(Debug, Default)]
pub(super) struct Places {
    seen: BTreeMap<String, String>,
}

impl Places {
    pub(super) fn check(&mut self, item: &Value) -> Result<(), Vec<FieldError>> {
        if !is_kserve(item) {
            return Ok(());
        }
        let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
        let Some(name) = text("/metadata/name") else { return Ok(()) };
        let namespace = text("/metadata/namespace").unwrap_or("default");
        let first = self.seen.entry(name.to_owned()).or_insert_with(|| namespace.to_owned());
        if first == namespace {
            return Ok(());
        }
        let (name, first) = (clipped(name), clipped(first));
        let message = format!(
            "there is a `{name}` of `{first}` in this text too, and a machine has one namespace: give one of them another name"
        );
        Err(refused("metadata.namespace", message))
    }
}

fn refused(path: &str, message: impl Into<String>) -> Vec<FieldError> {
    vec![FieldError::new(path, message)]
}

#[cfg(test)]
mod tests;
