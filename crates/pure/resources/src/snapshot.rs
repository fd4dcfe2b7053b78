//! The gateway's whole configuration, handed over with a generation number.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    access::KeyRecord,
    id::{ReplicaId, Revision, ServiceName},
    inference_service::Sticky,
    status::RevisionTraffic,
};

/// Everything a gateway needs to serve. It replaces the one before; an older generation is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySnapshot {
    /// Counts up in a data directory.
    pub generation: u64,
    /// Services by name.
    pub services: Vec<RouteService>,
    /// Keys that are not revoked.
    pub keys: Vec<KeyRecord>,
}

/// One service as the gateway sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteService {
    /// Name in paths and in `model_name`.
    pub name: ServiceName,
    /// Longest time for one request, milliseconds.
    pub timeout_ms: u64,
    /// Requests that one replica works on at a time.
    pub container_concurrency: Option<u32>,
    /// Revision for requests that name none and are not shared out: the one that gets most of them.
    pub default_revision: Option<Revision>,
    /// How requests for predictions are shared out, the newest revision first, 100 percent in all. Empty when one gets all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<RevisionTraffic>,
    /// What keeps a client with one revision of the split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Which revision is tried with copies of the requests that the others answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<RouteShadow>,
    /// Whether a request that finds no replica starts one, so that the service is ready although none is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wakes: bool,
    /// Revisions that can be named.
    pub revisions: Vec<RouteRevision>,
}

/// A revision that is tried with copies of requests and answers no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteShadow {
    /// The revision.
    pub revision: Revision,
    /// Percent of the requests for predictions that are mirrored to it, 1 to 100.
    pub percent: u32,
}

/// One revision and where its replicas listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRevision {
    /// Number of the revision; the `version` of a path.
    pub revision: Revision,
    /// Replicas that are ready.
    pub endpoints: Vec<Endpoint>,
}

/// Where one replica listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The replica.
    pub replica: ReplicaId,
    /// Its Unix socket.
    pub socket: PathBuf,
}
