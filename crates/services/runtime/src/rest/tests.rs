//! Every route, status and header over the router itself, without a socket.

use std::io::{Read, Write};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use bytes::Bytes;
use flate2::{
    Compression,
    read::{GzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use http_body_util::BodyExt;
use inference::{Datatype, InferError};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Limits, echo, router};
use crate::registry::Registry;

const X: &[(&str, Datatype, &[i64])] = &[("x", Datatype::Fp32, &[-1])];
const REQUEST: &str = r#"{"id":"7","inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[0.5,-1]}]}"#;
const INFER: &str = "/v2/models/echo/infer";

pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn error(&self) -> String {
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1);
        body["error"].as_str().unwrap().to_owned()
    }
}

pub(super) async fn ask(
    router: Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get(registry: Registry, path: &str) -> Answer {
    ask(router(registry, Limits::default()), Method::GET, path, &[], Body::empty()).await
}

async fn post(registry: Registry, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    ask(router(registry, Limits::default()), Method::POST, path, headers, body).await
}

#[tokio::test]
async fn an_inference_in_json() {
    let answer = post(echo::echo(X), INFER, &[], REQUEST).await;
    assert_eq!(answer.status, StatusCode::OK);
    let expected = json!({
        "model_name": "echo", "model_version": "3", "id": "7",
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [0.5, -1.0]}],
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("server-timing"), "queue;dur=0.010,compute;dur=1.500");
    assert!(answer.headers.get("inference-header-content-length").is_none());
}

#[tokio::test]
async fn any_content_type_is_accepted() {
    for content_type in
        ["application/json", "application/octet-stream", "application/x-www-form-urlencoded", "nonsense"]
    {
        let answer = post(echo::echo(X), INFER, &[("content-type", content_type)], REQUEST).await;
        assert_eq!(answer.status, StatusCode::OK, "{content_type}");
    }
}

#[tokio::test]
async fn decision_1_health_has_the_right_status_and_a_body() {
    for (registry, path, status, body) in [
        (echo::echo(X), "/v2/health/live", 200, json!({"live": true})),
        (echo::loading(), "/v2/health/live", 200, json!({"live": true})),
        (echo::echo(X), "/v2/health/ready", 200, json!({"ready": true})),
        (echo::loading(), "/v2/health/ready", 503, json!({"ready": false})),
        (echo::echo(X), "/v2/models/echo/ready", 200, json!({"name": "echo", "ready": true})),
        (echo::loading(), "/v2/models/slow/ready", 503, json!({"name": "slow", "ready": false})),
    ] {
        let answer = get(registry, path).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (status, body), "{path}");
        let retry = if status == 503 { ("1", "safe") } else { ("", "") };
        assert_eq!((answer.header("retry-after"), answer.header("x-berth-retry")), retry);
    }
}

