//! The loop over real stores and processes that stand in for runtimes.

use http::StatusCode;
use resources::condition::ConditionKind;

use crate::{
    fixture::{Fixture, manifest},
    orchestrator::{End, Memory},
};

mod rollouts;

#[tokio::test]
async fn a_service_starts_serves_and_goes() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 2).await;
    it.settle().await;
    assert_eq!(it.fake.ids().len(), 2);
    assert_eq!(it.condition("spam", ConditionKind::Ready).await.1, "Starting");
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(it.condition("spam", ConditionKind::Ready).await.0, "True");
    let service = it.service("spam").await;
    let status = service.status.unwrap();
    assert_eq!(status.url.as_deref(), Some("http://127.0.0.1:8080/v2/models/spam"));
    assert_eq!(Some(status.observed_generation), service.metadata.generation);
    let snapshot = it.publisher.after(0).await.unwrap();
    assert_eq!(snapshot.services[0].revisions[0].endpoints.len(), 2);
    let launch = it.fake.state().launches[0].clone();
    assert!(launch.bundle_dir.join("model.onnx").is_file());

    let (status, _) = it.call("DELETE", "/inferenceservices/spam", None).await;
    assert_eq!(status, StatusCode::OK);
    it.settle().await;
    assert!(it.fake.state().processes.values().all(|process| process.stopped == Some(End::Stop)));
    it.fake.finish();
    it.settle().await;
    assert_eq!(it.db.service("spam").await.unwrap(), None);
    assert!(it.publisher.after(snapshot.generation).await.unwrap().services.is_empty());
    let reasons = it.reasons().await;
    for reason in [
        "Created",
        "RevisionCreated",
        "ReplicaStarted",
        "ReplicaReady",
        "RevisionReady",
        "Deleting",
        "ReplicaStopped",
        "Deleted",
    ] {
        assert!(reasons.iter().any(|found| found == reason), "{reason} {reasons:?}");
    }
}

#[tokio::test]
async fn a_replica_leaves_the_gateway_before_it_stops() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let old = it.fake.ids().remove(0);
    let changed = manifest("spam", &it.model("spam", 4), 1);
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(changed)).await.0, StatusCode::OK);
    it.settle().await;
    // The old one serves until the new one is ready.
    let routed = it.publisher.after(0).await.unwrap();
    assert_eq!(routed.services[0].revisions[0].endpoints[0].replica.0, old);
    it.fake.all_ready();
    // The gateway has not been told yet, so the old one is not asked to stop.
    for _ in 0..3 {
        it.reconciler.pass().await.unwrap();
    }
    let routed = it.publisher.after(routed.generation).await.unwrap();
    assert_ne!(routed.services[0].revisions[0].endpoints[0].replica.0, old);
    assert!(it.fake.state().processes.values().all(|process| process.stopped.is_none()));
    it.settle().await;
    let state = it.fake.state();
    let stopped: Vec<_> = state.processes.iter().filter(|(_, process)| process.stopped.is_some()).collect();
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].0.0, old);
}

#[tokio::test]
async fn a_model_that_does_not_load_says_why() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    for _ in 0..2 {
        it.settle().await;
        let id = it.fake.ids().remove(0);
        it.fake.exit(&id, "exit code 3", "loading\nmodel failed to load: the graph has a cycle\n");
        it.reconciler.pass().await.unwrap();
    }
    let (status, reason, message) = it.condition("spam", ConditionKind::Ready).await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "CrashLoopBackOff"));
    assert!(message.contains("model failed to load: the graph has a cycle\nloading"), "{message}");
    it.settle().await;
    assert!(it.fake.ids().is_empty(), "the next start waits");
    let restarts = it.service("spam").await.status.unwrap().replicas[0].restarts;
    assert_eq!(restarts, 2);
    assert_eq!(it.reasons().await.iter().filter(|reason| *reason == "CrashLoopBackOff").count(), 1);
}

#[tokio::test]
async fn a_new_controller_adopts_and_routes_at_once() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 2).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let (ids, generation) = (it.fake.ids(), it.publisher.generation());
    let mut it = it.reopen().await;
    it.reconciler.pass().await.unwrap();
    assert_eq!(it.fake.ids(), ids);
    assert_eq!(it.publisher.generation(), generation, "nothing changed, so nothing is published anew");
    assert_eq!(it.condition("spam", ConditionKind::Ready).await.0, "True");
    assert_eq!(it.reasons().await.iter().filter(|reason| *reason == "ReplicaAdopted").count(), 2);
    assert_eq!(it.fake.state().launches.len(), 2);
}

