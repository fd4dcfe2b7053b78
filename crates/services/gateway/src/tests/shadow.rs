//! A revision that is tried with copies of requests, and clients that do not notice.

use std::{future::pending, time::Duration};

use daemon::supervisor::Ended;
use http::{Method, Response};
use resources::{
    id::Revision,
    snapshot::{GatewaySnapshot, RouteRevision, RouteShadow},
    status::RevisionTraffic,
};

use super::support::{Act, Replica, Seen, World, full, grpc_ok, grpc_request, message, ok, replica, spam};
use crate::shadow::{ANSWER_BYTES_MAX, MIRRORS_MAX, REQUEST_BYTES_MAX};

const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";
const COUNTED: &str = "berth_gateway_shadow_requests_total";

fn label(label: u8) -> String {
    format!(
        "{{\"model_name\":\"spam\",\"outputs\":[{{\"name\":\"y\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[{label}]}}]}}"
    )
}

/// A replica whose every answer is this label.
fn says(dir: &tempfile::TempDir, name: &str, number: u8) -> Replica {
    replica(dir, name, move |seen: Seen| async move {
        let grpc = seen.head.headers.contains_key("te");
        seen.read().await;
        // An empty message is an answer without outputs.
        if grpc { grpc_ok(b"") } else { ok(label(number)) }
    })
}

/// Revision 1 answers with `stable`, and this much is mirrored to revision 2.
fn mirrored(stable: &[&Replica], shadow: &[&Replica], percent: u32) -> GatewaySnapshot {
    let mut snapshot = spam(stable);
    let service = &mut snapshot.services[0];
    let endpoints = shadow.iter().map(|replica| replica.endpoint.clone()).collect();
    service.revisions.push(RouteRevision { revision: Revision(2), endpoints });
    let share = |revision, percent| RevisionTraffic { revision: Revision(revision), percent };
    service.split = vec![share(2, 0), share(1, 100)];
    service.shadow = Some(RouteShadow { revision: Revision(2), percent });
    snapshot
}

/// Waits until so many requests were drawn and their outcome is known.
async fn until(world: &World, count: usize) {
    while world.metric(COUNTED, "spam").await < f64::from(u32::try_from(count).unwrap()) {
        tokio::task::yield_now().await;
    }
}

/// Sends requests one after the other, all of which revision 1 answers.
async fn ask(world: &World, count: usize) {
    let mut client = world.client().await;
    for _ in 0..count {
        let answer = client.send(world.infer("{}")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, label(1)));
    }
}

#[tokio::test]
async fn the_share_is_mirrored_and_agrees_and_is_no_request_of_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let (stable, shadow) = (says(&dir, "stable", 1), says(&dir, "shadow", 1));
    let world = World::start(mirrored(&[&stable], &[&shadow], 25)).await;
    ask(&world, 400).await;
    let drawn = world.metric(COUNTED, "").await;
    until(&world, shadow.count()).await;
    // A fair draw of 25 % of 400 is 100 with a standard deviation of 9; seven of them on either side.
    assert!((37..=163).contains(&shadow.count()), "{} and {drawn}", shadow.count());
    let agreed = world.metric(COUNTED, "outcome=\"agreed\"").await;
    assert_eq!(world.metric(COUNTED, "").await, agreed);
    assert_eq!(world.metric("berth_gateway_requests_total", "revision=\"2\"").await, 0.0);
    assert_eq!(world.metric("berth_gateway_requests_total", "service=\"spam\"").await, 400.0);
    for answer in ["primary", "mirrored"] {
        let labels = format!("revision=\"2\",answer=\"{answer}\"");
        assert_eq!(world.metric("berth_gateway_shadow_duration_seconds_count", &labels).await, agreed);
    }
    // The shadow goes, and what was counted of it too.
    world.publish(|snapshot| snapshot.services[0].shadow = None).await;
    assert_eq!(world.metric("berth_gateway_shadow", "spam").await, 0.0);
}

#[tokio::test]
async fn only_predictions_that_name_no_revision_are_mirrored() {
    let dir = tempfile::tempdir().unwrap();
    let (stable, shadow) = (says(&dir, "stable", 1), says(&dir, "shadow", 2));
    let world = World::start(mirrored(&[&stable], &[&shadow], 100)).await;
    let mut client = world.client().await;
    for (method, path) in [(Method::GET, "/v2/models/spam"), (Method::POST, "/v2/models/spam/versions/1/infer")] {
        assert_eq!(client.send(world.request(method, path).body(full("{}")).unwrap()).await.status, 200);
    }
    assert_eq!(shadow.count(), 0);
    ask(&world, 3).await;
    let mut grpc = world.grpc().await;
    let answer = grpc.send(grpc_request(METHOD, Some(&world.bearer()), &message("spam", ""))).await;
    assert_eq!(answer.grpc_status(), Some(0));
    until(&world, 4).await;
    assert_eq!(shadow.count(), 4);
    assert_eq!(world.metric(COUNTED, "outcome=\"differed\",reason=\"class\"").await, 3.0);
    assert_eq!(world.metric(COUNTED, "outcome=\"agreed\"").await, 1.0);
}

