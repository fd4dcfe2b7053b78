//! From posted windows to processes, over a controller whose replicas only exist in memory.

use http::StatusCode;
use resources::condition::ConditionKind;
use serde_json::{Value, json};

use crate::fixture::{Fixture, manifest};

/// A service that scales, with everything ready.
async fn scaled(changes: Value) -> Fixture {
    let mut it = Fixture::new().await;
    let mut wanted = manifest("spam", &it.model("spam", 3), 1);
    let predictor = wanted["spec"]["predictor"].as_object_mut().unwrap();
    predictor.extend(changes.as_object().unwrap().clone());
    wanted["metadata"]["annotations"] =
        json!({"autoscaling.knative.dev/window": "6s", "autoscaling.knative.dev/scale-down-delay": "0s"});
    let (status, body) = it.call("POST", "/inferenceservices", Some(wanted)).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    it
}

/// Seconds of a load, the first of which ends at `from_ms`.
async fn load(it: &mut Fixture, from_ms: u64, seconds: u64, (arrivals, held): (u32, u32)) {
    for second in 0..seconds {
        let services = if arrivals + held == 0 {
            json!([])
        } else {
            json!([{"name": "spam", "arrivals": arrivals, "held": held, "heldMs": 0, "refused": 0, "revisions": []}])
        };
        let window = json!({"endMs": from_ms + second * 1000, "spanMs": 1000, "services": services});
        let (status, body) = it.call("POST", "/internal/gateway-window", Some(window)).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
        it.settle().await;
    }
}

async fn scale(it: &Fixture) -> (u64, u64) {
    let (_, service) = it.call("GET", "/inferenceservices/spam", None).await;
    let scale = &service["status"]["scale"];
    (scale["desired"].as_u64().unwrap(), scale["ready"].as_u64().unwrap())
}

#[tokio::test]
async fn more_load_has_more_replicas_and_less_fewer() {
    let mut it = scaled(json!({"minReplicas": 1, "maxReplicas": 4, "scaleMetric": "rps", "scaleTarget": 10})).await;
    let now_ms = daemon::time::now_ms();
    load(&mut it, now_ms, 8, (25, 0)).await;
    assert_eq!((it.fake.ids().len(), scale(&it).await.0), (3, 3));
    it.fake.all_ready();
    load(&mut it, now_ms + 8000, 8, (45, 0)).await;
    assert_eq!(it.fake.ids().len(), 4, "no more than are permitted");
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(scale(&it).await, (4, 4));
    load(&mut it, now_ms + 16_000, 40, (2, 0)).await;
    it.fake.finish();
    it.settle().await;
    assert_eq!((it.fake.ids().len(), scale(&it).await), (1, (1, 1)));
    let events = it.db.events(None, Some(0), 1000).await.unwrap();
    let said =
        |reason: &str, text: &str| events.iter().any(|event| event.reason == reason && event.message.contains(text));
    assert!(said("ScaledUp", "goes from 1 to 3 replicas: 25.0 requests/s"), "{events:?}");
    assert!(said("ScaledDown", "1 with 10 requests/s each"), "{events:?}");
    // No new revision was made by any of it.
    assert_eq!(it.db.revisions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_idle_service_has_none_until_a_request_waits() {
    let mut it = scaled(json!({"minReplicas": 0, "maxReplicas": 2})).await;
    assert_eq!(scale(&it).await, (1, 1));
    let now_ms = daemon::time::now_ms();
    load(&mut it, now_ms, 5, (0, 0)).await;
    assert_eq!(it.fake.ids().len(), 1, "it was not idle for long enough");
    load(&mut it, now_ms + 5000, 4, (0, 0)).await;
    it.fake.finish();
    it.settle().await;
    assert_eq!((it.fake.ids().len(), scale(&it).await), (0, (0, 0)));
    let (status, reason, _) = it.condition("spam", ConditionKind::Ready).await;
    assert_eq!((status.as_str(), reason.as_str()), ("True", "ScaledToZero"));
    let snapshot = it.publisher.after(0).await.unwrap();
    assert!(snapshot.services[0].wakes, "requests are let in");
    // A new controller finds it as it was.
    let mut it = it.reopen().await;
    it.settle().await;
    assert_eq!(it.fake.ids().len(), 0);
    // One pass is enough for one that waits.
    let window = json!({"endMs": now_ms + 9000, "spanMs": 300, "services": [
        {"name": "spam", "arrivals": 1, "held": 1, "heldMs": 0, "refused": 0, "revisions": []}
    ]});
    assert_eq!(it.call("POST", "/internal/gateway-window", Some(window)).await.0, StatusCode::NO_CONTENT);
    it.reconciler.pass().await.unwrap();
    assert_eq!(it.fake.ids().len(), 1);
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(scale(&it).await, (1, 1));
}

#[tokio::test]
async fn what_runs_stays_while_nothing_is_known() {
    let mut it = scaled(json!({"minReplicas": 1, "maxReplicas": 4, "scaleMetric": "rps", "scaleTarget": 10})).await;
    let now_ms = daemon::time::now_ms();
    load(&mut it, now_ms, 8, (25, 0)).await;
    it.fake.all_ready();
    it.settle().await;
    let mut it = it.reopen().await;
    it.settle().await;
    assert_eq!((it.fake.ids().len(), scale(&it).await), (3, (3, 3)));
    assert_eq!(it.fake.state().launches.len(), 3);
}

#[tokio::test]
async fn a_change_of_the_numbers_makes_no_revision() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    let mut changed = manifest("spam", &it.model("spam", 3), 2);
    changed["spec"]["slo"] = json!({"p99Ms": 50});
    let (_, body) = it.call("PUT", "/inferenceservices/spam", Some(changed)).await;
    assert_eq!(body["metadata"]["generation"], json!(2));
    it.settle().await;
    assert_eq!((it.db.revisions().await.unwrap().len(), it.fake.ids().len()), (1, 2));
}

#[tokio::test]
async fn a_larger_share_finds_its_replicas_at_once() {
    let scaling = json!({"minReplicas": 1, "maxReplicas": 8, "scaleMetric": "rps", "scaleTarget": 10});
    let mut it = scaled(scaling.clone()).await;
    let now_ms = daemon::time::now_ms();
    load(&mut it, now_ms, 8, (38, 0)).await;
    it.fake.all_ready();
    it.settle().await;
    assert_eq!(scale(&it).await, (4, 4));
    let mut wanted = manifest("spam", &it.model("spam", 4), 1);
    wanted["spec"]["predictor"].as_object_mut().unwrap().extend(scaling.as_object().unwrap().clone());
    for (percent, replicas) in [(20, 1), (80, 4)] {
        wanted["spec"]["predictor"]["canaryTrafficPercent"] = json!(percent);
        let (status, body) = it.call("PUT", "/inferenceservices/spam", Some(wanted.clone())).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        it.settle().await;
        it.fake.all_ready();
        it.settle().await;
        assert_eq!(scale(&it).await, (replicas, replicas), "{percent}");
    }
}
