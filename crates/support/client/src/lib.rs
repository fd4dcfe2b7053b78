//! Typed client of the resource API: one call, one connection over the Unix socket in the data directory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;
use resources::{
    access::{KeyCreate, KeyCreated},
    event::Event,
    inference_service::InferenceService,
    rollout::{Wish, WishBody},
};

mod answer;
mod error;
mod exchange;
mod stream;

pub use answer::{
    Disk, EventList, GatewayStatus, KeyList, Revoked, ServerStatus, ServiceChange, ServiceList, WarmPool,
};
pub use error::{Error, Status};
pub use stream::{EventWatch, ServiceWatch};

/// Where every call starts.
pub const BASE: &str = "/apis/berth.dev/v1alpha1";
/// The socket, in the data directory.
pub const SOCKET: &str = "run/control.sock";
/// The gateway's own socket, in the data directory.
const GATEWAY_SOCKET: &str = "run/gateway.sock";

/// An ordinary call asks a database on this machine; a key waits up to 5 s for the gateway.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A create or an update copies and hashes a model of up to some gigabytes first.
const IMPORT_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// A client of the controller of one data directory. Cheap to make; it holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    data_dir: PathBuf,
}

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Of this service only.
    pub service: Option<String>,
    /// The newest so many.
    pub limit: Option<u32>,
    /// Those after this sequence number.
    pub after: Option<u64>,
}

impl Client {
    /// A client for the controller of `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into() }
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What runs.
    pub async fn status(&self) -> Result<ServerStatus, Error> {
        self.get("/status").await
    }

    /// Asks for a shutdown; it has only begun when this comes back.
    pub async fn shutdown(&self) -> Result<(), Error> {
        exchange::call(self, Method::POST, "/shutdown", None::<&()>, ANSWER_TIME_MAX).await.map(drop)
    }

    /// Every service.
    pub async fn services(&self) -> Result<ServiceList, Error> {
        self.get("/inferenceservices").await
    }

    /// One service.
    pub async fn service(&self, name: &str) -> Result<InferenceService, Error> {
        self.get(&service_path(name)).await
    }

    /// Makes a service; its model is in the store when this comes back.
    pub async fn create(&self, service: &InferenceService) -> Result<InferenceService, Error> {
        exchange::json(self, Method::POST, "/inferenceservices", Some(service), IMPORT_TIME_MAX).await
    }

    /// Replaces what is asked for. With `metadata.resourceVersion` only if nobody else did meanwhile.
    pub async fn update(&self, service: &InferenceService) -> Result<InferenceService, Error> {
        let path = service_path(service.metadata.name.as_str());
        exchange::json(self, Method::PUT, &path, Some(service), IMPORT_TIME_MAX).await
    }

    /// Says what is wanted of the newest revision's rollout; nothing to let it go on by itself.
    pub async fn steer(&self, name: &str, wish: Option<Wish>) -> Result<InferenceService, Error> {
        let path = format!("{}/rollout", service_path(name));
        exchange::json(self, Method::PUT, &path, Some(&WishBody { wish }), ANSWER_TIME_MAX).await
    }

    /// Begins to delete a service; it is gone once its replicas have drained.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        exchange::call(self, Method::DELETE, &service_path(name), None::<&()>, ANSWER_TIME_MAX).await.map(drop)
    }

    /// Changes of services from `resource_version` on.
    pub async fn watch_services(&self, resource_version: &str) -> Result<ServiceWatch, Error> {
        let path = format!("/inferenceservices?watch=true&resourceVersion={}", encoded(resource_version));
        exchange::stream(self, &path, ANSWER_TIME_MAX).await.map(ServiceWatch)
    }

    /// The last `tail` lines of the log of each replica, or of one.
    pub async fn logs(&self, name: &str, tail: u32, replica: Option<&str>) -> Result<String, Error> {
        let replica = replica.map(|id| format!("&replica={}", encoded(id))).unwrap_or_default();
        let path = format!("{}/logs?tail={tail}{replica}", service_path(name));
        let (_, body) = exchange::call(self, Method::GET, &path, None::<&()>, ANSWER_TIME_MAX).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Events, oldest first.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, Error> {
        self.get::<EventList>(&events_path(query, false)).await.map(|list| list.items)
    }

    /// Events as they happen, after those that `query` names.
    pub async fn watch_events(&self, query: &EventQuery) -> Result<EventWatch, Error> {
        exchange::stream(self, &events_path(query, true), ANSWER_TIME_MAX).await.map(EventWatch)
    }

    /// Every key, without secrets.
    pub async fn keys(&self) -> Result<KeyList, Error> {
        self.get("/keys").await
    }

    /// Makes a key; the only time that it is shown.
    pub async fn create_key(&self, key: &KeyCreate) -> Result<KeyCreated, Error> {
        exchange::json(self, Method::POST, "/keys", Some(key), ANSWER_TIME_MAX).await
    }

    /// Revokes a key by name or id.
    pub async fn revoke_key(&self, name_or_id: &str) -> Result<Revoked, Error> {
        let path = format!("/keys/{}", encoded(name_or_id));
        exchange::json(self, Method::DELETE, &path, None::<&()>, ANSWER_TIME_MAX).await
    }

    /// The gateway's own metrics, as OpenMetrics text.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] when there is no gateway, and what else keeps it from answering.
    pub async fn gateway_metrics(&self) -> Result<String, Error> {
        exchange::text(self, GATEWAY_SOCKET, "/metrics", ANSWER_TIME_MAX).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        exchange::json(self, Method::GET, path, None::<&()>, ANSWER_TIME_MAX).await
    }
}

fn service_path(name: &str) -> String {
    format!("/inferenceservices/{}", encoded(name))
}

fn events_path(query: &EventQuery, watch: bool) -> String {
    let mut parts = Vec::new();
    parts.extend(query.service.as_ref().map(|service| format!("service={}", encoded(service))));
    parts.extend(query.limit.map(|limit| format!("limit={limit}")));
    parts.extend(query.after.map(|after| format!("after={after}")));
    parts.extend(watch.then(|| "watch=true".to_owned()));
    let question = if parts.is_empty() { "" } else { "?" };
    format!("/events{question}{}", parts.join("&"))
}

/// Text for a path or a query: all but the unreserved characters of RFC 3986 as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
