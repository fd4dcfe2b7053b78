//! Keys: list, create, revoke. The answer waits for the gateway, so that what was acknowledged holds at the door.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use resources::{
    access::{KeyCreate, KeyCreated, KeyRecord, KeyView},
    event::Severity,
};
use serde_json::{Value, json};

use super::{App, List, body, list as list_of};
use crate::error::{ApiError, Error};

/// Longest wait for the gateway.
const APPLY_TIME_MAX: Duration = Duration::from_secs(5);
/// Keys in a data directory: every gateway holds them all.
const KEYS_MAX: usize = 10_000;
/// Permissions of a key. One that needs more wants `infer:*`.
const ALLOW_MAX: usize = 100;

pub(super) async fn list(State(app): State<App>) -> Result<Json<List<KeyView>>, ApiError> {
    Ok(list_of(app.db.keys().await?.iter().map(KeyView::from).collect()))
}

pub(super) async fn create(State(app): State<App>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let asked: KeyCreate = body::typed(body)?;
    if asked.allow.is_empty() || asked.allow.len() > ALLOW_MAX {
        return Err(ApiError::invalid(format!("`allow` must have 1 to {ALLOW_MAX} permissions")));
    }
    let created = app.to_the_end({
        let app = app.clone();
        async move { make(&app, asked).await }
    });
    Ok((StatusCode::CREATED, Json(created.await?)).into_response())
}

async fn make(app: &App, asked: KeyCreate) -> Result<KeyCreated, ApiError> {
    let new = access::generate().map_err(|error| ApiError::unavailable(error.to_string()))?;
    let record = KeyRecord {
        id: new.id,
        name: asked.name.to_string(),
        digest: new.digest,
        allow: asked.allow,
        created_at: daemon::time::rfc3339(daemon::time::now_ms()),
    };
    let mut write = app.db.write().await?;
    let keys = write.keys().await?;
    if keys.iter().any(|key| key.name == record.name) {
        return Err(ApiError::exists(format!(
            "there is a key `{}` already: revoke it, or choose another name",
            record.name
        )));
    }
    if keys.len() >= KEYS_MAX {
        return Err(ApiError::invalid(format!("there are {KEYS_MAX} keys already: revoke some first")));
    }
    write.insert_key(&record).await?;
    let allow = record.allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let message = format!("`{}` ({}) permits {allow}", record.name, record.id);
    write.event(Severity::Normal, "", "KeyCreated", &message).await?;
    write.commit().await?;
    applied(app).await?;
    Ok(KeyCreated { view: KeyView::from(&record), key: new.key.expose().to_owned() })
}

pub(super) async fn revoke(State(app): State<App>, Path(key): Path<String>) -> Result<Json<Value>, ApiError> {
    let revoked = app.to_the_end({
        let app = app.clone();
        async move { unmake(&app, &key).await }
    });
    Ok(Json(revoked.await?))
}

async fn unmake(app: &App, asked: &str) -> Result<Value, ApiError> {
    let mut write = app.db.write().await?;
    let keys = write.keys().await?;
    // An id is never taken for somebody's name: a person who revokes by id means that key.
    let found = keys.iter().find(|key| key.id == asked).or_else(|| keys.iter().find(|key| key.name == asked));
    let Some(key) = found else {
        let message = format!("there is no key `{asked}`: `berth key list` shows names and ids");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", message));
    };
    write.delete_key(&key.id).await?;
    write.event(Severity::Normal, "", "KeyRevoked", &format!("`{}` ({})", key.name, key.id)).await?;
    write.commit().await?;
    let applied = applied(app).await?;
    Ok(json!({"revoked": key.id, "appliedByGateway": applied}))
}

/// Publishes the keys and waits until the gateway serves them, or for a time. Whether it does.
async fn applied(app: &App) -> Result<bool, Error> {
    let generation = app.publisher.publish(None).await?;
    let stop = app.stopping();
    let served = tokio::time::timeout(APPLY_TIME_MAX, app.publisher.served(generation));
    tokio::select! {
        served = served => Ok(served.is_ok()),
        () = stop.cancelled() => Ok(false),
    }
}