#[tokio::test]
async fn what_died_with_the_controller_is_started_again_without_a_wait() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    for _ in 0..4 {
        it.fake.state().processes.clear();
        it = it.reopen().await;
        it.settle().await;
        assert_eq!(it.fake.ids().len(), 1);
    }
    assert_eq!(it.service("spam").await.status.unwrap().replicas[0].restarts, 0);
}

#[tokio::test]
async fn nothing_is_published_before_the_first_look() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let before = it.publisher.generation();
    let mut it = it.reopen().await;
    // A key is made before the first pass: what is kept has it, and nobody is cut off meanwhile.
    it.publisher.publish(None).await.unwrap();
    assert_eq!(it.publisher.generation(), 0);
    it.reconciler.pass().await.unwrap();
    assert_eq!(it.publisher.generation(), before);
    assert_eq!(it.publisher.after(0).await.unwrap().services[0].revisions[0].endpoints.len(), 1);
}

#[tokio::test]
async fn a_gateway_from_the_future_is_overtaken() {
    let mut it = Fixture::new().await;
    it.settle().await;
    it.publisher.acknowledge(500).await.unwrap();
    let snapshot = it.publisher.after(500).await.unwrap();
    assert_eq!(snapshot.generation, 501);
    it.publisher.acknowledge(501).await.unwrap();
    assert_eq!(it.publisher.acknowledged(), 501);
}

#[tokio::test]
async fn old_revisions_and_their_models_are_forgotten() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 1, 1).await;
    for seed in 2..10 {
        let changed = manifest("spam", &it.model("spam", seed), 1);
        assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(changed)).await.0, StatusCode::OK);
        it.settle().await;
        it.fake.all_ready();
        it.settle().await;
        it.fake.finish();
        it.reconciler.tidied_ms = 0;
        it.settle().await;
    }
    let revisions = it.db.revisions().await.unwrap();
    let numbers: Vec<u64> = revisions.iter().map(|revision| revision.revision.0).collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn the_platform_stops_in_order() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 2).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let Fixture { fake, reconciler, db, home, .. } = it;
    let (stop, gone) = (tokio_util::sync::CancellationToken::new(), tokio_util::sync::CancellationToken::new());
    stop.cancel();
    let end = async {
        // Until the gateway has gone, nothing is stopped.
        tokio::task::yield_now().await;
        assert!(fake.state().processes.values().all(|process| process.stopped.is_none()));
        gone.cancel();
        while fake.state().processes.values().any(|process| process.stopped.is_none()) {
            tokio::task::yield_now().await;
        }
        fake.finish();
        db.wake().notify_one();
    };
    let (ended, ()) = tokio::join!(reconciler.run(stop, gone.clone()), end);
    ended.unwrap();
    let db = crate::db::Db::open(&home.path().join("d/berth.db")).await.unwrap();
    assert!(db.replicas().await.unwrap().is_empty());
}

/// The manifest of `spam` with a model of this seed and this share.
fn shared(it: &Fixture, seed: u8, percent: Option<u32>) -> serde_json::Value {
    let mut manifest = manifest("spam", &it.model("spam", seed), 1);
    if let Some(percent) = percent {
        manifest["spec"]["predictor"]["canaryTrafficPercent"] = percent.into();
    }
    manifest
}

/// Shares as the gateway was told them last, newest first.
async fn split(it: &Fixture) -> Vec<(u64, u32)> {
    let snapshot = it.publisher.after(0).await.unwrap();
    snapshot.services[0].split.iter().map(|share| (share.revision.0, share.percent)).collect()
}

#[tokio::test]
async fn a_shadow_is_no_revision_and_outlives_the_controller() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let mirrored = |percent: Option<u32>| {
        let mut manifest = shared(&it, 4, None);
        manifest["spec"]["shadow"] =
            percent.map_or(serde_json::Value::Null, |percent| serde_json::json!({"percent": percent}));
        manifest
    };
    let (first, second, none) = (mirrored(Some(20)), mirrored(Some(50)), mirrored(None));
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(first)).await.0, StatusCode::OK);
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let mut it = it.reopen().await;
    it.settle().await;
    let shadow = it.publisher.after(0).await.unwrap().services[0].shadow.unwrap();
    assert_eq!((shadow.revision.0, shadow.percent, split(&it).await), (2, 20, vec![(2, 0), (1, 100)]));
    assert_eq!(it.condition("spam", ConditionKind::RolledOut).await.1, "Shadow");
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(second)).await.0, StatusCode::OK);
    it.settle().await;
    let shadow = it.publisher.after(0).await.unwrap().services[0].shadow.unwrap();
    assert_eq!((shadow.percent, it.fake.ids().len()), (50, 2));
    assert_eq!(it.service("spam").await.status.unwrap().latest_created_revision.unwrap().0, 2);
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(none)).await.0, StatusCode::OK);
    it.settle().await;
    assert!(it.publisher.after(0).await.unwrap().services[0].shadow.is_none());
    assert_eq!(it.condition("spam", ConditionKind::RolledOut).await.0, "True");
}