#[tokio::test]
async fn decision_2_every_path_works_with_and_without_a_version_and_v2_with_a_slash() {
    for path in ["/v2", "/v2/"] {
        let expected = json!({"name": "berth", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data", "classification", "statistics"]});
        assert_eq!(get(echo::echo(X), path).await.json(), expected);
    }
    for path in ["/v2/models/echo", "/v2/models/echo/versions/3"] {
        let expected = json!({
            "name": "echo", "versions": ["3"], "platform": "onnx_onnxv1",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        });
        assert_eq!(get(echo::echo(X), path).await.json(), expected, "{path}");
        assert_eq!(get(echo::echo(X), &format!("{path}/ready")).await.status, StatusCode::OK);
        assert_eq!(post(echo::echo(X), &format!("{path}/infer"), &[], REQUEST).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn decision_7_no_explain_no_streams_no_repository() {
    for path in [
        "/v2/models/echo/explain",
        "/v2/models/echo/infer_stream",
        "/v2/models/echo/generate",
        "/v2/models/echo/generate_stream",
        "/v2/repository/index",
        "/v2/repository/models/echo/load",
    ] {
        let answer = post(echo::echo(X), path, &[], REQUEST).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(answer.error().contains(path), "{path}");
    }
}

#[tokio::test]
async fn decision_8_without_a_version_the_loaded_one_answers_and_others_are_unknown() {
    assert_eq!(post(echo::echo(X), INFER, &[], REQUEST).await.json()["model_version"], "3");
    for path in ["/v2/models/echo/versions/4", "/v2/models/echo/versions/4/ready", "/v2/models/other"] {
        assert_eq!(get(echo::echo(X), path).await.status, StatusCode::NOT_FOUND);
    }
    let answer = post(echo::echo(X), "/v2/models/echo/versions/4/infer", &[], REQUEST).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.error().contains("no version `4`"));
}

#[tokio::test]
async fn methods_that_a_path_has_not() {
    let answer = get(echo::echo(X), INFER).await;
    assert_eq!(answer.error(), "the method `GET` is not allowed here: use POST, OPTIONS");
    for (method, path, allow) in [
        (Method::POST, "/v2", "GET, HEAD, OPTIONS"),
        (Method::DELETE, "/v2/models/echo", "GET, HEAD, OPTIONS"),
        (Method::GET, INFER, "POST, OPTIONS"),
        (Method::HEAD, INFER, "POST, OPTIONS"),
        (Method::PUT, INFER, "POST, OPTIONS"),
    ] {
        let router = router(echo::echo(X), Limits::default());
        let answer = ask(router.clone(), method, path, &[], Body::empty()).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, allow), "{path}");
        let answer = ask(router, Method::OPTIONS, path, &[], Body::empty()).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::NO_CONTENT, allow), "{path}");
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/echo", "/v2/models/echo/ready"] {
        let whole = get(echo::echo(X), path).await;
        let answer = ask(router(echo::echo(X), Limits::default()), Method::HEAD, path, &[], Body::empty()).await;
        assert_eq!(answer.status, whole.status);
        assert_eq!(answer.header("content-length"), whole.body.len().to_string());
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn unknown_paths_are_answered_in_the_language_of_the_client() {
    let answer = get(echo::echo(X), "/nothing").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.error().contains("nothing at `/nothing`"));
    let answer = post(echo::echo(X), "/inference.Other/Call", &[("content-type", "application/grpc")], "").await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "12"));
}

#[tokio::test]
async fn each_error_has_its_status() {
    for (error, status, _) in echo::errors() {
        let answer = post(echo::fail(error), "/v2/models/fail/infer", &[], REQUEST).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (status, "why".to_owned()));
        let retry = if status == 503 { ("1", "safe") } else { ("", "") };
        assert_eq!((answer.header("retry-after"), answer.header("x-berth-retry")), retry);
    }
}

#[tokio::test]
async fn what_is_not_ready_may_be_asked_elsewhere() {
    let (registry, token) = echo::draining();
    token.cancel();
    for answer in [
        post(registry.clone(), INFER, &[], REQUEST).await,
        get(registry, "/v2/health/ready").await,
        post(echo::loading(), "/v2/models/slow/infer", &[], REQUEST).await,
        get(echo::loading(), "/v2/models/slow").await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((answer.header("retry-after"), answer.header("x-berth-retry")), ("1", "safe"));
    }
}

