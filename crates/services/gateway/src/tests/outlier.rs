//! Replicas that do worse than their siblings, and their way back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Response;

use super::support::{Act, Replica, Seen, World, full, grpc_ok, grpc_request, message, named, ok, replica, set, spam};

const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";
const EJECTED: &str = "berth_gateway_ejected_replicas";
const EJECTIONS: &str = "berth_gateway_ejections_total";

/// A replica that answers 500 while `ill`.
fn ill(dir: &tempfile::TempDir, name: &'static str, ill: &Arc<AtomicBool>) -> Replica {
    let ill = Arc::clone(ill);
    replica(dir, name, move |seen: Seen| {
        let ill = Arc::clone(&ill);
        async move {
            seen.read().await;
            if !ill.load(Ordering::SeqCst) {
                return ok(name);
            }
            Act::Answer(Response::builder().status(500).body(full("{\"error\":\"the model failed\"}")).unwrap())
        }
    })
}

/// Sends requests one after the other and gives how many were answered by which status.
async fn ask(world: &World, count: usize) -> (usize, usize) {
    let mut client = world.client().await;
    let (mut fine, mut failed) = (0, 0);
    for _ in 0..count {
        match client.send(world.infer("{}")).await.status.as_u16() {
            200 => fine += 1,
            500 => failed += 1,
            other => panic!("{other}"),
        }
    }
    (fine, failed)
}

/// Asks until one is out.
async fn until_one_is_out(world: &World) {
    while world.metric(EJECTED, "spam").await < 1.0 {
        ask(world, 1).await;
    }
}

/// Lets time pass.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn one_of_three_that_fails_is_taken_out_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = Arc::new(AtomicBool::new(true));
    let (a, b, c) = (ill(&dir, "a", &state), named(&dir, "b"), named(&dir, "c"));
    let world = World::start(spam(&[&a, &b, &c])).await;
    until_one_is_out(&world).await;
    let before = a.count();
    assert!(before >= 5, "{before}");
    assert_eq!(ask(&world, 60).await, (60, 0));
    assert_eq!(a.count(), before);
    assert_eq!(world.metric(EJECTIONS, "service=\"spam\",reason=\"failures\"").await, 1.0);
    // A new configuration that still names it does not bring it back.
    world.publish(|snapshot| snapshot.services[0].timeout_ms = 50_000).await;
    assert_eq!(ask(&world, 20).await, (20, 0));
    // It is well again, and after its time it gets a few requests, then its part.
    state.store(false, Ordering::SeqCst);
    pass(31).await;
    assert_eq!(ask(&world, 60).await, (60, 0));
    let few = a.count() - before;
    pass(31).await;
    assert_eq!(ask(&world, 60).await, (60, 0));
    let part = a.count() - before - few;
    // Of 60 requests a tenth of a third is 2, and a third 20.
    assert!(few < 12 && part > 8, "{few} then {part}");
    assert_eq!(world.metric(EJECTED, "spam").await, 0.0);
}

#[tokio::test]
async fn one_that_fails_again_is_out_for_longer() {
    let dir = tempfile::tempdir().unwrap();
    let state = Arc::new(AtomicBool::new(true));
    let (a, b) = (ill(&dir, "a", &state), named(&dir, "b"));
    let world = World::start(spam(&[&a, &b])).await;
    until_one_is_out(&world).await;
    pass(61).await;
    while world.metric(EJECTIONS, "spam").await < 2.0 {
        ask(&world, 1).await;
    }
    let before = a.count();
    pass(45).await;
    assert_eq!(ask(&world, 40).await, (40, 0));
    assert_eq!(a.count(), before);
}

#[tokio::test]
async fn a_lone_replica_stays_and_so_does_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = Arc::new(AtomicBool::new(true));
    let (a, b) = (ill(&dir, "a", &state), ill(&dir, "b", &state));
    let world = World::start(spam(&[&a])).await;
    assert_eq!(ask(&world, 20).await, (0, 20));
    // Where all fail it is no one's fault.
    world.publish(|snapshot| set(snapshot, &[&a, &b])).await;
    assert_eq!(ask(&world, 40).await, (0, 40));
    assert!(b.count() > 0 && world.metric(EJECTED, "spam").await < 2.0);
    let c = named(&dir, "c");
    world.publish(|snapshot| set(snapshot, &[&a, &c])).await;
    until_one_is_out(&world).await;
    // The others have gone: the one that was out serves, whatever it did.
    world.publish(|snapshot| set(snapshot, &[&a])).await;
    assert_eq!(ask(&world, 5).await, (0, 5));
}

#[tokio::test]
async fn calls_of_grpc_that_fail_count_and_refusals_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |name: &'static str, status: &'static str| {
        replica(&dir, name, move |seen: Seen| async move {
            seen.read().await;
            let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
            Act::Answer(head.body(full("")).unwrap())
        })
    };
    let fine = replica(&dir, "fine", |seen: Seen| async move {
        seen.read().await;
        grpc_ok(b"")
    });
    let (refuses, ill) = (fails("refuses", "3"), fails("ill", "13"));
    let world = World::start(spam(&[&fine, &refuses])).await;
    let mut client = world.grpc().await;
    for _ in 0..40 {
        client.send(grpc_request(METHOD, Some(&world.bearer()), &message("spam", ""))).await;
    }
    assert!(refuses.count() >= 5);
    assert_eq!(world.metric(EJECTIONS, "spam").await, 0.0);
    world.publish(|snapshot| set(snapshot, &[&fine, &ill])).await;
    while world.metric(EJECTED, "spam").await < 1.0 {
        client.send(grpc_request(METHOD, Some(&world.bearer()), &message("spam", ""))).await;
    }
    let before = ill.count();
    for _ in 0..20 {
        let answer = client.send(grpc_request(METHOD, Some(&world.bearer()), &message("spam", ""))).await;
        assert_eq!(answer.grpc_status(), Some(0));
    }
    assert_eq!(ill.count(), before);
}

#[tokio::test]
async fn one_of_four_that_is_slow_is_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let slow = replica(&dir, "slow", |seen: Seen| async move {
        seen.read().await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        ok("slow")
    });
    let others = [named(&dir, "b"), named(&dir, "c"), named(&dir, "d")];
    let world = World::start(spam(&[&slow, &others[0], &others[1], &others[2]])).await;
    // The one thing that takes time is the slow replica's sleep.
    tokio::time::pause();
    while world.metric(EJECTIONS, "reason=\"latency\"").await < 1.0 {
        ask(&world, 10).await;
    }
    let before = slow.count();
    ask(&world, 40).await;
    assert_eq!(slow.count(), before);
}
