//! Lists, statistics and contracts, which no one replica could give.

use http::Method;
use serde_json::{Value, json};

use super::support::{
    Act, Replica, Seen, World, bearer, full, grpc_request, message, ok, record, replica, service, set, spam,
};

/// A replica that has answered `count` requests.
fn counting(dir: &tempfile::TempDir, name: &str, count: u64) -> Replica {
    replica(dir, name, move |seen: Seen| async move {
        let (head, _) = seen.read().await;
        assert_eq!(head.uri.path(), "/v2/models/spam/stats");
        let span = json!({"count": count, "ns": count * 100});
        let spans = json!({
            "success": span, "fail": span, "queue": span, "compute_input": span, "compute_infer": span,
            "compute_output": span, "cache_hit": {"count": 0, "ns": 0}, "cache_miss": {"count": 0, "ns": 0},
        });
        let version = json!({
            "name": "spam", "version": "1", "last_inference": 1000 + count, "inference_count": count * 4,
            "execution_count": count, "inference_stats": spans, "batch_stats": [],
        });
        ok(json!({"model_stats": [version]}).to_string())
    })
}

async fn rest(world: &World, method: Method, path: &str, body: &str) -> (u16, Value) {
    let answer = world.send(world.request(method, path).body(full(body.to_owned())).unwrap()).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn statistics_are_those_of_all_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (counting(&dir, "a", 2), counting(&dir, "b", 3));
    let dead = replica(&dir, "c", |_| async { Act::Close });
    let world = World::start(spam(&[&a, &b, &dead])).await;
    for path in ["/v2/models/spam/stats", "/v2/models/spam/versions/1/stats"] {
        let (status, answer) = rest(&world, Method::GET, path, "").await;
        let version = &answer["model_stats"][0];
        assert_eq!((status, answer["model_stats"].as_array().unwrap().len()), (200, 1));
        assert_eq!((&version["inference_count"], &version["last_inference"]), (&json!(20), &json!(1003)));
        assert_eq!(version["inference_stats"]["compute_infer"], json!({"count": 5, "ns": 500}));
    }
    let path = "/inference.GRPCInferenceService/ModelStatistics";
    let answer = world.grpc().await.send(grpc_request(path, Some(&world.bearer()), &message("spam", ""))).await;
    assert_eq!(answer.grpc_status(), Some(0));
    // `inference_count`, field 4, and `execution_count`, field 5.
    assert!(answer.body.windows(4).any(|window| window == [0x20, 20, 0x28, 5]));
    world.publish(|snapshot| set(snapshot, &[])).await;
    let (status, answer) = rest(&world, Method::GET, "/v2/models/spam/stats", "").await;
    assert_eq!((status, answer["error"].as_str().unwrap().contains("no replica")), (503, true));
}

