//! Waiting for a replica, and the end of waiting.

use http::Method;

use super::support::{Act, Seen, World, full, grpc_request, message, named, replica, set, spam};

const HELD: &str = "berth_gateway_held_total";

#[tokio::test]
async fn a_request_waits_for_a_replica_that_comes() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[])).await;
    let come = async {
        world.until_counted(HELD, "spam").await;
        world.publish(|snapshot| set(snapshot, &[&a])).await;
    };
    let (answer, ()) = tokio::join!(world.send(world.infer("{}")), come);
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "a"));
}

#[tokio::test]
async fn a_lone_replica_that_is_killed_and_replaced_fails_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (named(&dir, "a"), named(&dir, "b"));
    let world = World::start(spam(&[&a])).await;
    let mut client = world.client().await;
    assert_eq!(client.send(world.infer("{}")).await.text(), "a");
    a.kill();
    let come = async {
        world.until_counted(HELD, "spam").await;
        world.publish(|snapshot| set(snapshot, &[&b])).await;
    };
    let (answer, ()) = tokio::join!(client.send(world.infer("{}")), come);
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "b"));
}

#[tokio::test]
async fn waiting_ends_with_503() {
    let world = World::start(spam(&[])).await;
    let wait = async {
        world.until_counted(HELD, "spam").await;
        // From here on nothing but the clock can help, and the clock goes by itself.
        tokio::time::pause();
    };
    let (answer, ()) = tokio::join!(world.send(world.infer("{}")), wait);
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn waiting_ends_with_the_clients_time() {
    let world = World::start(spam(&[])).await;
    let request = world.request(Method::POST, "/v2/models/spam/infer").header("x-berth-timeout-ms", "20000");
    let wait = async {
        world.until_counted(HELD, "spam").await;
        tokio::time::pause();
    };
    let (answer, ()) = tokio::join!(world.send(request.body(full("{}")).unwrap()), wait);
    assert_eq!(answer.status, 504);
}

#[tokio::test]
async fn waiting_ends_when_the_service_goes() {
    let world = World::start(spam(&[])).await;
    let go = async {
        world.until_counted(HELD, "spam").await;
        world.publish(|snapshot| snapshot.services.clear()).await;
    };
    let (answer, ()) = tokio::join!(world.send(world.infer("{}")), go);
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn readiness_is_answered_at_once() {
    let world = World::start(spam(&[])).await;
    let request = world.request(Method::GET, "/v2/models/spam/ready").body(full("")).unwrap();
    assert_eq!(world.send(request).await.status, 503);
    let path = "/inference.GRPCInferenceService/ModelReady";
    let answer = world.grpc().await.send(grpc_request(path, Some(&world.bearer()), &message("spam", ""))).await;
    assert_eq!((answer.grpc_status(), answer.body.as_ref()), (Some(0), [0; 5].as_slice()));
}

#[tokio::test]
async fn a_service_that_a_request_starts_is_ready_without_replicas() {
    let mut snapshot = spam(&[]);
    snapshot.services[0].wakes = true;
    let world = World::start(snapshot).await;
    for path in ["/v2/models/spam/ready", "/v2/health/ready", "/v1/models/spam"] {
        let request = world.request(Method::GET, path).body(full("")).unwrap();
        assert_eq!(world.send(request).await.status, 200, "{path}");
    }
    let path = "/inference.GRPCInferenceService/ModelReady";
    let answer = world.grpc().await.send(grpc_request(path, Some(&world.bearer()), &message("spam", ""))).await;
    assert_eq!((answer.grpc_status(), answer.body.as_ref()), (Some(0), [0, 0, 0, 0, 2, 8, 1].as_slice()));
    // Nobody was woken by a question.
    assert_eq!(world.metric(HELD, "spam").await, 0.0);
}

#[tokio::test]
async fn a_replica_that_never_answers_is_504_and_deadline_exceeded() {
    let dir = tempfile::tempdir().unwrap();
    let (came, mut comes) = tokio::sync::mpsc::channel(1);
    let a = replica(&dir, "a", move |_: Seen| {
        let came = came.clone();
        async move {
            came.send(()).await.unwrap();
            std::future::pending::<Act>().await
        }
    });
    let world = World::start(spam(&[&a])).await;
    let mut client = world.client().await;
    let (answer, ()) = tokio::join!(client.send(world.infer("{}")), async {
        comes.recv().await.unwrap();
        tokio::time::pause();
    });
    assert_eq!(answer.status, 504);
    tokio::time::resume();
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let mut request = grpc_request(path, Some(&world.bearer()), &message("spam", ""));
    request.headers_mut().insert("grpc-timeout", "5S".parse().unwrap());
    let mut client = world.grpc().await;
    let (answer, ()) = tokio::join!(client.send(request), async {
        comes.recv().await.unwrap();
        tokio::time::pause();
    });
    assert_eq!(answer.grpc_status(), Some(4));
}
