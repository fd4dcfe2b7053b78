//! Logs of a service's replicas.

use std::collections::BTreeSet;

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{App, body};
use crate::{
    error::{ApiError, Error},
    orchestrator::logs,
};

/// Lines of each log when none are asked for.
const TAIL_DEFAULT: usize = 100;
/// Lines of each log at most.
const TAIL_MAX: usize = 10_000;

/// Parameters of a request for logs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    #[serde(default)]
    tail: Option<usize>,
    #[serde(default)]
    replica: Option<String>,
}

pub(super) async fn read(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let LogQuery { tail, replica } = body::query(query)?;
    if app.db.service(&name).await?.is_none() {
        return Err(ApiError::no_service(&name));
    }
    let live: BTreeSet<String> = app.db.replicas().await?.into_iter().map(|row| row.id.0).collect();
    let lines = tail.unwrap_or(TAIL_DEFAULT).min(TAIL_MAX);
    let directory = app.config.data_dir.join("logs");
    let wanted = move || collect(&directory, &name, replica.as_deref(), &live, lines);
    let text = tokio::task::spawn_blocking(wanted).await;
    let text = text.map_err(|_| ApiError::unavailable("the controller is stopping"))??;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// The logs of one replica, or of all that live and of the last one that does not.
fn collect(
    directory: &std::path::Path,
    service: &str,
    replica: Option<&str>,
    live: &BTreeSet<String>,
    lines: usize,
) -> Result<String, ApiError> {
    let failed = |source| Error::Io { action: "read the logs in", path: directory.to_owned(), source };
    let all = logs::of_service(directory, service).map_err(failed)?;
    let last_dead = all.iter().find(|(id, _)| !live.contains(id)).map(|(id, _)| id.clone());
    let mut chosen: Vec<_> = all
        .into_iter()
        .filter(|(id, _)| match replica {
            Some(replica) => id == replica,
            None => live.contains(id) || Some(id) == last_dead.as_ref(),
        })
        .collect();
    if let Some(replica) = replica.filter(|_| chosen.is_empty()) {
        return Err(ApiError::new(
            http::StatusCode::NOT_FOUND,
            "NotFound",
            format!("`{service}` has no replica `{replica}`"),
        ));
    }
    chosen.reverse();
    let several = chosen.len() > 1;
    let mut text = String::new();
    for (id, path) in chosen {
        for line in logs::tail(&path, lines).map_err(failed)?.lines() {
            if several {
                text.push_str(&id);
                text.push_str("  ");
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}
