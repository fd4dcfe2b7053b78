//! Streams of newline-delimited JSON: changes of services, and events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use resources::API_VERSION;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::{
    changes::{Change, ChangeKind, Changes, Expired},
    db::Db,
    error::ApiError,
};

/// Time after which a quiet stream says that it is alive, and finds out whether its client is.
const QUIET_TIME: Duration = Duration::from_secs(15);
/// Events read at a time.
const EVENTS_CHUNK: u32 = 500;

/// Changes after `version`; without it, every service as it is now and then its changes.
pub(super) async fn services(app: &App, version: Option<u64>) -> Result<Response, ApiError> {
    let changes = Arc::clone(app.db.changes());
    let (seen, lines) = match version {
        Some(version) => {
            changes.after(version).map_err(|Expired| too_old(version))?;
            (version, VecDeque::new())
        }
        None => {
            let (services, version) = app.db.services().await?;
            let added = services.into_iter().map(|row| Change { kind: ChangeKind::Added, object: row.object });
            (version, added.filter_map(|change| line(&change)).collect())
        }
    };
    let news = changes.subscribe();
    let stream = ServiceStream { changes, news, seen, lines, stop: app.stopping(), ended: false };
    Ok(respond(stream::unfold(stream, |mut stream| async move {
        let line = stream.next().await?;
        Some((Ok::<_, Infallible>(line), stream))
    })))
}

fn too_old(version: u64) -> ApiError {
    ApiError::expired(format!("version {version} is older than the changes that are kept: list, then watch from there"))
}

struct ServiceStream {
    changes: Arc<Changes>,
    news: watch::Receiver<u64>,
    seen: u64,
    lines: VecDeque<Bytes>,
    stop: CancellationToken,
    ended: bool,
}

impl ServiceStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.news.borrow_and_update();
            match self.changes.after(self.seen) {
                Err(Expired) => {
                    self.ended = true;
                    return line(&json!({"type": "ERROR", "object": too_old(self.seen).0}));
                }
                Ok(changes) if !changes.is_empty() => {
                    for (version, change) in changes {
                        self.seen = version;
                        self.lines.extend(line(change.as_ref()));
                    }
                    continue;
                }
                Ok(_) => {}
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = tokio::time::sleep(QUIET_TIME) => return line(&self.bookmark()),
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn bookmark(&self) -> serde_json::Value {
        let metadata = json!({"resourceVersion": self.seen.to_string()});
        let object = json!({"apiVersion": API_VERSION, "kind": "InferenceService", "metadata": metadata});
        json!({"type": "BOOKMARK", "object": object})
    }
}

/// Events after `after`; without it, those to come.
pub(super) fn events(app: &App, service: Option<String>, after: Option<u64>) -> Response {
    let news = app.db.events_seen();
    let seen = after.unwrap_or_else(|| *news.borrow());
    let stream = EventStream { db: app.db.clone(), news, service, seen, lines: VecDeque::new(), stop: app.stopping() };
    respond(stream::unfold(stream, |mut stream| async move {
        let line = stream.next().await?;
        Some((Ok::<_, Infallible>(line), stream))
    }))
}

struct EventStream {
    db: Db,
    news: watch::Receiver<u64>,
    service: Option<String>,
    seen: u64,
    lines: VecDeque<Bytes>,
    stop: CancellationToken,
}

impl EventStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            self.news.borrow_and_update();
            let events = self.db.events(self.service.as_deref(), Some(self.seen), EVENTS_CHUNK).await.ok()?;
            for event in &events {
                self.seen = event.sequence;
                self.lines.extend(line(event));
            }
            if !self.lines.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                // An empty line says nothing, but a client that has gone is found out.
                () = tokio::time::sleep(QUIET_TIME) => return Some(Bytes::from_static(b"\n")),
                () = self.stop.cancelled() => return None,
            }
        }
    }
}

fn line(value: &impl Serialize) -> Option<Bytes> {
    let mut line = serde_json::to_vec(value).ok()?;
    line.push(b'\n');
    Some(Bytes::from(line))
}

fn respond<S>(stream: S) -> Response
where
    S: futures_util::Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
{
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}
