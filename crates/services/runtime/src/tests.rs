//! The process without its signals: what is served while a model loads, once it is loaded, and when it does not.

use axum::{body::Body, http::StatusCode};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::{backend::ort::tests::file, batching::policy::Policy};

async fn ask(registry: &Registry, request: Request<Body>) -> (StatusCode, String) {
    let router = router(registry, admin::SandboxStatus::default()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(registry: &Registry, path: &str) -> (StatusCode, String) {
    ask(registry, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn status_of(registry: &Registry) -> Value {
    serde_json::from_str(&get(registry, "/status").await.1).unwrap()
}

fn loader() -> Loader {
    Loader {
        environment: library::tests::environment().clone(),
        cpus: 2,
        batching: Policy::default(),
        memory_bytes_max: None,
        cpu: None,
        known: None,
    }
}

#[tokio::test]
async fn status_and_health_follow_the_model_from_loading_to_draining() {
    let model = Arc::new(Model::announced("sums".into(), "2".into()));
    let draining = CancellationToken::new();
    let registry = Registry::new(vec![Arc::clone(&model)], draining.clone());
    assert_eq!(get(&registry, "/livez").await.0, StatusCode::OK);
    let status = status_of(&registry).await;
    assert_eq!((&status["ready"], &status["models"][0]["state"]), (&json!(false), &json!("loading")));
    assert_eq!(get(&registry, "/v2/health/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);

    let (_directory, path) = file(&onnx::sum_and_difference());
    load_model(loader(), Arc::clone(&model), path).await.unwrap();
    let status = status_of(&registry).await;
    assert_eq!((&status["ready"], &status["models"][0]["state"]), (&json!(true), &json!("ready")));
    assert_eq!(status["models"][0]["optimisation"], "all");
    assert_eq!(status["models"][0]["conditions"][0]["type"], "Optimised");
    let row = json!([1, 2, 3, 4]);
    let tensor = |name: &str| json!({"name": name, "shape": [1, 4], "datatype": "FP32", "data": row});
    let body = json!({"inputs": [tensor("a"), tensor("b")], "outputs": [{"name": "sum"}]}).to_string();
    let (code, answer) = ask(&registry, Request::post("/v2/models/sums/infer").body(Body::from(body)).unwrap()).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
    let metrics = get(&registry, "/metrics").await.1;
    assert!(metrics.contains("nv_inference_request_success{model=\"sums\",version=\"2\"} 1"), "{metrics}");

    draining.cancel();
    assert_eq!(status_of(&registry).await["ready"], false);
    assert!(get(&registry, "/metrics").await.1.contains("berth_runtime_draining 1"));
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_readiness_is_answered_when_the_load_ends_or_time_is_up() {
    let model = Arc::new(Model::announced("sums".into(), "2".into()));
    let draining = CancellationToken::new();
    let registry = Registry::new(vec![Arc::clone(&model)], draining.clone());
    let begun = tokio::time::Instant::now();
    let waited = get(&registry, "/status?wait_ms=700").await.1;
    assert!(waited.contains("\"ready\":false"), "{waited}");
    assert_eq!(begun.elapsed(), Duration::from_millis(700));
    // The end of the load, a failure too, or of the process wakes who waits.
    let fails = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        model.fail("no".to_owned());
    };
    let ((_, text), ()) = tokio::join!(get(&registry, "/status?wait_ms=60000"), fails);
    assert!(text.contains("\"failed\""), "{text}");
    let loading = Registry::new(vec![Arc::new(Model::announced("b".into(), "1".into()))], draining.clone());
    let drains = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        draining.cancel();
    };
    let _ = tokio::join!(get(&loading, "/status?wait_ms=60000"), drains);
    assert_eq!(begun.elapsed(), Duration::from_millis(710));
    assert_eq!(get(&registry, "/status?wait_ms=x").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_model_that_does_not_load_ends_the_process_with_its_reason() {
    let (directory, path) = file(b"no model");
    let socket = directory.path().join("r.sock");
    let config = Config {
        listen: Listen::Unix(socket.clone()),
        model_name: "broken".into(),
        model_version: "1".into(),
        model_path: path,
        threads: None,
        memory_bytes_max: None,
        batching: Policy::default(),
        sandbox: false,
        known: None,
    };
    let bound = bind(&config.listen).unwrap();
    let error = serve(config, bound, loader(), admin::SandboxStatus::default()).await.unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(chain(&error).starts_with("model failed to load: ONNX Runtime refused the model"), "{error}");
    assert!(!socket.exists());
}

#[test]
fn a_socket_that_cannot_be_bound_is_named() {
    let text = bind(&Listen::Unix("/nowhere/r.sock".into())).unwrap_err().to_string();
    assert_eq!(text, "cannot listen on `/nowhere/r.sock`");
}
