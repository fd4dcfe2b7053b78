//! What the configuration says of services: their names, and their revisions with their states. Pure.

use prost::Message;
use resources::access::{Action, KeyRecord};
use serde::{Deserialize, Serialize};

use crate::table::{Service, Table};

/// Bytes of the body of a request for the index, which says at most one word.
pub(crate) const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Why `load` and `unload` do nothing.
pub(crate) const NO_CHANGE: &str = "models are not loaded and unloaded by requests: declare them with `berth deploy` and take them away with `berth delete`";

/// What a request for the index asks; with its numbers in gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Message, Deserialize)]
pub(crate) struct Wanted {
    /// Only what is ready.
    #[prost(bool, tag = "2")]
    #[serde(default)]
    pub ready: bool,
}

/// One revision, or a service that has none; with its numbers in gRPC.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(crate) struct Entry {
    /// The service.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The revision.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `READY` or `UNAVAILABLE`.
    #[prost(string, tag = "3")]
    pub state: String,
    /// Why it is not ready; empty when it is.
    #[prost(string, tag = "4")]
    pub reason: String,
}

/// The answer in gRPC.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Index {
    /// By name and revision.
    #[prost(message, repeated, tag = "1")]
    pub models: Vec<Entry>,
}

impl Wanted {
    /// Reads the body of a request; none at all asks for everything.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        serde_json::from_slice(body)
            .map_err(|error| format!("expected an object such as `{{\"ready\":true}}`: {error}"))
    }
}

/// The names of what `key` may read: `{"models":["spam"]}`.
pub(crate) fn names(table: &Table, key: &KeyRecord) -> String {
    serde_json::json!({ "models": readable(table, key) }).to_string()
}

/// The same as KServe lists them and as OpenAI does, in one answer: both have this path.
pub(crate) fn names_v1(table: &Table, key: &KeyRecord) -> String {
    let names = readable(table, key);
    // Nothing here knows when a model was made; clients want a number all the same.
    let model = |id: &&str| serde_json::json!({ "id": id, "object": "model", "created": 0, "owned_by": "berth" });
    let data: Vec<_> = names.iter().map(model).collect();
    serde_json::json!({ "models": names, "object": "list", "data": data }).to_string()
}

fn readable<'t>(table: &'t Table, key: &KeyRecord) -> Vec<&'t str> {
    seen(table, key).into_iter().map(|service| service.name.as_str()).collect()
}

/// The revisions of what `key` may read, with their states.
pub(crate) fn entries(table: &Table, key: &KeyRecord, wanted: Wanted) -> Vec<Entry> {
    let all = seen(table, key).into_iter().flat_map(of_service);
    all.filter(|entry| !wanted.ready || entry.reason.is_empty()).collect()
}

fn of_service(service: &Service) -> Vec<Entry> {
    let entry = |version: String, reason: &str| Entry {
        name: service.name.clone(),
        version,
        state: if reason.is_empty() { "READY" } else { "UNAVAILABLE" }.to_owned(),
        reason: reason.to_owned(),
    };
    let revisions = service.targets().iter().map(|target| {
        let reason = if target.upstreams.is_empty() { "no replica is ready" } else { "" };
        entry(target.revision.to_string(), reason)
    });
    let entries: Vec<Entry> = revisions.collect();
    if entries.is_empty() { vec![entry(String::new(), "no revision is ready")] } else { entries }
}

/// The services that `key` may read, by name.
pub(crate) fn seen<'t>(table: &'t Table, key: &KeyRecord) -> Vec<&'t Service> {
    let may = |service: &&Service| access::Authorizer::authorise(key, Action::Metadata, Some(&service.name)).is_ok();
    let mut services: Vec<_> = table.services().map(AsRef::as_ref).filter(may).collect();
    services.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    services
}
