//! Events: list and watch.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{App, body, list as list_of, watching};
use crate::error::ApiError;

/// Events of one answer when no limit is given.
const LIMIT_DEFAULT: u32 = 200;
/// Events of one answer at most.
const LIMIT_MAX: u32 = 10_000;

/// Parameters of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EventQuery {
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    after: Option<u64>,
    #[serde(default)]
    watch: bool,
}

pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let EventQuery { service, limit, after, watch } = body::query(query)?;
    if watch {
        return Ok(watching::events(&app, service, after));
    }
    let limit = limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    Ok(list_of(app.db.events(service.as_deref(), after, limit).await?).into_response())
}
