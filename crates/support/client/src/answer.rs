//! What the API answers, where it is not a resource itself.

use std::path::PathBuf;

use resources::{access::KeyView, event::Event, inference_service::InferenceService};
use serde::{Deserialize, Serialize};

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Version of the controller.
    pub version: String,
    /// Process id of the controller.
    pub pid: i32,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Address of the gateway.
    pub listen: String,
    /// Base URL of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The gateway, when there is one.
    pub gateway: Option<GatewayStatus>,
    /// Newest generation of the gateway's configuration.
    pub generation: u64,
    /// Services that exist.
    pub services: usize,
    /// Replicas that run.
    pub replicas: usize,
    /// Processes that have loaded ONNX Runtime and wait for a model.
    #[serde(default)]
    pub warm_pool: WarmPool,
    /// Room of the file system that the data directory is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// Room of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes that there are.
    pub total_bytes: u64,
    /// Whether models are refused for want of room.
    pub full: bool,
}

/// Processes that have loaded ONNX Runtime and wait for a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmPool {
    /// How many there should be.
    pub size: usize,
    /// How many there are.
    pub waiting: usize,
    /// What they take, pages shared with others counted in parts.
    pub memory_bytes: u64,
}

impl ServerStatus {
    /// Base URL of the gateway.
    pub fn base_url(&self) -> String {
        self.url.clone().unwrap_or_else(|| format!("http://{}", self.listen))
    }

    /// Whether the gateway answers.
    pub fn is_ready(&self) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| gateway.ready)
    }
}

/// The gateway as the controller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Its process id.
    pub pid: Option<i32>,
    /// Whether it answers.
    pub ready: bool,
    /// The generation that it serves.
    #[serde(default)]
    pub generation: u64,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Every service, and the version that a watch continues from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceList {
    /// In the order of their names.
    pub items: Vec<InferenceService>,
    /// For [`crate::Client::watch_services`].
    pub resource_version: String,
}

/// Every key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// Without secrets.
    pub items: Vec<KeyView>,
}

/// Events, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// The events.
    pub items: Vec<Event>,
}

/// A key is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// Id of the key.
    pub revoked: String,
    /// Whether the gateway refuses it already.
    pub applied_by_gateway: bool,
}

/// A change of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceChange {
    /// It is new, or was there when the watch began.
    Added(Box<InferenceService>),
    /// It is different.
    Modified(Box<InferenceService>),
    /// It is gone.
    Deleted(Box<InferenceService>),
    /// Nothing changed up to this version.
    Bookmark(String),
}