#[tokio::test]
async fn a_copy_is_marked_and_has_a_time_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let stable = says(&dir, "stable", 1);
    let shadow = replica(&dir, "shadow", |seen: Seen| async move {
        let (head, body) = seen.read().await;
        let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let whole = header("x-berth-shadow").as_deref() == Some("1")
            && header("x-berth-timeout-ms").as_deref() == Some("60000")
            && header("x-request-id").as_deref() == Some("r-1")
            && header("x-berth-service").as_deref() == Some("spam")
            && header("authorization").or(header("accept-encoding")).is_none()
            && body == "{\"a\":1}";
        if whole { ok(label(1)) } else { ok(label(9)) }
    });
    let world = World::start(mirrored(&[&stable], &[&shadow], 100)).await;
    let request = world.request(Method::POST, "/v2/models/spam/infer").header("x-request-id", "r-1");
    let request = request.header("accept-encoding", "gzip").header("x-berth-timeout-ms", "5000");
    assert_eq!(world.send(request.header("x-berth-shadow", "9").body(full("{\"a\":1}")).unwrap()).await.status, 200);
    until(&world, 1).await;
    assert_eq!(world.metric(COUNTED, "agreed").await, 1.0);
}

#[tokio::test]
async fn a_shadow_that_never_answers_costs_nothing_but_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let stable = says(&dir, "stable", 1);
    let shadow = replica(&dir, "shadow", |seen: Seen| async move {
        seen.read().await;
        pending::<Act>().await
    });
    let world = World::start(mirrored(&[&stable], &[&shadow], 100)).await;
    ask(&world, MIRRORS_MAX + 50).await;
    assert_eq!(world.metric(COUNTED, "outcome=\"dropped\",reason=\"busy\"").await, 50.0);
    assert_eq!(world.metric(COUNTED, "").await, 50.0);
    while shadow.count() < MIRRORS_MAX {
        tokio::task::yield_now().await;
    }
    assert_eq!(shadow.count(), MIRRORS_MAX);
    // What is under way is dropped when the gateway stops, and nobody waits for it.
    world.supervisor.stop();
    assert_eq!(world.supervisor.clone().run(Duration::from_secs(30)).await.unwrap(), Ended::Drained);
}

#[tokio::test]
async fn a_copy_that_takes_too_long_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let stable = says(&dir, "stable", 1);
    let shadow = replica(&dir, "shadow", |seen: Seen| async move {
        seen.read().await;
        pending::<Act>().await
    });
    let mut snapshot = mirrored(&[&stable], &[&shadow], 100);
    snapshot.services[0].timeout_ms = 2000;
    let world = World::start(snapshot).await;
    ask(&world, 1).await;
    until(&world, 1).await;
    assert_eq!(world.metric(COUNTED, "outcome=\"failed\",reason=\"deadline\"").await, 1.0);
}

#[tokio::test]
async fn a_shadow_that_breaks_off_is_asked_once_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let stable = says(&dir, "stable", 1);
    let shadow = replica(&dir, "shadow", |seen: Seen| async move {
        seen.read().await;
        Act::Close
    });
    let broken = replica(&dir, "broken", |seen: Seen| async move {
        seen.read().await;
        Act::Answer(Response::builder().status(500).body(full("{}")).unwrap())
    });
    let world = World::start(mirrored(&[&stable], &[&shadow], 100)).await;
    ask(&world, 20).await;
    until(&world, 20).await;
    assert_eq!(shadow.count(), 20);
    assert_eq!(world.metric(COUNTED, "outcome=\"failed\",reason=\"broken\"").await, 20.0);
    assert_eq!(world.metric("berth_gateway_retries_total", "spam").await, 0.0);
    world.publish(|snapshot| snapshot.services[0].revisions[1].endpoints = vec![broken.endpoint.clone()]).await;
    ask(&world, 5).await;
    until(&world, 25).await;
    assert_eq!(world.metric(COUNTED, "outcome=\"failed\",reason=\"status\"").await, 5.0);
    world.publish(|snapshot| snapshot.services[0].revisions[1].endpoints.clear()).await;
    ask(&world, 2).await;
    assert_eq!(world.metric(COUNTED, "outcome=\"dropped\",reason=\"no_replica\"").await, 2.0);
}

#[tokio::test]
async fn what_is_large_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let stable = replica(&dir, "stable", |seen: Seen| async move {
        let (head, _) = seen.read().await;
        let large = head.headers.contains_key("x-large");
        ok(if large { " ".repeat(ANSWER_BYTES_MAX + 1) } else { label(1) })
    });
    let shadow = says(&dir, "shadow", 1);
    let world = World::start(mirrored(&[&stable], &[&shadow], 100)).await;
    for (bytes, reason) in [(REQUEST_BYTES_MAX + 1, "request_large"), (2 * 1024 * 1024, "passing")] {
        let answer = world.send(world.infer(vec![b' '; bytes])).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, label(1)));
        assert_eq!(world.metric(COUNTED, reason).await, 1.0, "{reason}");
    }
    let request = world.request(Method::POST, "/v2/models/spam/infer").header("x-large", "1");
    let answer = world.send(request.body(full("{}")).unwrap()).await;
    assert_eq!(answer.body.len(), ANSWER_BYTES_MAX + 1);
    until(&world, 3).await;
    assert_eq!(world.metric(COUNTED, "answer_large").await, 1.0);
    let answer = world.send(world.infer(vec![b' '; REQUEST_BYTES_MAX])).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, label(1)));
    until(&world, 4).await;
    assert_eq!(world.metric(COUNTED, "agreed").await, 1.0);
}
