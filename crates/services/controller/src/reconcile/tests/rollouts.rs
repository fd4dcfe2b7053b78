//! Rollouts that judge themselves, with windows as a gateway hands them over and answers as replicas count them.

use http::StatusCode;
use resources::{
    condition::ConditionKind,
    digest::OutputCounts,
    id::{Revision, ServiceName},
    rollout::{RolloutPhase, RolloutStatus},
    window::{GatewayWindow, RevisionWindow, ServiceWindow},
};
use serde_json::json;

use super::{Fixture, manifest, split};

/// The manifest of `spam` with a model of this seed, which takes over by two steps.
fn stepped(it: &Fixture, seed: u8) -> serde_json::Value {
    let mut manifest = manifest("spam", &it.model("spam", seed), 1);
    manifest["spec"]["rollout"] = json!({
        "steps": [{"percent": 5, "minSeconds": 0}, {"percent": 50, "minSeconds": 0}],
        "analysis": {"minRequests": 40},
    });
    manifest
}

/// Revision 1 answers everything and revision 2 is ready for its first step.
async fn two_revisions() -> Fixture {
    let mut it = Fixture::new().await;
    assert_eq!(it.call("POST", "/inferenceservices", Some(stepped(&it, 3))).await.0, StatusCode::CREATED);
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(stepped(&it, 4))).await.0, StatusCode::OK);
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(split(&it).await, [(2, 5), (1, 95)]);
    it
}

/// A second of the gateway: requests and errors of both revisions.
fn second(it: &Fixture, counted: [(u64, u32, u32); 2]) {
    let revision = |(revision, answered, errors): (u64, u32, u32)| {
        let mut service = resources::histogram::Histogram::default();
        (0..answered).for_each(|_| service.record(5.0));
        let latency = service.clone();
        RevisionWindow { revision: Revision(revision), answered, errors, busy_ms: 0, latency, service }
    };
    let revisions = counted.map(revision).to_vec();
    let name = ServiceName::parse("spam").unwrap();
    let spam = ServiceWindow { name, arrivals: 0, held: 0, held_ms: 0, refused: 0, revisions };
    // The windows of one test come after each other however fast it is.
    let now_ms = daemon::time::now_ms();
    let end_ms = it.reconciler.windows.after(0).last().map_or(now_ms, |last| last.end_ms.max(now_ms)) + 1;
    it.reconciler.windows.take(GatewayWindow { end_ms, span_ms: 1000, services: vec![spam] }, now_ms).unwrap();
}

async fn rollout(it: &Fixture) -> RolloutStatus {
    it.service("spam").await.status.unwrap().rollout.unwrap()
}

#[tokio::test]
async fn a_good_revision_goes_up_the_steps() {
    let mut it = two_revisions().await;
    second(&it, [(1, 900, 1), (2, 50, 0)]);
    it.settle().await;
    assert_eq!(split(&it).await, [(2, 50), (1, 50)]);
    assert_eq!((rollout(&it).await.step, rollout(&it).await.requests), (2, 50));
    second(&it, [(1, 500, 1), (2, 500, 0)]);
    it.settle().await;
    it.fake.finish();
    it.settle().await;
    assert_eq!((split(&it).await, it.fake.ids().len()), (vec![], 1));
    assert_eq!(it.condition("spam", ConditionKind::RolledOut).await.0, "True");
    assert_eq!(rollout(&it).await.phase, RolloutPhase::Promoted);
    let reasons = it.reasons().await;
    for reason in ["RolloutStarted", "RolloutStep", "RolloutPromoted", "RevisionRolledOut"] {
        assert!(reasons.iter().any(|found| found == reason), "{reason} {reasons:?}");
    }
}

#[tokio::test]
async fn one_that_fails_is_rolled_back_though_the_controller_ends_in_the_middle() {
    let mut it = two_revisions().await;
    second(&it, [(1, 900, 1), (2, 30, 4)]);
    it.settle().await;
    assert_eq!(rollout(&it).await.phase, RolloutPhase::Judging);
    let mut it = it.reopen().await;
    it.settle().await;
    assert_eq!((split(&it).await, rollout(&it).await.requests), (vec![(2, 5), (1, 95)], 30));
    second(&it, [(1, 900, 1), (2, 30, 4)]);
    it.settle().await;
    it.fake.finish();
    it.settle().await;
    let (status, reason, message) = it.condition("spam", ConditionKind::RolledOut).await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "RolledBack"));
    assert!(message.contains("8 of its 60 requests failed"), "{message}");
    assert_eq!((split(&it).await, it.fake.ids().len()), (vec![], 1));
    assert!(it.fake.ids()[0].starts_with("spam-1-"));
    // It stays so, and what is deployed next is judged anew.
    let mut it = it.reopen().await;
    it.settle().await;
    assert_eq!((it.fake.ids().len(), rollout(&it).await.phase), (1, RolloutPhase::RolledBack));
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(stepped(&it, 5))).await.0, StatusCode::OK);
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    assert_eq!((split(&it).await, rollout(&it).await.requests), (vec![(3, 5), (1, 95)], 0));
}

