//! What the controller and dashboards ask this process: `/livez`, `/status`, `/metrics`.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use resources::condition::Condition;
use serde::{Deserialize, Serialize};

use crate::{
    backend::ort::Optimisation,
    load::findings::Findings,
    metrics,
    registry::{Model, Registry},
};

/// Answer of `/status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Whether every model answers and the process does not drain.
    pub ready: bool,
    /// Every model.
    pub models: Vec<ModelStatus>,
    /// What the process is not allowed to do any more.
    pub sandbox: SandboxStatus,
}

/// One model in [`Status`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelStatus {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Where it is.
    pub state: ModelState,
    /// Why, one word for machines.
    pub reason: &'static str,
    /// Why, in words.
    pub message: String,
    /// How far the graph was rewritten; absent until the model is ready, and for trees, which have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimisation: Option<Optimisation>,
    /// Milliseconds that the oldest run under way has taken; absent while none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_ms: Option<u64>,
    /// Statements about the model.
    pub conditions: Vec<Condition>,
    /// What the trials of the model came to, for its next replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
}

/// Where a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// Being loaded.
    Loading,
    /// It answers.
    Ready,
    /// It will not become ready; the process ends.
    Failed,
}

/// The sandbox in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SandboxStatus {
    /// Whether every rule is in force.
    pub enforced: bool,
    /// Rules that are in force.
    pub rules: Vec<String>,
    /// Rules that the kernel does not have, or that were switched off.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug)]
struct Shared {
    registry: Registry,
    sandbox: SandboxStatus,
}

/// The routes of this file.
pub fn router(registry: Registry, sandbox: SandboxStatus) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/status", get(answer_status))
        .route("/metrics", get(answer_metrics))
        .with_state(Shared { registry, sandbox })
}

/// The status as it is now.
pub fn status(registry: &Registry, sandbox: &SandboxStatus) -> Status {
    let models = registry.models().iter().map(|model| model_status(model)).collect();
    Status { ready: registry.ready(), models, sandbox: sandbox.clone() }
}

fn model_status(model: &Model) -> ModelStatus {
    let report = model.report();
    let (state, reason, message) = match (report, model.failure()) {
        (Some(_), _) => (ModelState::Ready, "Loaded", "the model answers".to_owned()),
        (None, Some(failure)) => (ModelState::Failed, "LoadFailed", failure.to_owned()),
        (None, None) => (ModelState::Loading, "Loading", "the model is being loaded and tried".to_owned()),
    };
    ModelStatus {
        name: model.name().to_owned(),
        version: model.version().to_owned(),
        state,
        reason,
        message,
        optimisation: report.and_then(|report| report.optimisation),
        busy_ms: model.busy().map(|busy| u64::try_from(busy.as_millis()).unwrap_or(u64::MAX)),
        conditions: report.map(|report| report.conditions.clone()).unwrap_or_default(),
        findings: report.and_then(|report| report.findings.clone()),
    }
}

/// Longest wait of one question for the load to end; who wants to wait longer asks again.
const WAIT_MS_MAX: u64 = 30_000;

/// How `/status` is asked.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Question {
    /// Milliseconds to wait for the load to end before the answer is given.
    #[serde(default)]
    wait_ms: u64,
}

async fn answer_status(State(shared): State<Shared>, Query(question): Query<Question>) -> Json<Status> {
    if question.wait_ms > 0 {
        let time = Duration::from_millis(question.wait_ms.min(WAIT_MS_MAX));
        // An answer is given either way.
        drop(tokio::time::timeout(time, shared.registry.settled()).await);
    }
    Json(status(&shared.registry, &shared.sandbox))
}

async fn answer_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    match metrics::text(&shared.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
