//! Asks a replica how it is, and tells who listens on a socket.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use daemon::BoxError;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use resources::condition::Condition;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::Answer;

/// Longest wait for an answer. A busy replica answers late, and silence is judged over a much longer time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of an answer; it holds a few sentences.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

#[derive(Deserialize)]
struct RuntimeStatus {
    ready: bool,
    #[serde(default)]
    models: Vec<ModelStatus>,
    #[serde(default)]
    sandbox: Sandbox,
}

#[derive(Deserialize)]
struct ModelStatus {
    #[serde(default)]
    busy_ms: Option<u64>,
    #[serde(default)]
    conditions: Vec<serde_json::Value>,
    #[serde(default)]
    findings: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct Sandbox {
    #[serde(default)]
    missing: Vec<String>,
}

/// How long a replica is asked to hold its answer until it is ready.
const READY_WAIT: Duration = Duration::from_secs(20);
/// Pauses between two questions for readiness where none can be put: the first is shorter than a process takes to listen.
const READY_PAUSE_MIN: Duration = Duration::from_millis(2);
const READY_PAUSE_MAX: Duration = Duration::from_millis(200);

/// What the replica behind `socket` says of itself.
pub(crate) async fn ask(socket: &Path) -> Result<Answer, BoxError> {
    tokio::time::timeout(ANSWER_TIME_MAX, exchange(socket, "/status")).await?
}

/// Waits until the replica behind `socket` is ready, for as long as it takes: whoever waits also watches the process.
pub(crate) async fn ready(socket: &Path) {
    let path = format!("/status?wait_ms={}", READY_WAIT.as_millis());
    let mut pause = READY_PAUSE_MIN;
    loop {
        let answer = tokio::time::timeout(READY_WAIT + ANSWER_TIME_MAX, exchange(socket, &path)).await;
        if let Ok(Ok(Answer { ready: true, .. })) = answer {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(READY_PAUSE_MAX);
    }
}

async fn exchange(socket: &Path, path: &str) -> Result<Answer, BoxError> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = Request::get(path).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("answered {}", answer.status()).into());
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok::<_, BoxError>(read(serde_json::from_slice(&body)?))
    };
    // The connection is driven beside the exchange; when it ends first, the exchange says how.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = exchange.as_mut() => return answer,
        ended = connection => ended?,
    }
    exchange.await
}

/// A later runtime may say more than this controller knows; that is left out.
fn read(status: RuntimeStatus) -> Answer {
    let busy_ms = status.models.iter().filter_map(|model| model.busy_ms).max();
    let findings = status.models.iter().find_map(|model| model.findings.as_ref()).map(ToString::to_string);
    let said = status.models.into_iter().flat_map(|model| model.conditions);
    let conditions = said.filter_map(|value| serde_json::from_value::<Condition>(value).ok()).collect();
    Answer { ready: status.ready, conditions, missing: status.sandbox.missing, busy_ms, findings }
}

/// The process that listens on `socket`, as the kernel says (`SO_PEERCRED`).
pub(crate) async fn listener(socket: &Path) -> Option<i32> {
    let connected = tokio::time::timeout(ANSWER_TIME_MAX, UnixStream::connect(socket)).await;
    connected.ok()?.ok()?.peer_cred().ok()?.pid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = r#"{"ready":true,"models":[{"name":"a","busy_ms":17,"conditions":[
            {"type":"Optimised","status":"True","reason":"R","message":"m"},
            {"type":"FromTheFuture","status":"True","reason":"R","message":"m"}]}],
            "sandbox":{"enforced":false,"rules":["x"],"missing":["landlock"]}}"#;
        let answer = read(serde_json::from_str(text).unwrap());
        assert!(answer.ready);
        assert_eq!(answer.conditions.len(), 1);
        assert_eq!((answer.missing, answer.busy_ms), (vec!["landlock".to_owned()], Some(17)));
        assert_eq!(answer.findings, None);
        assert!(!read(serde_json::from_str(r#"{"ready":false}"#).unwrap()).ready);
    }
}
