//! Answers that go on: one JSON value per line.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use resources::{event::Event, inference_service::InferenceService};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, ServiceChange, Status, exchange::Connection, exchange::parsed};

/// Bytes of one line: a service with all its replicas and conditions is some kilobytes.
pub(crate) const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines of an answer.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    connection: Connection,
    buffer: BytesMut,
}

impl Lines {
    pub(crate) fn new(body: Incoming, connection: Connection) -> Self {
        Self { body, connection, buffer: BytesMut::new() }
    }

    /// The next line that is not empty; nothing at the end. Safe to drop and to call again.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Error::Unreadable(format!("a line has more than {LINE_BYTES_MAX} bytes")));
            }
            match self.connection.drive(self.body.frame()).await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(source)) => return Err(Error::Broken { source }),
                None => return Ok(None),
            }
        }
    }
}

/// One line of a watch.
#[derive(Deserialize)]
struct Change {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// Changes of services as they happen.
#[derive(Debug)]
pub struct ServiceWatch(pub(crate) Lines);

impl ServiceWatch {
    /// The next change; nothing when the server ended the watch.
    pub async fn next(&mut self) -> Result<Option<ServiceChange>, Error> {
        loop {
            let Some(line) = self.0.next().await? else { return Ok(None) };
            if let Some(change) = service_change(&line)? {
                return Ok(Some(change));
            }
        }
    }
}

/// Reads a line; nothing for a kind of change that a later version may have.
pub(crate) fn service_change(line: &[u8]) -> Result<Option<ServiceChange>, Error> {
    let change: Change = parsed(line)?;
    let service = |object: Value| object_of::<InferenceService>(object).map(Box::new);
    Ok(Some(match change.kind.as_str() {
        "ADDED" => ServiceChange::Added(service(change.object)?),
        "MODIFIED" => ServiceChange::Modified(service(change.object)?),
        "DELETED" => ServiceChange::Deleted(service(change.object)?),
        "BOOKMARK" => {
            let version = change.object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            ServiceChange::Bookmark(version.unwrap_or_default().to_owned())
        }
        "ERROR" => return Err(Error::Refused(object_of::<Status>(change.object)?)),
        _ => return Ok(None),
    }))
}

/// Events as they happen.
#[derive(Debug)]
pub struct EventWatch(pub(crate) Lines);

impl EventWatch {
    /// The next event; nothing when the server ended the watch.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        match self.0.next().await? {
            Some(line) => parsed(&line).map(Some),
            None => Ok(None),
        }
    }
}

fn object_of<T: DeserializeOwned>(object: Value) -> Result<T, Error> {
    serde_json::from_value(object).map_err(|error| Error::Unreadable(error.to_string()))
}
