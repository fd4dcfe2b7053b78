//! Metadata that every resource carries, in the shape of Kubernetes' `ObjectMeta`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;

/// Name, labels and bookkeeping of a resource. The server fills `uid`, `resourceVersion`, `generation` and the timestamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectMeta {
    /// Unique name of the resource within its kind.
    pub name: ServiceName,
    /// One machine has one namespace, `default`; any other value is refused there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Set by the server: identity across delete and create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Set by the server: opaque version for optimistic concurrency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Set by the server: counts changes of `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Set by the server: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
}

impl ObjectMeta {
    /// Metadata with a name and nothing else.
    pub fn named(name: ServiceName) -> Self {
        Self {
            name,
            namespace: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            uid: None,
            resource_version: None,
            generation: None,
            creation_timestamp: None,
        }
    }
}
