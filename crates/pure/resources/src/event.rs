//! Events: what happened to resources, newest last, bounded in number.

use serde::{Deserialize, Serialize};

/// Events kept per data directory; older ones are dropped. Some weeks of an ordinary machine.
pub const EVENTS_MAX: u32 = 10_000;

/// Something that happened to a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Counts up in a data directory.
    pub sequence: u64,
    /// RFC 3339, UTC.
    pub time: String,
    /// Whether a person should look.
    #[serde(rename = "type")]
    pub severity: Severity,
    /// The service it is about; empty for the platform itself.
    pub service: String,
    /// One `PascalCase` word for machines.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// Whether a person should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// All is as it should be.
    Normal,
    /// A person should look.
    Warning,
}