#[tokio::test]
async fn a_share_of_the_traffic_is_no_revision_and_outlives_the_controller() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(shared(&it, 4, Some(10)))).await.0, StatusCode::OK);
    it.settle().await;
    assert_eq!(split(&it).await, []);
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(split(&it).await, [(2, 10), (1, 90)]);
    let mut it = it.reopen().await;
    it.settle().await;
    assert_eq!(split(&it).await, [(2, 10), (1, 90)]);
    let before = it.service("spam").await;
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(shared(&it, 4, Some(50)))).await.0, StatusCode::OK);
    it.settle().await;
    assert_eq!(split(&it).await, [(2, 50), (1, 50)]);
    let after = it.service("spam").await;
    assert_eq!(after.metadata.generation, before.metadata.generation.map(|generation| generation + 1));
    let status = after.status.unwrap();
    assert_eq!(Some(status.observed_generation), after.metadata.generation);
    assert_eq!((status.latest_created_revision.unwrap().0, status.latest_rolled_out_revision.unwrap().0), (2, 1));
    assert_eq!(it.fake.ids().len(), 2);
    assert_eq!(it.condition("spam", ConditionKind::RolledOut).await.1, "Canary");

    // All of it, and back again: the old revision is started once more.
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(shared(&it, 4, None))).await.0, StatusCode::OK);
    it.settle().await;
    it.fake.finish();
    it.settle().await;
    assert_eq!((split(&it).await, it.fake.ids().len()), (vec![], 1));
    assert_eq!(it.condition("spam", ConditionKind::RolledOut).await.0, "True");
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(shared(&it, 4, Some(0)))).await.0, StatusCode::OK);
    it.settle().await;
    assert_eq!(split(&it).await, []);
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(split(&it).await, [(2, 0), (1, 100)]);
    let reasons = it.reasons().await;
    for reason in ["RevisionRolledOut", "TrafficShifted"] {
        assert!(reasons.iter().any(|found| found == reason), "{reason} {reasons:?}");
    }
    assert!(!reasons.iter().any(|reason| reason == "PlanRefused"), "{reasons:?}");
}

#[tokio::test]
async fn as_many_processes_wait_as_were_asked_for() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    // No service may be without a replica.
    assert_eq!(it.fake.state().warm, 0);
    it.reconciler.config.warm_pool = Some(3);
    it.settle().await;
    assert_eq!(it.fake.state().warm, 3);
    it.reconciler.config.warm_pool = Some(0);
    it.settle().await;
    assert_eq!(it.fake.state().warm, 0);
}

#[tokio::test]
async fn short_memory_takes_replicas_and_gives_them_back() {
    let mut it = Fixture::new().await;
    let gib = |available_bytes: u64| Some(Memory { available_bytes: available_bytes << 30, total_bytes: 100 << 30 });
    it.fake.state().memory = gib(50);
    it.deploy("eggs", 3, 2).await;
    it.deploy("spam", 4, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let mut important = manifest("spam", &it.model("spam", 4), 1);
    important["spec"]["placement"] = serde_json::json!({"priority": 10});
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(important)).await.0, StatusCode::OK);
    assert_eq!(it.service("spam").await.status.unwrap().latest_created_revision.unwrap().0, 1);
    it.fake.state().memory = gib(3);
    it.settle().await;
    it.fake.finish();
    it.settle().await;
    // One, though it was looked at many times: the next comes ten seconds later.
    assert_eq!(it.fake.ids().iter().filter(|id| id.starts_with("eggs")).count(), 1);
    let (status, reason, message) = it.condition("eggs", ConditionKind::PredictorReady).await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Evicted"));
    assert!(message.contains("revision 1 may have 1 replica instead of 2"), "{message}");
    assert_eq!(it.condition("eggs", ConditionKind::Ready).await.0, "True");
    assert_eq!(it.reasons().await.iter().filter(|reason| *reason == "Evicted").count(), 1);
    let text = it.reconciler.metrics.text().unwrap();
    assert!(text.contains("berth_controller_evictions_total 1"), "{text}");
    // A minute of enough memory later it is as before; the minute is made short by what is remembered.
    it.fake.state().memory = gib(50);
    it.settle().await;
    assert_eq!(it.fake.ids().len(), 2);
    it.reconciler.pressure.as_mut().unwrap().calm_since_ms = Some(0);
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(it.fake.ids().len(), 3);
    assert_eq!(it.condition("eggs", ConditionKind::PredictorReady).await.0, "True");
}
