//! What of a trace reaches a replica. That spans reach a collector is the business of `daemon`.

use std::sync::{Arc, Mutex};

use daemon::telemetry::Tracing;
use http::Method;

use super::support::{Act, Replica, Seen, World, full, grpc_ok, grpc_request, message, ok, replica, spam};

const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Seens = Arc<Mutex<Vec<String>>>;

/// Keeps each `traceparent`, and closes the connection of the first request.
fn recording(dir: &tempfile::TempDir) -> (Replica, Seens) {
    let seens = Seens::default();
    let kept = Arc::clone(&seens);
    let replica = replica(dir, "a", move |seen: Seen| {
        let kept = Arc::clone(&kept);
        async move {
            let grpc = seen.head.headers.contains_key("te");
            let parent = seen.head.headers["traceparent"].to_str().unwrap().to_owned();
            seen.read().await;
            let mut kept = kept.lock().unwrap();
            kept.push(parent);
            match (kept.len(), grpc) {
                (1, _) => Act::Close,
                (_, true) => grpc_ok(b""),
                (_, false) => ok("answer"),
            }
        }
    });
    (replica, seens)
}

/// Nobody listens there: spans are made and then dropped.
fn tracing() -> Tracing {
    Tracing::to("http://127.0.0.1:9", "berth-gateway").unwrap()
}

fn ids(parent: &str) -> (&str, &str) {
    let mut parts = parent.split('-').skip(1);
    (parts.next().unwrap(), parts.next().unwrap())
}

#[tokio::test]
async fn each_try_has_a_span_of_its_own_in_the_clients_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (a, seens) = recording(&dir);
    let world = World::start_traced(spam(&[&a]), |_| {}, tracing()).await;
    let request = world.request(Method::POST, "/v2/models/spam/infer").header("traceparent", SENT);
    let answer = world.send(request.body(full("{}")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "answer"));
    let seens = seens.lock().unwrap();
    let [(first_trace, first), (second_trace, second)] = [ids(&seens[0]), ids(&seens[1])];
    assert_eq!((first_trace, second_trace), (ids(SENT).0, ids(SENT).0));
    assert!(first != second && first != ids(SENT).1, "{seens:?}");
}

#[tokio::test]
async fn a_call_without_context_begins_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (a, seens) = recording(&dir);
    let world = World::start_traced(spam(&[&a]), |_| {}, tracing()).await;
    let bearer = world.bearer();
    let request = || grpc_request("/inference.GRPCInferenceService/ModelInfer", Some(&bearer), &message("spam", ""));
    for _ in 0..2 {
        assert_eq!(world.grpc().await.send(request()).await.grpc_status(), Some(0));
    }
    let seens = seens.lock().unwrap();
    assert_eq!(seens.len(), 3, "{seens:?}");
    assert_eq!(ids(&seens[0]).0, ids(&seens[1]).0, "two tries of one call are one trace");
    assert_ne!(ids(&seens[1]).0, ids(&seens[2]).0, "two calls are two traces");
}