#[tokio::test]
async fn the_service_of_a_request_must_be_the_model() {
    let right = post(echo::echo(X), INFER, &[("x-berth-service", "echo")], REQUEST).await;
    assert_eq!(right.status, StatusCode::OK);
    let wrong = post(echo::echo(X), INFER, &[("x-berth-service", "other")], REQUEST).await;
    assert_eq!(wrong.status, StatusCode::NOT_FOUND);
    for path in ["/v2/models/echo", "/v2/models/echo/ready"] {
        let router = router(echo::echo(X), Limits::default());
        let answer = ask(router, Method::GET, path, &[("x-berth-service", "other")], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_request_past_its_deadline_is_not_run() {
    let late = post(echo::echo(X), INFER, &[("x-berth-timeout-ms", "0")], REQUEST).await;
    assert_eq!((late.status, late.error()), (StatusCode::GATEWAY_TIMEOUT, "too late".to_owned()));
    let early = post(echo::echo(X), INFER, &[("x-berth-timeout-ms", "18446744073709551615")], REQUEST).await;
    assert_eq!(early.status, StatusCode::OK);
    let malformed = post(echo::echo(X), INFER, &[("x-berth-timeout-ms", "soon")], REQUEST).await;
    assert_eq!(malformed.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn errors_in_the_body_name_their_place() {
    for (body, said) in [
        ("", "expected an object, found the end of the JSON"),
        (r#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,"a"]}]}"#, "`inputs[0].data[1]`"),
        (r#"{"inputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[1]}]}"#, "no input `y`: it has `x`"),
        (r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]}"#, "expected the datatype FP32"),
        (r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}"#, "expected the shape [-1]"),
        (r#"{"inputs":[],"outputs":[{"name":"x"}]}"#, "expected the input `x` (FP32 [-1]), found nothing"),
        (
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}],"outputs":[{"name":"q"}]}"#,
            "no output `q`: it has `x`",
        ),
    ] {
        let answer = post(echo::echo(X), INFER, &[], body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.error().contains(said), "{body} {}", answer.error());
    }
}

#[tokio::test]
async fn classes_instead_of_an_output() {
    let body = r#"{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","data":[0.25,-1,"NaN"]}],
        "outputs":[{"name":"x","parameters":{"classification":2}}]}"#;
    let answer = post(echo::echo(X), INFER, &[], body).await;
    let expected = json!([{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["0.25:0:low", "-1.0:1"]}]);
    assert_eq!(answer.json()["outputs"], expected);
    let answer = post(echo::echo(X), INFER, &[], body.replace('2', "0")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

/// A body in pieces, without a declared length.
fn pieces(body: &str, size: usize) -> Body {
    let pieces: Vec<Result<Bytes, std::convert::Infallible>> =
        body.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(tokio_stream::iter(pieces))
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_declared_or_not() {
    let limits = Limits { body_bytes_max: REQUEST.len() };
    let larger = format!("{REQUEST} ");
    for (body, status) in [
        (Body::from(REQUEST), 200),
        (pieces(REQUEST, 10), 200),
        (Body::from(larger.clone()), 413),
        (pieces(&larger, 10), 413),
        (pieces(&larger, 1000), 413),
    ] {
        let answer = ask(router(echo::echo(X), limits), Method::POST, INFER, &[], body).await;
        assert_eq!(answer.status.as_u16(), status);
    }
}

#[tokio::test]
async fn binary_in_both_directions() {
    let json = r#"{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let tensor = bytemuck::cast_slice::<f32, u8>(&[0.5, f32::NAN]);
    let body = [json.as_bytes(), tensor].concat();
    let length = json.len().to_string();
    let answer = post(echo::echo(X), INFER, &[("inference-header-content-length", &length)], body).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/octet-stream"));
    let split: usize = answer.header("inference-header-content-length").parse().unwrap();
    let head: Value = serde_json::from_slice(&answer.body[..split]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert!(head["outputs"][0].get("data").is_none());
    assert_eq!(&answer.body[split..], tensor);
    for malformed in ["-1", "x", "1000"] {
        let answer = post(echo::echo(X), INFER, &[("inference-header-content-length", malformed)], REQUEST).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{malformed}");
    }
}

#[tokio::test]
async fn a_raw_request_is_answered_in_binary() {
    let tensor = bytemuck::cast_slice::<f32, u8>(&[0.5, 1.5, 2.5]).to_vec();
    let answer = post(echo::echo(X), INFER, &[("inference-header-content-length", "0")], tensor.clone()).await;
    let split: usize = answer.header("inference-header-content-length").parse().unwrap();
    assert_eq!(&answer.body[split..], tensor);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_requests_are_inflated_within_the_limit() {
    for (coding, body) in
        [("gzip", gzip(REQUEST.as_bytes())), ("deflate", zlib(REQUEST.as_bytes())), ("GZIP", gzip(REQUEST.as_bytes()))]
    {
        let answer = post(echo::echo(X), INFER, &[("content-encoding", coding)], body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{coding}");
        let broken = post(echo::echo(X), INFER, &[("content-encoding", coding)], body[..body.len() - 9].to_vec()).await;
        assert_eq!(broken.status, StatusCode::BAD_REQUEST, "{coding}");
        let limits = Limits { body_bytes_max: 4096 };
        let bomb = format!("{REQUEST}{}", " ".repeat(100_000));
        let bomb = if coding == "deflate" { zlib(bomb.as_bytes()) } else { gzip(bomb.as_bytes()) };
        assert!(bomb.len() < 4096);
        let answer =
            ask(router(echo::echo(X), limits), Method::POST, INFER, &[("content-encoding", coding)], bomb).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{coding}");
    }
    for coding in ["br", "gzip, deflate"] {
        let answer = post(echo::echo(X), INFER, &[("content-encoding", coding)], REQUEST).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(answer.header("accept-encoding"), "gzip, deflate, identity");
        assert!(answer.error().contains(&format!("`{coding}`")));
    }
}

#[tokio::test]
async fn decision_answers_are_compressed_for_clients_that_name_one_coding_alone() {
    let data: Vec<String> = (0..1000).map(|n| format!("{n}.5")).collect();
    let body = format!(r#"{{"inputs":[{{"name":"x","shape":[1000],"datatype":"FP32","data":[{}]}}]}}"#, data.join(","));
    let plain = post(echo::echo(X), INFER, &[], body.clone()).await.body;
    for accepted in ["gzip, deflate, br", "br", "*"] {
        let answer = post(echo::echo(X), INFER, &[("accept-encoding", accepted)], body.clone()).await;
        assert_eq!((answer.header("content-encoding"), &answer.body), ("", &plain), "{accepted}");
    }
    let small = post(echo::echo(X), INFER, &[("accept-encoding", "gzip")], REQUEST).await;
    assert_eq!(small.header("content-encoding"), "");
    for coding in ["gzip", "deflate"] {
        let answer = post(echo::echo(X), INFER, &[("accept-encoding", coding)], body.clone()).await;
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (coding, "accept-encoding"));
        let mut inflated = Vec::new();
        match coding {
            "gzip" => GzDecoder::new(answer.body.as_ref()).read_to_end(&mut inflated),
            _ => ZlibDecoder::new(answer.body.as_ref()).read_to_end(&mut inflated),
        }
        .unwrap();
        assert_eq!(inflated, plain);
    }
}

#[tokio::test]
async fn a_large_body_is_read_on_a_thread_of_its_own_and_answered_the_same() {
    let count = 100_000;
    let data = vec!["0.25"; count].join(",");
    let body = format!(r#"{{"inputs":[{{"name":"x","shape":[{count}],"datatype":"FP32","data":[{data}]}}]}}"#);
    assert!(body.len() > super::INLINE_BYTES_MAX);
    let answer = post(echo::echo(X), INFER, &[], pieces(&body, 60_000)).await;
    assert_eq!(answer.json()["outputs"][0]["data"].as_array().unwrap().len(), count);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused_as_json_and_sent_as_bytes() {
    let inputs: &[(&str, Datatype, &[i64])] = &[("s", Datatype::Bytes, &[1])];
    for (binary, status) in [(true, 200), (false, 400)] {
        let json = format!(
            r#"{{"parameters":{{"binary_data_output":{binary}}},"inputs":[{{"name":"s","shape":[1],"datatype":"BYTES","parameters":{{"binary_data_size":5}}}}]}}"#
        );
        let body = [json.as_bytes(), &[1, 0, 0, 0, 255]].concat();
        let length = json.len().to_string();
        let answer = post(echo::echo(inputs), INFER, &[("inference-header-content-length", &length)], body).await;
        assert_eq!(answer.status.as_u16(), status);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let broken: Vec<Result<Bytes, std::io::Error>> =
        vec![Ok(Bytes::from_static(b"{\"inputs\"")), Err(std::io::Error::other("gone"))];
    let answer = post(echo::echo(X), INFER, &[], Body::from_stream(tokio_stream::iter(broken))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let stalled = Body::from_stream(tokio_stream::pending::<Result<Bytes, std::convert::Infallible>>());
    let answer = post(echo::echo(X), INFER, &[], stalled).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    let stalled = Body::from_stream(tokio_stream::pending::<Result<Bytes, std::convert::Infallible>>());
    let answer = post(echo::echo(X), INFER, &[("x-berth-timeout-ms", "20000")], stalled).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
}

#[test]
fn unavailable_alone_says_that_nothing_was_run() {
    let retried = |error: &InferError| super::answer::error(error).headers().contains_key("x-berth-retry");
    assert!(retried(&InferError::Unavailable(String::new())));
    assert!(!retried(&InferError::DeadlineExceeded(String::new())));
}

#[tokio::test]
async fn v1_predictions_with_and_without_a_version() {
    for path in ["/v1/models/echo:predict", "/v1/models/echo/versions/3:predict"] {
        let rows = post(echo::echo(X), path, &[], r#"{"instances":[0.5,-1]}"#).await;
        assert_eq!((rows.status, rows.json()), (StatusCode::OK, json!({"predictions": [0.5, -1.0]})), "{path}");
        assert_eq!(rows.header("server-timing"), "queue;dur=0.010,compute;dur=1.500");
        let columns =
            post(echo::echo(X), path, &[("content-encoding", "gzip")], gzip(br#"{"inputs":{"x":[2]}}"#)).await;
        assert_eq!((columns.status, columns.json()), (StatusCode::OK, json!({"outputs": [2.0]})), "{path}");
    }
    let wrong = post(echo::echo(X), "/v1/models/echo:predict", &[], r#"{"instances":[0.5,"a"]}"#).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.error().starts_with("`instances[1]`: expected a number (FP32)"), "{}", wrong.error());
    let wrong = get(echo::echo(X), "/v1/models/echo:predict").await;
    assert_eq!((wrong.status, wrong.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST, OPTIONS"));
    for path in ["/v1/models/other:predict", "/v1/models/echo/versions/4:predict", "/v1/models/echo:explain"] {
        assert_eq!(post(echo::echo(X), path, &[], "{}").await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let answer = post(echo::loading(), "/v1/models/slow:predict", &[], r#"{"instances":[1]}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-berth-retry")), (503, "safe"));
    let service = [("x-berth-service", "another")];
    assert_eq!(post(echo::echo(X), "/v1/models/echo:predict", &service, "{}").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn models_are_listed_by_name() {
    for path in ["/v1/models", "/v2/models"] {
        assert_eq!(get(echo::echo(X), path).await.json(), json!({"models": ["echo"]}), "{path}");
    }
    for path in ["/v1/models/echo", "/v1/models/echo/versions/3"] {
        assert_eq!(get(echo::echo(X), path).await.json(), json!({"name": "echo", "ready": true}), "{path}");
    }
    let answer = get(echo::loading(), "/v1/models/slow").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (503, json!({"name": "slow", "ready": false})));
}

#[tokio::test]
async fn what_is_refused_before_the_model_counts_as_failed() {
    let registry = echo::echo(X);
    for (path, headers, body) in [
        (INFER, &[][..], "{"),
        (INFER, &[("inference-header-content-length", "x")][..], REQUEST),
        (INFER, &[("x-berth-timeout-ms", "soon")][..], REQUEST),
        (INFER, &[("content-encoding", "br")][..], REQUEST),
        (INFER, &[][..], r#"{"inputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[1]}]}"#),
        ("/v1/models/echo:predict", &[][..], "{}"),
    ] {
        assert_ne!(post(registry.clone(), path, headers, body).await.status, StatusCode::OK);
    }
    assert_eq!(post(registry.clone(), INFER, &[], REQUEST).await.status, StatusCode::OK);
    let text = crate::metrics::text(&registry).unwrap();
    for line in [
        "nv_inference_request_failure{model=\"echo\",version=\"3\",reason=\"OTHER\"} 6",
        "nv_inference_request_failure{model=\"echo\",version=\"3\",reason=\"CANCELED\"} 0",
        "nv_inference_request_success{model=\"echo\",version=\"3\"} 1",
        "nv_inference_pending_request_count{model=\"echo\",version=\"3\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn statistics_are_what_was_counted() {
    let registry = echo::echo(X);
    let nothing = get(registry.clone(), "/v2/models/echo/stats").await.json();
    assert_eq!(nothing["model_stats"][0]["last_inference"], 0);
    for body in [REQUEST, REQUEST, "{"] {
        post(registry.clone(), INFER, &[], body).await;
    }
    for path in ["/v2/models/echo/stats", "/v2/models/echo/versions/3/stats"] {
        let answer = get(registry.clone(), path).await.json();
        let stats = &answer["model_stats"][0];
        assert_eq!(answer["model_stats"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&stats["name"], &stats["version"], &stats["batch_stats"]),
            (&json!("echo"), &json!("3"), &json!([]))
        );
        // Each request has a batch of two.
        assert_eq!(stats["inference_count"], 4);
        assert!(stats["last_inference"].as_u64().unwrap() > 1_700_000_000_000);
        let spans = &stats["inference_stats"];
        assert_eq!((&spans["success"]["count"], &spans["fail"]["count"]), (&json!(2), &json!(1)));
        assert_eq!(spans["queue"], json!({"count": 2, "ns": 20_000}));
        assert_eq!(spans["compute_infer"], json!({"count": 2, "ns": 3_000_000}));
        assert_eq!(spans["cache_hit"], json!({"count": 0, "ns": 0}));
    }
    assert_eq!(get(registry, "/v2/models/other/stats").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(echo::loading(), "/v2/models/slow/stats").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_model_has_a_contract() {
    for path in ["/v2/models/echo/openapi.json", "/v2/models/echo/versions/3/openapi.json"] {
        let document = get(echo::echo(X), path).await.json();
        assert_eq!((&document["openapi"], &document["info"]["version"]), (&json!("3.1.0"), &json!("3")));
        assert!(document["paths"]["/v1/models/echo:predict"]["post"].is_object());
    }
    assert_eq!(get(echo::loading(), "/v2/models/slow/openapi.json").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(echo::echo(X), "/v2/models/other/openapi.json").await.status, StatusCode::NOT_FOUND);
}
