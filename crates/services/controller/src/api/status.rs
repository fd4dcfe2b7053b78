//! The platform as a whole: how it is, and its end.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::App;
use crate::{disk::Disk, error::ApiError};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlatformStatus {
    version: &'static str,
    pid: u32,
    data_dir: String,
    listen: String,
    url: String,
    gateway: GatewayStatus,
    generation: u64,
    services: usize,
    replicas: usize,
    warm_pool: WarmPool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
}

/// Processes that have loaded ONNX Runtime and wait for a model.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WarmPool {
    size: usize,
    waiting: usize,
    memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct GatewayStatus {
    pid: Option<i32>,
    ready: bool,
    generation: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

pub(super) async fn read(State(app): State<App>) -> Result<Json<PlatformStatus>, ApiError> {
    let gateway = app.gateway.borrow().clone();
    let pool = app.pool.show();
    let acknowledged = app.publisher.acknowledged();
    let (services, _) = app.db.services().await?;
    let replicas = app.db.replicas().await?;
    Ok(Json(PlatformStatus {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        data_dir: app.config.data_dir.display().to_string(),
        listen: gateway.listen.to_string(),
        url: app.config.url(gateway.listen),
        gateway: GatewayStatus {
            pid: gateway.pid,
            // It listens before it asks, and it has taken in what it acknowledges.
            ready: gateway.pid.is_some() && acknowledged > 0,
            generation: acknowledged,
            message: gateway.message,
        },
        generation: app.publisher.generation(),
        services: services.len(),
        replicas: replicas.len(),
        warm_pool: WarmPool { size: pool.wanted, waiting: pool.waiting, memory_bytes: pool.memory_bytes },
        disk: Disk::of(&app.config.data_dir),
    }))
}

/// Begins to stop everything: the gateway, then the replicas, then this process.
pub(super) async fn shut_down(State(app): State<App>) -> Response {
    tracing::info!("asked to stop");
    app.supervisor.stop();
    StatusCode::ACCEPTED.into_response()
}
