//! What a gateway counted in one second, handed to the controller: scaling and rollouts decide by it.

use serde::{Deserialize, Serialize};

use crate::{
    histogram::Histogram,
    id::{Revision, ServiceName},
};

/// Length of a window, milliseconds.
pub const WINDOW_MS: u64 = 1000;

/// One second of one gateway. Services that nothing happened to are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayWindow {
    /// When it ended, milliseconds since the Unix epoch.
    pub end_ms: u64,
    /// How long it really was, milliseconds.
    pub span_ms: u64,
    /// Services by name.
    pub services: Vec<ServiceWindow>,
}

/// One second of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceWindow {
    /// The service.
    pub name: ServiceName,
    /// Requests that were let in.
    pub arrivals: u32,
    /// Requests that wait for a replica as the window ends.
    pub held: u32,
    /// Milliseconds that requests waited for a replica, added up.
    pub held_ms: u64,
    /// Requests refused because none became ready in time, or for want of room.
    pub refused: u32,
    /// Revisions by number.
    pub revisions: Vec<RevisionWindow>,
}

/// One second of one revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionWindow {
    /// The revision.
    pub revision: Revision,
    /// Requests answered, errors among them.
    pub answered: u32,
    /// Those of them that failed by the revision's fault: HTTP 500 and above, the same in gRPC, answers that broke off.
    pub errors: u32,
    /// Milliseconds that requests were at its replicas, added up.
    pub busy_ms: u64,
    /// Time of answered requests from their coming to their answer.
    pub latency: Histogram,
    /// The part of it at a replica.
    pub service: Histogram,
}