#[tokio::test]
async fn lists_have_what_the_key_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let a = counting(&dir, "a", 1);
    let reader = access::generate().unwrap();
    let mut snapshot = spam(&[&a]);
    snapshot.services.push(service("ham", &[]));
    snapshot.services.push(service("eggs", &[]));
    snapshot.services[2].revisions.clear();
    snapshot.services[2].default_revision = None;
    snapshot.keys.push(record(&reader, &["metadata:spam", "infer:ham"]));
    let world = World::start(snapshot).await;
    let ready = json!({"name": "spam", "version": "1", "state": "READY", "reason": ""});
    let unready = json!({"name": "ham", "version": "1", "state": "UNAVAILABLE", "reason": "no replica is ready"});
    let none = json!({"name": "eggs", "state": "UNAVAILABLE", "reason": "no revision is ready"});
    let names = json!({"models": ["eggs", "ham", "spam"]});
    assert_eq!(rest(&world, Method::GET, "/v2/models", "").await, (200, names.clone()));
    let (status, listed) = rest(&world, Method::GET, "/v1/models", "").await;
    assert_eq!((status, &listed["models"], &listed["object"]), (200, &names["models"], &json!("list")));
    let ids: Vec<&Value> = listed["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(json!(ids), names["models"]);
    for (body, wanted) in [
        ("", json!([none, unready, ready])),
        ("{}", json!([none, unready, ready])),
        (r#"{"ready":false}"#, json!([none, unready, ready])),
        (r#"{"ready":true}"#, json!([ready])),
    ] {
        assert_eq!(rest(&world, Method::POST, "/v2/repository/index", body).await, (200, wanted), "{body}");
    }
    for (body, wanted) in [("[", 400), (r#"{"ready":3}"#, 400), (&*" ".repeat(20_000), 413)] {
        assert_eq!(rest(&world, Method::POST, "/v2/repository/index", body).await.0, wanted);
    }
    let mut client = world.client().await;
    for (method, path, wanted) in [
        ("GET", "/v2/models", json!({"models": ["ham", "spam"]})),
        ("POST", "/v2/repository/index", json!([unready, ready])),
    ] {
        let request = http::Request::builder().method(method).uri(path).header("host", "g");
        let request = request.header("authorization", bearer(&reader)).body(full("")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&client.send(request).await.body).unwrap(), wanted);
    }
    assert_eq!(a.count(), 0);
}

#[tokio::test]
async fn the_index_over_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let a = counting(&dir, "a", 1);
    let mut snapshot = spam(&[&a]);
    snapshot.services.push(service("ham", &[]));
    let world = World::start(snapshot).await;
    let path = "/inference.GRPCInferenceService/RepositoryIndex";
    let call = async |message: &[u8]| world.grpc().await.send(grpc_request(path, Some(&world.bearer()), message)).await;
    let has = |body: &[u8], text: &[u8]| body.windows(text.len()).any(|window| window == text);
    let all = call(&[]).await;
    assert_eq!(all.grpc_status(), Some(0));
    assert!(has(&all.body, b"spam") && has(&all.body, b"ham") && has(&all.body, b"UNAVAILABLE"));
    // `ready`, field 2.
    let ready = call(&[0x10, 1]).await;
    assert!(has(&ready.body, b"spam") && has(&ready.body, b"READY") && !has(&ready.body, b"ham"));
    assert_eq!(call(&[0xff]).await.grpc_status(), Some(3));
}

#[tokio::test]
async fn nothing_is_loaded_by_requests() {
    let world = World::start(spam(&[])).await;
    for change in ["load", "unload"] {
        // Services that are there and those that are not are answered alike.
        for name in ["spam", "missing"] {
            let path = format!("/v2/repository/models/{name}/{change}");
            let (status, answer) = rest(&world, Method::POST, &path, "{}").await;
            assert_eq!((status, answer["error"].as_str().unwrap().contains("berth deploy")), (501, true), "{path}");
        }
    }
    for method in ["RepositoryModelLoad", "RepositoryModelUnload"] {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let answer = world.grpc().await.send(grpc_request(&path, Some(&world.bearer()), &[])).await;
        assert_eq!(answer.grpc_status(), Some(12));
        assert!(answer.header("grpc-message").unwrap().contains("berth deploy"));
    }
}

#[tokio::test]
async fn contracts_are_those_that_the_key_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &'static str| {
        replica(&dir, name, move |seen: Seen| async move {
            assert_eq!(seen.head.uri.path(), format!("/v2/models/{name}/openapi.json"));
            ok(json!({"paths": {format!("/v2/models/{name}"): {"get": {}}}}).to_string())
        })
    };
    let (one, other) = (of("spam"), of("ham"));
    let reader = access::generate().unwrap();
    let mut snapshot = spam(&[&one]);
    snapshot.services.push(service("ham", &[&other]));
    snapshot.services.push(service("eggs", &[]));
    snapshot.keys.push(record(&reader, &["infer:ham"]));
    let world = World::start(snapshot).await;
    let (status, whole) = rest(&world, Method::GET, "/openapi.json", "").await;
    assert_eq!((status, &whole["openapi"]), (200, &json!("3.1.0")));
    let has =
        |whole: &Value| ["spam", "ham", "eggs"].map(|name| whole["paths"][format!("/v2/models/{name}")].is_object());
    assert_eq!(has(&whole), [true, true, false]);
    let request = http::Request::get("/openapi.json").header("host", "g").header("authorization", bearer(&reader));
    let answer = world.send(request.body(full("")).unwrap()).await;
    assert_eq!(has(&serde_json::from_slice(&answer.body).unwrap()), [false, true, false]);
}