#[tokio::test]
async fn one_that_crash_loops_after_it_took_over_is_rolled_back() {
    let mut it = two_revisions().await;
    second(&it, [(1, 900, 1), (2, 50, 0)]);
    it.settle().await;
    second(&it, [(1, 500, 1), (2, 500, 0)]);
    it.settle().await;
    it.fake.finish();
    // When it took over is remembered.
    let mut it = it.reopen().await;
    it.settle().await;
    assert_eq!(rollout(&it).await.phase, RolloutPhase::Promoted);
    for _ in 0..2 {
        let ids = it.fake.ids();
        assert!(ids.len() == 1 && ids[0].starts_with("spam-2-"), "{ids:?}");
        it.fake.exit(&ids[0], "signal 9", "");
        it.settle().await;
        it.fake.all_ready();
        it.settle().await;
    }
    let ids = it.fake.ids();
    assert!(ids.len() == 1 && ids[0].starts_with("spam-1-"), "{ids:?}");
    let (status, reason, message) = it.condition("spam", ConditionKind::RolledOut).await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "RolledBack"));
    assert!(message.contains("s after it took over: 2 failures in a row (the last: signal 9)"), "{message}");
    assert_eq!(it.condition("spam", ConditionKind::Ready).await.0, "True");
    assert!(it.reasons().await.iter().any(|reason| reason == "RolledBack"));
    assert_eq!(it.service("spam").await.status.unwrap().latest_rolled_out_revision, Some(Revision(1)));
}

#[tokio::test]
async fn answers_that_fall_elsewhere_are_counted_replica_by_replica() {
    let mut it = two_revisions().await;
    let answered = |it: &Fixture, round: u64| {
        for (id, process) in &mut it.fake.state().processes {
            let (first, second) = if id.0.starts_with("spam-1-") { (500, 500) } else { (2, 38) };
            let counts = vec![(0, 7 + first * round), (1, 9 + second * round)];
            process.answer.as_mut().unwrap().outputs = vec![OutputCounts { output: "label".to_owned(), counts }];
        }
    };
    for round in 0..3 {
        answered(&it, round);
        it.settle().await;
    }
    let (_, reason, message) = it.condition("spam", ConditionKind::RolledOut).await;
    assert_eq!(reason, "RolledBack");
    assert!(message.contains("of its 96 answers in `label` fall elsewhere"), "{message}");
}

#[tokio::test]
async fn wishes_are_kept_apart_from_what_is_counted() {
    let mut it = two_revisions().await;
    let path = "/inferenceservices/spam/rollout";
    assert_eq!(it.call("PUT", path, Some(json!({"wish": "faster"}))).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(it.call("PUT", path, Some(json!({"wish": "pause"}))).await.0, StatusCode::OK);
    second(&it, [(1, 900, 0), (2, 90, 0)]);
    it.settle().await;
    assert_eq!((rollout(&it).await.phase, split(&it).await), (RolloutPhase::Paused, vec![(2, 5), (1, 95)]));
    assert_eq!(it.call("PUT", path, Some(json!({"wish": null}))).await.0, StatusCode::OK);
    it.settle().await;
    assert_eq!(split(&it).await, [(2, 50), (1, 50)]);
    assert_eq!(it.call("PUT", path, Some(json!({"wish": "abort"}))).await.0, StatusCode::OK);
    it.settle().await;
    assert_eq!((rollout(&it).await.phase, split(&it).await), (RolloutPhase::Aborted, vec![(2, 0), (1, 100)]));
    assert_eq!(it.condition("spam", ConditionKind::RolledOut).await.1, "Aborted");
    let service = it.service("spam").await;
    assert_eq!(service.status.unwrap().latest_created_revision, Some(Revision(2)));
    // A change of the steps alone is no revision either.
    let mut changed = stepped(&it, 4);
    changed["spec"]["rollout"]["steps"] = json!([{"percent": 10}]);
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(changed)).await.0, StatusCode::OK);
    it.settle().await;
    assert_eq!(it.service("spam").await.status.unwrap().latest_created_revision, Some(Revision(2)));
    it.deploy("eggs", 3, 1).await;
    let (code, _) = it.call("PUT", "/inferenceservices/eggs/rollout", Some(json!({"wish": "pause"}))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
}
