//! What reaches a replica, and what comes back.

use std::sync::{Arc, Mutex, atomic::Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Response, request};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::{mpsc, oneshot};

use super::support::{Act, Answer, AnyBody, Replica, Seen, World, full, named, ok, raw, replica, service, spam};

type Log = Arc<Mutex<Vec<(request::Parts, Bytes)>>>;

fn recording(dir: &tempfile::TempDir, name: &str) -> (Replica, Log) {
    let log = Log::default();
    let kept = Arc::clone(&log);
    let replica = replica(dir, name, move |seen| {
        let kept = Arc::clone(&kept);
        async move {
            let seen = seen.read().await;
            kept.lock().unwrap().push(seen);
            ok("answer")
        }
    });
    (replica, log)
}

/// A body fed by hand.
pub(super) fn fed() -> (mpsc::Sender<Bytes>, AnyBody) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|data| (Ok::<_, String>(Frame::data(data)), receiver))
    });
    (sender, StreamBody::new(frames).boxed())
}

#[tokio::test]
async fn a_request_arrives_with_the_gateways_stamps_and_without_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let (a, log) = recording(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let request = world
        .request(Method::POST, "/v2/models/spam/infer?x=1")
        .header("x-request-id", "abc")
        .header("x-berth-service", "other")
        .header("x-berth-internal", "1")
        .header("connection", "x-private")
        .header("x-private", "1")
        .header("inference-header-content-length", "2")
        .body(full("{}"))
        .unwrap();
    let answer = world.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "answer"));
    assert_eq!(answer.header("x-request-id"), Some("abc"));
    let log = log.lock().unwrap();
    let (head, body) = &log[0];
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "/v2/models/spam/infer?x=1"));
    assert_eq!(body.as_ref(), b"{}");
    assert_eq!(header("x-berth-service"), Some("spam"));
    assert_eq!(header("x-request-id"), Some("abc"));
    assert_eq!(header("inference-header-content-length"), Some("2"));
    assert!(header("x-berth-timeout-ms").unwrap().parse::<u64>().unwrap() <= 60_000);
    assert_eq!(header("traceparent").unwrap().len(), 55);
    assert_eq!(header("content-length"), Some("2"));
    for name in ["authorization", "x-berth-internal", "connection", "x-private", "transfer-encoding"] {
        assert_eq!(header(name), None, "{name}");
    }
}

#[tokio::test]
async fn the_client_shortens_the_time_and_cannot_lengthen_it() {
    let dir = tempfile::tempdir().unwrap();
    let (a, log) = recording(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    for (asked, most) in [("1500", 1500), ("99999999", 60_000)] {
        let request = world.request(Method::POST, "/v2/models/spam/infer").header("x-berth-timeout-ms", asked);
        world.send(request.body(full("")).unwrap()).await;
        let (head, _) = log.lock().unwrap().pop().unwrap();
        let sent: u64 = head.headers["x-berth-timeout-ms"].to_str().unwrap().parse().unwrap();
        assert!(sent > 0 && sent <= most, "{sent}");
    }
    let request = world.request(Method::POST, "/v2/models/spam/infer").header("x-berth-timeout-ms", "soon");
    assert_eq!(world.send(request.body(full("")).unwrap()).await.status, 400);
}

#[tokio::test]
async fn requests_in_a_row_share_one_connection_to_the_replica() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let mut client = world.client().await;
    for _ in 0..50 {
        assert_eq!(client.send(world.infer("{}")).await.text(), "a");
    }
    assert_eq!((a.count(), a.connections.load(Ordering::SeqCst)), (50, 1));
}

