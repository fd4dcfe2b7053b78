//! The resource API over a socket, as its clients see it.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Fixture, manifest, next_line};

fn reason(body: &Value) -> &str {
    body["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn services_are_made_read_changed_and_listed() {
    let it = Fixture::new().await;
    let model = it.model("spam", 3);
    let (status, made) = it.call("POST", "/inferenceservices", Some(manifest("spam", &model, 1))).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!((&made["metadata"]["generation"], &made["metadata"]["namespace"]), (&json!(1), &json!("default")));
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
    let (status, again) = it.call("POST", "/inferenceservices", Some(manifest("spam", &model, 1))).await;
    assert_eq!(
        (status, reason(&again), again["kind"].as_str()),
        (StatusCode::CONFLICT, "AlreadyExists", Some("Status"))
    );
    let (status, read) = it.call("GET", "/inferenceservices/spam", None).await;
    assert_eq!((status, &read), (StatusCode::OK, &made));
    let (status, list) = it.call("GET", "/inferenceservices", None).await;
    assert_eq!((status, &list["items"][0]), (StatusCode::OK, &made));
    assert_eq!(list["resourceVersion"], made["metadata"]["resourceVersion"]);
    for (method, path) in
        [("GET", "/inferenceservices/ham"), ("DELETE", "/inferenceservices/ham"), ("GET", "/nonsense")]
    {
        let (status, body) = it.call(method, path, None).await;
        assert_eq!((status, reason(&body)), (StatusCode::NOT_FOUND, "NotFound"), "{method} {path}");
    }
    assert_eq!(it.call("PATCH", "/inferenceservices/spam", None).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_unchanged_put_changes_nothing() {
    let it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    let (_, before) = it.call("GET", "/inferenceservices/spam", None).await;
    let events = it.reasons().await.len();
    // What was read can be sent back as it is.
    let (status, after) = it.call("PUT", "/inferenceservices/spam", Some(before.clone())).await;
    assert_eq!((status, &after), (StatusCode::OK, &before));
    // The same model from another place is the same model.
    let moved = manifest("spam", &it.model("elsewhere", 3), 1);
    let (_, moved) = it.call("PUT", "/inferenceservices/spam", Some(moved)).await;
    assert_eq!(moved["metadata"]["generation"], json!(1));
    assert_eq!(it.db.revisions().await.unwrap().len(), 1);
    assert_eq!(it.reasons().await.len(), events);
}

#[tokio::test]
async fn a_changed_spec_or_model_is_a_new_revision() {
    let it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    let model = it.model("spam", 3);
    let (_, scaled) = it.call("PUT", "/inferenceservices/spam", Some(manifest("spam", &model, 2))).await;
    assert_eq!(scaled["metadata"]["generation"], json!(2));
    // The same file with another content.
    it.model("spam", 4);
    let (_, changed) = it.call("PUT", "/inferenceservices/spam", Some(manifest("spam", &model, 2))).await;
    assert_eq!(changed["metadata"]["generation"], json!(3));
    let revisions = it.db.revisions().await.unwrap();
    let bundles: Vec<_> = revisions.iter().map(|revision| &revision.bundle).collect();
    // How many replicas there are is no part of a revision.
    assert_eq!(bundles.len(), 2);
    assert!(bundles[0] != bundles[1]);
    // A model of the store, by its digest.
    let mut pinned = manifest("spam", &model, 2);
    pinned["spec"]["predictor"]["model"]["storageUri"] = json!(format!("bundle://{}", bundles[0]));
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(pinned)).await.0, StatusCode::OK);
    let revisions = it.db.revisions().await.unwrap();
    assert_eq!(revisions[2].bundle, revisions[0].bundle);
}

#[tokio::test]
async fn a_stale_version_is_a_conflict() {
    let it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    let (_, stale) = it.call("GET", "/inferenceservices/spam", None).await;
    let (_, _) = it.call("PUT", "/inferenceservices/spam", Some(manifest("spam", &it.model("spam", 3), 2))).await;
    let (status, body) = it.call("PUT", "/inferenceservices/spam", Some(stale.clone())).await;
    assert_eq!((status, reason(&body)), (StatusCode::CONFLICT, "Conflict"));
    let mut foreign = stale;
    foreign["metadata"]["resourceVersion"] = Value::Null;
    foreign["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    assert_eq!(it.call("PUT", "/inferenceservices/spam", Some(foreign)).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_made() {
    let it = Fixture::new().await;
    let good = manifest("spam", &it.model("spam", 3), 1);
    let mut unknown = good.clone();
    unknown["spec"]["predictor"]["minReplica"] = json!(2);
    let mut pickle = good.clone();
    std::fs::write(it.home.path().join("m.onnx"), b"\x80\x04\x95 not a model").unwrap();
    pickle["spec"]["predictor"]["model"]["storageUri"] = json!(format!("file://{}/m.onnx", it.home.path().display()));
    let mut missing = good.clone();
    missing["spec"]["predictor"]["model"]["storageUri"] = json!("file:///nowhere/m.onnx");
    let mut absent = good.clone();
    absent["spec"]["predictor"]["model"]["storageUri"] = json!(format!("bundle://sha256:{}", "0".repeat(64)));
    let mut other = good.clone();
    other["spec"]["predictor"]["model"]["modelFormat"]["name"] = json!("lightgbm");
    for (wrong, says) in [
        (unknown, "minReplicas"),
        (pickle, "pickle"),
        (missing, "/nowhere/m.onnx"),
        (absent, "sha256:000"),
        (other, "it is `lightgbm`, and the model's content is `onnx`"),
    ] {
        let (status, body) = it.call("POST", "/inferenceservices", Some(wrong)).await;
        assert_eq!((status, reason(&body)), (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"), "{body}");
        assert!(body["message"].as_str().unwrap().contains(says), "{body}");
    }
    let (status, body) = it.call("POST", "/inferenceservices", Some(json!("x".repeat(1024 * 1024)))).await;
    assert_eq!((status, reason(&body)), (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge"));
    let (status, body) = it.call("PUT", "/inferenceservices/ham", Some(good)).await;
    assert_eq!((status, reason(&body)), (StatusCode::BAD_REQUEST, "BadRequest"), "path and name differ");
    assert!(it.db.services().await.unwrap().0.is_empty());
    assert!(it.reasons().await.iter().all(|reason| reason == "ModelRefused"));
}

#[tokio::test]
async fn a_watch_tells_every_change_in_order() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    let version = it.db.services().await.unwrap().1;
    let (status, mut all) = it.stream("/inferenceservices?watch=true").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(next_line(&mut all).await["type"], "ADDED");
    let (_, mut later) = it.stream(&format!("/inferenceservices?watch=true&resourceVersion={version}")).await;
    it.call("DELETE", "/inferenceservices/spam", None).await;
    it.settle().await;
    for stream in [&mut all, &mut later] {
        let (mut last, mut kinds) = (0, Vec::new());
        loop {
            let line = next_line(stream).await;
            let seen: u64 = line["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            assert!(seen > last, "{line}");
            last = seen;
            kinds.push(line["type"].as_str().unwrap().to_owned());
            if line["type"] == "DELETED" {
                break;
            }
        }
        assert_eq!(kinds.first().map(String::as_str), Some("MODIFIED"));
    }
}

#[tokio::test]
async fn a_watch_from_too_long_ago_is_expired() {
    let it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    let it = it.reopen().await;
    let (status, body) = it.call("GET", "/inferenceservices?watch=true&resourceVersion=0", None).await;
    assert_eq!((status, reason(&body)), (StatusCode::GONE, "Expired"));
    let version = it.db.services().await.unwrap().1;
    assert_eq!(it.stream(&format!("/inferenceservices?watch=true&resourceVersion={version}")).await.0, StatusCode::OK);
    assert_eq!(it.call("GET", "/inferenceservices?wach=true", None).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn events_are_listed_and_watched() {
    let it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.deploy("ham", 3, 1).await;
    let (_, body) = it.call("GET", "/events?service=ham", None).await;
    let reasons: Vec<_> =
        body["items"].as_array().unwrap().iter().map(|event| event["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["Created", "RevisionCreated"]);
    let (_, body) = it.call("GET", "/events?limit=1", None).await;
    assert_eq!((&body["items"][0]["service"], body["items"].as_array().unwrap().len()), (&json!("ham"), 1));
    let (_, mut stream) = it.stream("/events?watch=true&after=2").await;
    assert_eq!(next_line(&mut stream).await["service"], "ham");
    assert_eq!(next_line(&mut stream).await["reason"], "RevisionCreated");
    it.call("DELETE", "/inferenceservices/spam", None).await;
    assert_eq!(next_line(&mut stream).await["reason"], "Deleting");
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let mut it = Fixture::new().await;
    it.settle().await;
    // Nobody serves the snapshots, and a controller that is stopping does not wait for it.
    it.supervisor.stop();
    let asked = json!({"name": "reader", "allow": ["infer:spam"]});
    let (status, made) = it.call("POST", "/keys", Some(asked.clone())).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with(&format!("berth_{}_", made["id"].as_str().unwrap())));
    assert_eq!(it.call("POST", "/keys", Some(asked)).await.0, StatusCode::CONFLICT);
    let (_, list) = it.call("GET", "/keys", None).await;
    assert_eq!((&list["items"][0]["name"], list.to_string().contains(key)), (&json!("reader"), false));
    assert!(!list.to_string().contains("digest"));
    // The key is in the snapshot before anything reconciles.
    let snapshot = it.publisher.after(0).await.unwrap();
    assert_eq!(snapshot.keys[0].id, made["id"]);

    let (status, revoked) = it.call("DELETE", "/keys/reader", None).await;
    assert_eq!((status, &revoked), (StatusCode::OK, &json!({"revoked": made["id"], "appliedByGateway": false})));
    assert!(it.publisher.after(snapshot.generation).await.unwrap().keys.is_empty());
    assert_eq!(it.call("DELETE", "/keys/reader", None).await.0, StatusCode::NOT_FOUND);
    for wrong in [
        json!({"name": "a", "allow": []}),
        json!({"name": "A", "allow": ["metrics"]}),
        json!({"name": "a", "allow": ["x"]}),
    ] {
        assert_eq!(it.call("POST", "/keys", Some(wrong)).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn a_revocation_waits_for_the_gateway() {
    let mut it = Fixture::new().await;
    it.settle().await;
    let publisher = it.publisher.clone();
    let gateway = async {
        let mut served = 0;
        // As the gateway does: asks for what follows what it serves. Made and revoked: two snapshots.
        for _ in 0..3 {
            let snapshot = publisher.after(served).await.unwrap();
            served = snapshot.generation;
            publisher.acknowledge(served).await.unwrap();
        }
    };
    let person = async {
        let (_, made) = it.call("POST", "/keys", Some(json!({"name": "k", "allow": ["metrics"]}))).await;
        let (_, revoked) = it.call("DELETE", &format!("/keys/{}", made["id"].as_str().unwrap()), None).await;
        assert_eq!(revoked["appliedByGateway"], json!(true));
    };
    tokio::join!(gateway, person);
}

#[tokio::test]
async fn what_a_gateway_could_not_keep_is_not_acknowledged() {
    let mut it = Fixture::new().await;
    it.settle().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    it.fake.all_ready();
    it.settle().await;
    // Each of these polls is behind, and so answered at once.
    assert!(it.publisher.generation() >= 3);
    it.publisher.forget_gateway();
    for (query, acknowledged) in
        [("after=0", 0), ("after=1&kept=0", 0), ("after=2&kept=1", 1), ("after=2", 2), ("after=1&kept=9", 2)]
    {
        let (status, _) = it.call("GET", &format!("/internal/gateway-snapshot?{query}"), None).await;
        assert_eq!((status, it.publisher.acknowledged()), (StatusCode::OK, acknowledged), "{query}");
    }
}

#[tokio::test]
async fn the_platform_says_how_it_is() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 1).await;
    it.settle().await;
    let (status, body) = it.call("GET", "/status", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&body["services"], &body["replicas"], &body["listen"]),
        (&json!(1), &json!(1), &json!("127.0.0.1:8080"))
    );
    assert_eq!((&body["gateway"]["ready"], &body["pid"]), (&json!(false), &json!(std::process::id())));
    let (_, metrics) = it.call("GET", "/metrics", None).await;
    assert!(metrics.as_str().unwrap().contains("berth_controller_passes_total 4"), "{metrics}");
    let (_, polled) = it.call("GET", "/internal/gateway-snapshot?after=0", None).await;
    assert_eq!(polled["services"][0]["name"], "spam");
}

#[tokio::test]
async fn logs_are_read_by_replica() {
    let mut it = Fixture::new().await;
    it.deploy("spam", 3, 2).await;
    it.settle().await;
    let logs = it.home.path().join("d/logs");
    let ids = it.fake.ids();
    for id in &ids {
        std::fs::write(logs.join(format!("{id}.log")), format!("first\nhello of {id}\n")).unwrap();
    }
    let (_, text) = it.call("GET", "/inferenceservices/spam/logs?tail=1", None).await;
    let text = text.as_str().unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(ids.iter().all(|id| text.contains(&format!("{id}  hello of {id}\n"))), "{text}");
    let (_, one) = it.call("GET", &format!("/inferenceservices/spam/logs?replica={}", ids[0]), None).await;
    assert_eq!(one.as_str().unwrap(), format!("first\nhello of {}\n", ids[0]));
    assert_eq!(it.call("GET", "/inferenceservices/spam/logs?replica=../x", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(it.call("GET", "/inferenceservices/ham/logs", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn windows_of_the_gateway_are_kept_and_wake_the_loop() {
    let it = Fixture::new().await;
    let window = |held: u32, span_ms: u64| {
        let spam = json!({"name": "spam", "arrivals": 1, "held": held, "heldMs": 0, "refused": 0, "revisions": []});
        json!({"endMs": daemon::time::now_ms(), "spanMs": span_ms, "services": [spam]})
    };
    let path = "/internal/gateway-window";
    assert_eq!(it.call("POST", path, Some(window(0, 1000))).await.0, StatusCode::NO_CONTENT);
    let (status, body) = it.call("POST", path, Some(window(0, 0))).await;
    assert_eq!((status, reason(&body)), (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"));
    assert_eq!(it.call("POST", path, Some(json!({"endMs": "x"}))).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(it.reconciler.windows.after(0).len(), 1);
    let woken = it.db.wake().notified();
    assert_eq!(it.call("POST", path, Some(window(3, 400))).await.0, StatusCode::NO_CONTENT);
    woken.await;
    assert_eq!(it.reconciler.windows.after(0)[1].services[0].held, 3);
}
