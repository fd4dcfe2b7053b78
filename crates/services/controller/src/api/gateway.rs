//! The gateway's long poll, and what it tells of its load.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use resources::window::GatewayWindow;
use serde::Deserialize;

use super::{App, body};
use crate::error::ApiError;

/// Time until an answer says that there is nothing new. The gateway waits 40 s.
const POLL_TIME: Duration = Duration::from_secs(25);

/// Bytes of a window: a thousand busy services with two revisions each, and room.
pub(super) const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Parameters of a poll.
#[derive(Debug, Deserialize)]
pub(super) struct PollQuery {
    #[serde(default)]
    after: u64,
    /// What the gateway has on disk, where that is not what it serves.
    kept: Option<u64>,
}

/// The snapshot after the given generation, which is acknowledged by asking, unless the gateway could not keep it.
pub(super) async fn next(
    State(app): State<App>,
    query: Result<Query<PollQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let PollQuery { after, kept } = body::query(query)?;
    app.publisher.asked(after, kept.unwrap_or(after).min(after)).await?;
    let stop = app.stopping();
    let snapshot = tokio::select! {
        snapshot = app.publisher.after(after) => snapshot,
        () = tokio::time::sleep(POLL_TIME) => None,
        () = stop.cancelled() => None,
    };
    Ok(match snapshot {
        Some(snapshot) => Json(snapshot.as_ref()).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Takes a window. What happened in it is looked at now.
pub(super) async fn window(
    State(app): State<App>,
    given: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let bytes = given.map_err(|rejection| ApiError::new(rejection.status(), "BadRequest", rejection.body_text()))?;
    let window: GatewayWindow = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("the body is no window: {error}")))?;
    if app.windows.take(window, daemon::time::now_ms()).map_err(ApiError::invalid)? {
        app.db.wake().notify_one();
    }
    Ok(StatusCode::NO_CONTENT)
}
