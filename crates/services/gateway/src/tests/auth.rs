//! Who is let in, on every route of both protocols.

use http::{Method, Request};

use super::support::{
    Replica, World, bearer, full, grpc_ok, grpc_request, message, named, ok, record, replica, service, spam,
};

const INFER: &str = "/v2/models/spam/infer";
const PREDICT: &str = "/v1/models/spam:predict";
const OPEN: [(&str, &str); 2] = [("GET", "/livez"), ("GET", "/readyz")];
const STATISTICS: &str =
    r#"{"model_stats":[{"name":"spam","version":"1","last_inference":7,"inference_count":2,"execution_count":1}]}"#;
/// Every REST route, and one that is none.
const ROUTES: [(&str, &str); 26] = [
    ("GET", "/v2"),
    ("GET", "/v2/"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/v2/models/spam"),
    ("GET", "/v2/models/spam/ready"),
    ("GET", "/v2/models/spam/stats"),
    ("GET", "/v2/models/spam/versions/1"),
    ("GET", "/v2/models/spam/versions/1/ready"),
    ("POST", "/v2/models/spam/versions/1/infer"),
    ("POST", INFER),
    ("GET", "/v2/models/spam/versions/1/stats"),
    ("GET", "/v2/models/spam/openapi.json"),
    ("GET", "/openapi.json"),
    ("GET", "/v2/models"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/spam"),
    ("POST", PREDICT),
    ("POST", "/v1/models/spam/versions/1:predict"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/spam/load"),
    ("POST", "/v2/repository/models/spam/unload"),
    ("GET", "/"),
    ("OPTIONS", INFER),
    ("POST", "/inference.GRPCInferenceService/ModelInfer"),
];
/// Every gRPC method, and two that are none.
const METHODS: [&str; 16] = [
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/ServerMetadata",
    "/inference.GRPCInferenceService/ModelReady",
    "/inference.GRPCInferenceService/ModelMetadata",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelStatistics",
    "/inference.GRPCInferenceService/RepositoryIndex",
    "/inference.GRPCInferenceService/RepositoryModelLoad",
    "/inference.GRPCInferenceService/RepositoryModelUnload",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/",
];

fn both(dir: &tempfile::TempDir, name: &'static str) -> Replica {
    replica(dir, name, |seen| async move {
        let (head, _) = seen.read().await;
        if head.uri.path().ends_with("/stats") {
            return ok(STATISTICS);
        }
        if head.headers.contains_key("te") { grpc_ok(b"x") } else { ok("x") }
    })
}

/// What stands in the `authorization` header, and why it is not let in.
fn strangers(world: &World) -> Vec<(&'static str, Vec<String>)> {
    let stranger = access::generate().unwrap();
    let other = stranger.key.expose().rsplit_once('_').unwrap().1.to_owned();
    let key = world.key.key.expose();
    vec![
        ("no key", vec![]),
        ("empty", vec![String::new()]),
        ("no scheme", vec![key.to_owned()]),
        ("another scheme", vec![format!("Basic {key}")]),
        ("not a key", vec!["Bearer sesame".to_owned()]),
        ("unknown", vec![bearer(&stranger)]),
        ("wrong secret", vec![format!("Bearer berth_{}_{other}", world.key.id)]),
        ("longer", vec![format!("{}0", world.bearer())]),
        ("twice", vec![world.bearer(), world.bearer()]),
    ]
}

#[tokio::test]
async fn nobody_without_a_key_gets_past_the_door() {
    let dir = tempfile::tempdir().unwrap();
    let replica = both(&dir, "a");
    let world = World::start(spam(&[&replica])).await;
    let (mut h1, mut h2) = (world.client().await, world.grpc().await);
    for (why, headers) in strangers(&world) {
        for (method, path) in ROUTES {
            let mut request = Request::builder().method(method).uri(path).header("host", "gateway");
            for value in &headers {
                request = request.header("authorization", value);
            }
            let answer = h1.send(request.body(full("")).unwrap()).await;
            assert_eq!(answer.status, 401, "{method} {path} with {why}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(answer.text().starts_with("{\"error\":"), "{}", answer.text());
        }
        for path in METHODS {
            let mut request = grpc_request(path, None, &message("spam", ""));
            for value in &headers {
                request.headers_mut().append("authorization", value.parse().unwrap());
            }
            let answer = h2.send(request).await;
            assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some("16")), "{path} with {why}");
            assert!(answer.body.is_empty() && answer.trailers.is_empty());
        }
        for (method, path) in OPEN {
            let request = Request::builder().method(method).uri(path).header("host", "gateway");
            assert_eq!(h1.send(request.body(full("")).unwrap()).await.status, 200, "{path}");
        }
    }
    assert_eq!(replica.count(), 0);
}

#[tokio::test]
async fn a_key_opens_what_it_permits_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (both(&dir, "a"), both(&dir, "b"));
    let keys = ["infer:spam", "metadata:spam", "infer:ham", "metadata:*", "metrics", "infer:gone"];
    let keys: Vec<_> = keys.iter().map(|allow| (*allow, access::generate().unwrap())).collect();
    let mut snapshot = spam(&[&a]);
    snapshot.services.push(service("ham", &[&b]));
    snapshot.keys.extend(keys.iter().map(|(allow, key)| record(key, &[allow])));
    let world = World::start(snapshot).await;
    // Path, and the keys that it answers 200; the others get 403 but where the third column says so.
    let table: [(&str, &str, &[&str], &[&str]); 16] = [
        ("POST", INFER, &["infer:spam"], &[]),
        ("GET", "/v2/models/spam", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("GET", "/v2/models/spam/ready", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("POST", "/v2/models/ham/infer", &["infer:ham"], &[]),
        ("GET", "/metrics", &["metrics"], &[]),
        ("GET", "/v2/models/missing", &[], &["metadata:*"]),
        ("POST", "/v2/models/gone/infer", &[], &["infer:gone"]),
        ("POST", PREDICT, &["infer:spam"], &[]),
        ("POST", "/v1/models/spam/versions/1:predict", &["infer:spam"], &[]),
        ("GET", "/v1/models/spam", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("POST", "/v1/models/gone:predict", &[], &["infer:gone"]),
        ("GET", "/v1/models/missing", &[], &["metadata:*"]),
        ("GET", "/v2/models/spam/openapi.json", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("GET", "/v2/models/spam/stats", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("GET", "/v2/models/spam/versions/1/stats", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("GET", "/v2/models/missing/stats", &[], &["metadata:*"]),
    ];
    let mut h1 = world.client().await;
    for (method, path, open, missing) in table {
        for (allow, key) in &keys {
            let request = Request::builder().method(method).uri(path).header("host", "g");
            let request = request.header("authorization", bearer(key)).body(full("")).unwrap();
            let wanted = match (open.contains(allow), missing.contains(allow)) {
                (true, _) => 200,
                (_, true) => 404,
                _ => 403,
            };
            assert_eq!(h1.send(request).await.status, wanted, "{method} {path} with {allow}");
        }
    }
    let table: [(&str, &str, &[&str], &[&str]); 6] = [
        ("ModelInfer", "spam", &["infer:spam"], &[]),
        ("ModelMetadata", "spam", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("ModelReady", "ham", &["infer:ham", "metadata:*"], &[]),
        ("ModelReady", "missing", &[], &["metadata:*"]),
        ("ModelStatistics", "spam", &["infer:spam", "metadata:spam", "metadata:*"], &[]),
        ("ModelStatistics", "missing", &[], &["metadata:*"]),
    ];
    let mut h2 = world.grpc().await;
    for (method, name, open, missing) in table {
        for (allow, key) in &keys {
            let path = format!("/inference.GRPCInferenceService/{method}");
            let answer = h2.send(grpc_request(&path, Some(&bearer(key)), &message(name, ""))).await;
            let wanted = match (open.contains(allow), missing.contains(allow)) {
                (true, _) => 0,
                (_, true) => 5,
                _ => 7,
            };
            assert_eq!(answer.grpc_status(), Some(wanted), "{method} {name} with {allow}");
        }
    }
}

#[tokio::test]
async fn every_key_may_ask_how_the_server_is() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let reader = access::generate().unwrap();
    let mut snapshot = spam(&[&a]);
    snapshot.services.push(service("ham", &[]));
    snapshot.keys.push(record(&reader, &["metadata:spam"]));
    let world = World::start(snapshot).await;
    let mut client = world.client().await;
    let mut get = async |path: &str, authorization: String| {
        let request = Request::get(path).header("host", "g").header("authorization", authorization);
        let answer = client.send(request.body(full("")).unwrap()).await;
        (answer.status.as_u16(), answer.text())
    };
    assert_eq!(get("/v2/health/live", bearer(&reader)).await, (200, "{\"live\":true}".to_owned()));
    // It sees the one service that is ready, and not the one that is not.
    assert_eq!(get("/v2/health/ready", bearer(&reader)).await, (200, "{\"ready\":true}".to_owned()));
    assert_eq!(get("/v2/health/ready", world.bearer()).await, (503, "{\"ready\":false}".to_owned()));
    assert!(get("/v2", bearer(&reader)).await.1.contains("\"binary_tensor_data\""));
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_the_connection_it_was_used_on() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let reader = access::generate().unwrap();
    let mut snapshot = spam(&[&a]);
    snapshot.keys.push(record(&reader, &["infer:spam"]));
    let world = World::start(snapshot).await;
    let mut client = world.client().await;
    let request = || {
        let request = Request::builder().method(Method::POST).uri(INFER).header("host", "g");
        request.header("authorization", bearer(&reader)).body(full("{}")).unwrap()
    };
    assert_eq!(client.send(request()).await.status, 200);
    world.publish(|snapshot| snapshot.keys.retain(|key| key.id != reader.id)).await;
    assert_eq!(client.send(request()).await.status, 401);
}
