//! The gateway's long poll.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{App, body};
use crate::error::ApiError;

/// Time until an answer says that there is nothing new. The gateway waits 40 s.
const POLL_TIME: Duration = Duration::from_secs(25);

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
