//! `InferenceService`s: list, watch, create, read, replace, delete.

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use resources::{inference_service::InferenceService, manifest, rollout::WishBody};
use serde::Deserialize;
use serde_json::Value;

use super::{App, List, body, watching};
use crate::error::ApiError;

/// Errors of a manifest that are named in one answer; a person mends these first.
const ERRORS_MAX: usize = 20;

/// Parameters of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    watch: bool,
    #[serde(default)]
    resource_version: Option<u64>,
}

pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = body::query(query)?;
    if query.watch {
        return watching::services(&app, query.resource_version).await;
    }
    let (services, version) = app.db.services().await?;
    let items = services.into_iter().map(|service| service.object).collect::<Vec<_>>();
    Ok(Json(List { items, resource_version: Some(version.to_string()) }).into_response())
}

pub(super) async fn create(State(app): State<App>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let object = manifest_of(&body::json(body)?)?;
    let created = app.to_the_end({
        let app = app.clone();
        async move { app.deployer.create(object).await }
    });
    Ok((StatusCode::CREATED, Json(created.await?)).into_response())
}

pub(super) async fn read(State(app): State<App>, Path(name): Path<String>) -> Result<Json<InferenceService>, ApiError> {
    let row = app.db.service(&name).await?;
    row.map(|row| Json(row.object)).ok_or_else(|| ApiError::no_service(&name))
}

pub(super) async fn replace(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InferenceService>, ApiError> {
    let object = manifest_of(&body::json(body)?)?;
    if object.metadata.name.as_str() != name {
        let found = &object.metadata.name;
        return Err(ApiError::bad_request(format!("the path says `{name}` and metadata.name says `{found}`")));
    }
    let replaced = app.to_the_end({
        let app = app.clone();
        async move { app.deployer.replace(object).await }
    });
    Ok(Json(replaced.await?))
}

pub(super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<InferenceService>, ApiError> {
    let removed = app.to_the_end({
        let app = app.clone();
        async move { app.deployer.delete(&name).await }
    });
    Ok(Json(removed.await?))
}

/// What a person wants of the newest revision's rollout.
pub(super) async fn steer(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InferenceService>, ApiError> {
    let wanted: WishBody = body::typed(body)?;
    let steered = app.to_the_end({
        let app = app.clone();
        async move { app.deployer.steer(&name, wanted.wish).await }
    });
    Ok(Json(steered.await?))
}

fn manifest_of(value: &Value) -> Result<InferenceService, ApiError> {
    manifest::from_json_value(value).map_err(|errors| {
        let left_out = errors.len().saturating_sub(ERRORS_MAX);
        let mut lines: Vec<String> = errors.iter().take(ERRORS_MAX).map(ToString::to_string).collect();
        if left_out > 0 {
            lines.push(format!("and {left_out} more"));
        }
        ApiError::invalid(lines.join("\n"))
    })
}
