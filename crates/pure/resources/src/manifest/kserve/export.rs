//! From a service to KServe's manifest.

use serde_json::{Map, Value, json};

use super::{API_VERSION, Place, extensions, not_honoured};
use crate::{
    inference_service::InferenceService,
    manifest::source::{StorageSource, storage_source},
};

/// A manifest of KServe, and what has to be known before a cluster takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The document.
    pub manifest: Value,
    /// Sentences for people.
    pub notes: Vec<String>,
}

/// Writes the manifest of a service. Read again, it gives the same `spec`, labels and annotations.
#[must_use]
pub fn export(service: &InferenceService) -> Exported {
    let mut notes = Vec::new();
    // What is in memory can be written: every key is text.
    let mut spec = serde_json::to_value(&service.spec).unwrap_or_default();
    let mut annotations: Map<String, Value> =
        service.metadata.annotations.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    for (annotation, place, field) in extensions() {
        let object = match place {
            Place::Spec => Some(&mut spec),
            Place::Predictor => spec.get_mut("predictor"),
        };
        if let Some(value) = object.and_then(Value::as_object_mut).and_then(|object| object.remove(field)) {
            notes
                .push(format!("KServe has no `{field}`: it is kept in the annotation `{annotation}`, for Berth alone"));
            annotations.insert(annotation, Value::from(value.to_string()));
        }
    }
    let meta = &service.metadata;
    let mut metadata = Map::from_iter([("name".to_owned(), Value::from(meta.name.as_str()))]);
    if let Some(namespace) = &meta.namespace {
        metadata.insert("namespace".to_owned(), Value::from(namespace.as_str()));
    }
    if !meta.labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(meta.labels));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    notes.extend(of_model(service));
    notes.extend(of_metadata(service));
    let manifest = json!({"apiVersion": API_VERSION, "kind": "InferenceService", "metadata": metadata, "spec": spec});
    Exported { manifest, notes }
}

fn of_model(service: &InferenceService) -> Vec<String> {
    let model = &service.spec.predictor.model;
    let mut notes = Vec::new();
    match storage_source(&model.storage_uri) {
        Ok(StorageSource::Bundle(digest)) => notes.push(format!(
            "`storageUri` names the bundle {digest} of this machine's store: upload its files to a place that the cluster reads, \
             and write that place"
        )),
        _ => notes.push(format!(
            "`storageUri` names `{}` on this machine: upload it to a place that the cluster reads, and write that place",
            model.storage_uri
        )),
    }
    let format = model.model_format.name.as_str();
    if format != "onnx" && model.protocol_version.is_none() {
        notes.push(format!(
            "for `{format}` KServe speaks V1 alone unless `protocolVersion: v2` is written under `model`"
        ));
    }
    notes
}

fn of_metadata(service: &InferenceService) -> Vec<String> {
    let meta = &service.metadata;
    let mut notes = Vec::new();
    if meta.name.as_str().starts_with(|first: char| first.is_ascii_digit()) {
        notes.push(format!("KServe's names begin with a letter: give `{}` another one", meta.name));
    }
    let lost: Vec<String> =
        not_honoured(&meta.annotations).into_iter().map(|field| format!("`{}`", field.path)).collect();
    if !lost.is_empty() {
        notes.push(format!("not in this manifest, as Berth did not keep their values: {}", lost.join(", ")));
    }
    notes
}
