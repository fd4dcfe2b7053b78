//! The resource API: JSON over HTTP/1.1 on a Unix socket that only the owner of the data directory can open.

use std::{future::Future, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use daemon::Supervisor;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    db::Db,
    deploy::Deployer,
    error::{ApiError, Error},
    gateway_process::GatewayState,
    metrics::Metrics,
    orchestrator::warm::Pool,
    snapshot::Publisher,
};

mod body;
mod events;
mod gateway;
mod keys;
mod logs;
mod services;
mod status;
#[cfg(test)]
mod tests;
mod watching;

/// Where the API's paths begin.
pub(crate) const BASE: &str = "/apis/berth.dev/v1alpha1";
/// Bytes of a request's body: a manifest with annotations, and room.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Inner>);

/// The parts of an [`App`].
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) db: Db,
    pub(crate) deployer: Deployer,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) gateway: watch::Receiver<GatewayState>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) supervisor: Supervisor,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    fn stopping(&self) -> CancellationToken {
        self.supervisor.stopping()
    }

    /// Runs `work` to its end even if the client goes: what has begun to change is not left in the middle, and who watches is told.
    async fn to_the_end<T, F>(&self, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.supervisor.spawn_connection(async move {
            // The client may have gone.
            drop(tell.send(work.await));
        });
        told.await.unwrap_or_else(|_| Err(ApiError::unavailable("the controller is stopping")))
    }
}

/// Every route.
pub(crate) fn router(app: App) -> Router {
    let api = Router::new()
        .route("/inferenceservices", get(services::list).post(services::create))
        .route("/inferenceservices/{name}", get(services::read).put(services::replace).delete(services::remove))
        .route("/inferenceservices/{name}/logs", get(logs::read))
        .route("/events", get(events::list))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{key}", delete(keys::revoke))
        .route("/status", get(status::read))
        .route("/shutdown", post(status::shut_down))
        .route("/internal/gateway-snapshot", get(gateway::next));
    Router::new()
        .nest(BASE, api)
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok" }))
        .route(&format!("{BASE}/metrics"), get(metrics))
        .route(&format!("{BASE}/livez"), get(|| async { "ok" }))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

async fn no_route() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NotFound", format!("there is nothing here: paths begin with `{BASE}`"))
}

async fn no_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "the path does not know this method")
}

async fn metrics(State(app): State<App>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match app.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A list as the API gives it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

fn list<T>(items: Vec<T>) -> Json<List<T>> {
    Json(List { items, resource_version: None })
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Error::from(error).into()
    }
}