#[tokio::test]
async fn named_revisions_get_their_own_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (named(&dir, "one"), named(&dir, "two"));
    let mut snapshot = spam(&[&one]);
    let mut second = service("spam", &[&two]).revisions.remove(0);
    second.revision.0 = 2;
    snapshot.services[0].revisions.push(second);
    let world = World::start(snapshot).await;
    let mut client = world.client().await;
    for (version, wanted) in [("1", (200, "one")), ("2", (200, "two")), ("3", (404, "")), ("x", (404, ""))] {
        let path = format!("/v2/models/spam/versions/{version}/infer");
        let answer = client.send(world.request(Method::POST, &path).body(full("")).unwrap()).await;
        assert_eq!(answer.status, wanted.0, "{version}");
        assert!(wanted.0 != 200 || answer.text() == wanted.1);
    }
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let a = replica(&dir, "a", |seen| async move {
        // Each piece goes back before the next has come.
        let (sender, body) = fed();
        daemon::Supervisor::new().spawn_connection(async move {
            let mut incoming = seen.body;
            while let Some(Ok(frame)) = incoming.frame().await {
                if let Ok(data) = frame.into_data() {
                    sender.send(data).await.unwrap();
                }
            }
        });
        Act::Answer(Response::new(body))
    });
    let world = World::start(spam(&[&a])).await;
    let (sender, body) = fed();
    let request = world.request(Method::POST, "/v2/models/spam/infer").body(body).unwrap();
    let mut client = world.client().await;
    // More than what is held for another try, so that it passes through before it has ended.
    let piece = Bytes::from(vec![7; 600 * 1024]);
    let first = async {
        sender.send(piece.clone()).await.unwrap();
        sender.send(piece.clone()).await.unwrap();
    };
    let (response, ()) = tokio::join!(client.head(request), first);
    let mut body = response.into_body();
    let mut seen = 0;
    while seen < 2 * piece.len() {
        seen += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    sender.send(piece.clone()).await.unwrap();
    drop(sender);
    while let Some(frame) = body.frame().await {
        seen += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(seen, 3 * piece.len());
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_along() {
    let dir = tempfile::tempdir().unwrap();
    let (started, mut starts) = mpsc::channel::<oneshot::Receiver<()>>(1);
    let a = replica(&dir, "a", move |_: Seen| {
        let started = started.clone();
        async move {
            // The sender is dropped with this future, when the connection closes.
            let (alive, gone) = oneshot::channel();
            started.send(gone).await.unwrap();
            std::future::pending::<()>().await;
            drop(alive);
            Act::Close
        }
    });
    let world = World::start(spam(&[&a])).await;
    for grpc in [false, true] {
        let mut client = if grpc { world.grpc().await } else { world.client().await };
        let request = if grpc {
            let message = super::support::message("spam", "");
            let path = "/inference.GRPCInferenceService/ModelInfer";
            super::support::grpc_request(path, Some(&world.bearer()), &message)
        } else {
            world.infer("{}")
        };
        let gone = tokio::select! {
            _ = client.head(request) => panic!("answered"),
            gone = starts.recv() => gone.unwrap(),
        };
        drop(client);
        assert!(gone.await.is_err());
        let protocol = if grpc { "protocol=\"grpc\"" } else { "protocol=\"rest\"" };
        world.until_counted("berth_gateway_cancelled_total", protocol).await;
        assert_eq!(world.metric("berth_gateway_received_total", protocol).await, 1.0);
    }
    assert_eq!(world.metric("berth_gateway_requests_total", "").await, 0.0);
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let (a, log) = recording(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let head = |authorization: &str| {
        format!(
            "POST /v2/models/spam/infer HTTP/1.1\r\nhost: g\r\nauthorization: {authorization}\r\n\
             expect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        )
    };
    let refused = raw(world.address, head("Bearer no").as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let answered = raw(world.address, format!("{}{{}}", head(&world.bearer())).as_bytes()).await;
    assert!(answered.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answered}");
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 1);
    assert!(!log[0].0.headers.contains_key("expect"));
}

#[tokio::test]
async fn rest_over_http2_and_answers_without_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let a = replica(&dir, "a", |seen| async move {
        let (head, _) = seen.read().await;
        assert!(!head.headers.contains_key("host"));
        assert_eq!(head.uri, "/v2/models/spam/infer");
        Act::Answer(
            Response::builder().status(204).header("connection", "x-hop").header("x-hop", "1").body(full("")).unwrap(),
        )
    });
    let world = World::start(spam(&[&a])).await;
    let mut client = world.grpc().await;
    for _ in 0..3 {
        let request =
            http::Request::post("http://gateway/v2/models/spam/infer").header("authorization", world.bearer());
        let answer: Answer = client.send(request.body(full("{}")).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-hop")), (204, None));
    }
    assert_eq!(a.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn metrics_of_all_replicas_in_one_text() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = |seen: Seen| async move {
        let (head, _) = seen.read().await;
        match head.uri.path() {
            "/metrics" => ok("# TYPE nv_inference_count counter\nnv_inference_count{model=\"spam\"} 3\n"),
            _ => ok("x"),
        }
    };
    let (a, b) = (replica(&dir, "a", metrics), replica(&dir, "b", metrics));
    let world = World::start(spam(&[&a, &b])).await;
    world.send(world.infer("{}")).await;
    let request = world.request(Method::GET, "/metrics").body(full("")).unwrap();
    let text = world.send(request).await.text();
    for wanted in [
        "nv_inference_count{replica=\"a\",model=\"spam\"} 3\n",
        "nv_inference_count{replica=\"b\",model=\"spam\"} 3\n",
        "# TYPE berth_gateway_requests_total counter\n",
    ] {
        assert_eq!(text.matches(wanted).count(), 1, "{text}");
    }
    assert_eq!(
        world
            .metric("berth_gateway_requests_total", "service=\"spam\",revision=\"1\",protocol=\"rest\",code=\"200\"")
            .await,
        1.0
    );
}
