//! When a request is sent again, and when not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::watch;

use super::support::{Act, Replica, Seen, World, full, grpc_ok, grpc_request, message, named, ok, replica, set, spam};

/// A replica that closes the connection of its first `closings` requests and answers the others.
fn closing(dir: &tempfile::TempDir, name: &'static str, closings: usize) -> Replica {
    let left = Arc::new(AtomicUsize::new(closings));
    replica(dir, name, move |seen: Seen| {
        let left = Arc::clone(&left);
        async move {
            let grpc = seen.head.headers.contains_key("te");
            seen.read().await;
            match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => Act::Close,
                Err(_) if grpc => grpc_ok(name.as_bytes()),
                Err(_) => ok(name),
            }
        }
    })
}

fn declining(dir: &tempfile::TempDir, name: &'static str) -> Replica {
    replica(dir, name, |seen: Seen| async move {
        seen.read().await;
        let response = Response::builder().status(503).header("x-berth-retry", "safe");
        Act::Answer(response.body(full("{\"error\":\"draining\"}")).unwrap())
    })
}

#[tokio::test]
async fn a_replica_that_dies_before_it_answers_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in [0, 2, 1024 * 1024] {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let (a, b) = (closing(&dir, "a", usize::MAX), named(&dir, "b"));
        let world = World::start(spam(&[&a, &b])).await;
        for _ in 0..10 {
            let answer = world.send(world.infer(vec![b' '; bytes])).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "b"));
        }
        assert_eq!(b.count(), 10);
    }
}

#[tokio::test]
async fn a_lone_replica_is_asked_again_at_most_twice() {
    let dir = tempfile::tempdir().unwrap();
    for (closings, wanted) in [(2, 200), (3, 502)] {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let a = closing(&dir, "a", closings);
        let world = World::start(spam(&[&a])).await;
        assert_eq!(world.send(world.infer("{}")).await.status, wanted);
        assert_eq!(a.count(), 3);
        assert_eq!(world.metric("berth_gateway_retries_total", "spam").await, 2.0);
    }
}

#[tokio::test]
async fn grpc_calls_are_sent_again_too() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (closing(&dir, "a", usize::MAX), closing(&dir, "b", 0));
    let world = World::start(spam(&[&a, &b])).await;
    let mut client = world.grpc().await;
    for _ in 0..10 {
        let path = "/inference.GRPCInferenceService/ModelInfer";
        let answer = client.send(grpc_request(path, Some(&world.bearer()), &message("spam", ""))).await;
        assert_eq!((answer.grpc_status(), &answer.body[5..]), (Some(0), b"b".as_slice()));
    }
    assert_eq!(b.count(), 10);
}

#[tokio::test]
async fn a_replica_that_declines_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (declining(&dir, "a"), named(&dir, "b"));
    let world = World::start(spam(&[&a, &b])).await;
    for _ in 0..10 {
        assert_eq!(world.send(world.infer("{}")).await.text(), "b");
    }
}

#[tokio::test]
async fn a_lone_replica_that_declines_is_waited_out() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (declining(&dir, "a"), named(&dir, "b"));
    let world = World::start(spam(&[&a])).await;
    let come = async {
        world.until_counted("berth_gateway_held_total", "spam").await;
        world.publish(|snapshot| set(snapshot, &[&b])).await;
    };
    let (answer, ()) = tokio::join!(world.send(world.infer("{}")), come);
    assert_eq!((answer.status.as_u16(), answer.header("x-berth-retry")), (200, None));
}

#[tokio::test]
async fn nothing_is_sent_again_once_an_answer_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    // The replica breaks off when the client has seen the first half.
    let (seen_half, half) = watch::channel(false);
    let broken = move |seen: Seen| {
        let half = half.clone();
        async move {
            seen.read().await;
            let frames = stream::unfold((0, half), |(at, mut half)| async move {
                match at {
                    0 => Some((Ok(Frame::data(Bytes::from_static(b"half"))), (1, half))),
                    _ => {
                        half.wait_for(|seen| *seen).await.unwrap();
                        Some((Err("gone".to_owned()), (2, half)))
                    }
                }
            });
            let body = BodyExt::boxed(StreamBody::new(Box::pin(frames)));
            Act::Answer(Response::builder().header("content-length", "8").body(body).unwrap())
        }
    };
    let (a, b) = (replica(&dir, "a", broken.clone()), replica(&dir, "b", broken));
    let world = World::start(spam(&[&a, &b])).await;
    let mut client = world.client().await;
    let mut response = client.head(world.infer("{}")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    seen_half.send_replace(true);
    assert!(response.body_mut().frame().await.unwrap().is_err());
    assert_eq!(a.count() + b.count(), 1);
}

#[tokio::test]
async fn a_body_too_large_to_hold_is_sent_once() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (closing(&dir, "a", usize::MAX), closing(&dir, "b", usize::MAX));
    let world = World::start(spam(&[&a, &b])).await;
    let answer = world.send(world.infer(vec![b' '; 1024 * 1024 + 1])).await;
    assert_eq!(answer.status, 502);
    assert_eq!(a.count() + b.count(), 1);
}

#[tokio::test]
async fn a_body_too_large_to_hold_goes_elsewhere_while_none_of_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (named(&dir, "a"), named(&dir, "b"));
    let world = World::start(spam(&[&a, &b])).await;
    a.kill();
    for _ in 0..10 {
        let answer = world.send(world.infer(vec![b' '; 2 * 1024 * 1024])).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "b"));
    }
}

#[tokio::test]
async fn errors_of_a_replica_are_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let a = replica(&dir, "a", |seen: Seen| async move {
        seen.read().await;
        Act::Answer(Response::builder().status(503).header("retry-after", "7").body(full("busy")).unwrap())
    });
    let world = World::start(spam(&[&a])).await;
    let answer = world.send(world.infer("{}")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after"), answer.text().as_str()),
        (503, Some("7"), "busy")
    );
    assert_eq!(a.count(), 1);
}
