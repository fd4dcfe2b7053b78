//! Embeddings over the router, of a model that gives tokens back as vectors.

use std::sync::Arc;

use axum::http::Method;
use inference::{Datatype, InferRequest};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::super::tests::{Answer, ask};
use crate::{
    batching::policy::Policy,
    embedder::tests::TOKENISER,
    library::tests::environment,
    load::{LoadError, Loader},
    onnx::{self, Dim},
    registry::{Execution, Executor, Loaded, Model, Registry},
    rest::{Limits, echo, router},
};

const PATH: &str = "/v1/embeddings";

/// `sentence_embedding` is `input_ids`, as floats.
fn encoder() -> Vec<u8> {
    let dims = [Dim::Named("batch"), Dim::Named("length")];
    let cast = onnx::cast("input_ids", "sentence_embedding", Datatype::Fp32);
    let input = onnx::tensor_type(Datatype::Int64, &dims);
    let output = onnx::tensor_type(Datatype::Fp32, &dims);
    onnx::model(&[cast], &[("input_ids", input)], &[("sentence_embedding", output)])
}

fn load(settings: &str) -> Result<Loaded, LoadError> {
    let directory = tempfile::tempdir().unwrap();
    let files = [("model.onnx", encoder()), ("tokenizer.json", TOKENISER.into()), ("embeddings.json", settings.into())];
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let loader = Loader {
        environment: environment().clone(),
        cpus: 2,
        batching: Policy::default(),
        memory_bytes_max: None,
        cpu: None,
        known: None,
    };
    loader.load(Model::announced("words".into(), "1".into()).metadata(), directory.path())
}

fn registry() -> Registry {
    let model = Model::announced("words".into(), "1".into());
    model.load(load(r#"{"normalise":false}"#).unwrap());
    Registry::new(vec![model.into()], CancellationToken::new())
}

async fn post(registry: &Registry, body: &Value) -> Answer {
    ask(router(registry.clone(), Limits::default()), Method::POST, PATH, &[], body.to_string()).await
}

#[tokio::test]
async fn texts_and_tokens_have_vectors_in_their_order() {
    let registry = registry();
    let body = json!({ "model": "words", "input": ["the ship", "berth", "the berth"], "user": "u" });
    let answer = post(&registry, &body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let vector = |index: usize, numbers: &[f32]| json!({ "object": "embedding", "index": index, "embedding": numbers });
    let data = [vector(0, &[1.0, 5.0, 3.0, 2.0]), vector(1, &[1.0, 4.0, 2.0]), vector(2, &[1.0, 5.0, 4.0, 2.0])];
    let wanted = json!({
        "object": "list", "data": data, "model": "words", "usage": { "prompt_tokens": 11, "total_tokens": 11 },
    });
    assert_eq!(answer.json(), wanted);
    for (input, vectors) in
        [(json!("ship"), json!([[1.0, 3.0, 2.0]])), (json!([[5], [4, 3]]), json!([[5.0], [4.0, 3.0]]))]
    {
        let answer = post(&registry, &json!({ "input": input, "model": "words" })).await.json();
        let found: Vec<&Value> = answer["data"].as_array().unwrap().iter().map(|one| &one["embedding"]).collect();
        assert_eq!(json!(found), vectors);
    }
    let answer = post(&registry, &json!({ "model": "words", "input": [5], "encoding_format": "base64" })).await;
    assert_eq!(answer.json()["data"][0]["embedding"], "AACgQA==");
    let many = json!({ "model": "words", "input": vec!["ship"; 2048] });
    let answer = post(&registry, &many).await.json();
    assert_eq!(
        (answer["data"][2047]["index"].as_u64(), answer["usage"]["total_tokens"].as_u64()),
        (Some(2047), Some(6144))
    );
}

#[tokio::test]
async fn errors_name_what_is_wrong_in_openais_form() {
    let registry = registry();
    let words = |input: Value| json!({ "model": "words", "input": input });
    for (body, status, param) in [
        (words(json!("")), 400, json!("input")),
        (words(json!([])), 400, json!("input")),
        (words(json!(["a", "the the the the the the"])), 400, json!("input")),
        (words(json!([9])), 400, json!("input")),
        (json!({ "model": "words", "input": "a", "dimensions": 2 }), 400, json!("dimensions")),
        (json!({ "model": "words" }), 400, json!("input")),
        (json!({ "model": "other", "input": "a" }), 404, json!("model")),
        (json!([]), 400, Value::Null),
    ] {
        let answer = post(&registry, &body).await;
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(answer.json()["error"]["param"], param, "{body}");
    }
    let text = post(&registry, &words(json!(["a", "the the the the the the"]))).await.json();
    assert!(text["error"]["message"].as_str().unwrap().starts_with("input 1: the text has 8 tokens"), "{text}");
    let router = || router(registry.clone(), Limits::default());
    let body = words(json!("a")).to_string();
    let headers = [("x-berth-service", "other")];
    assert_eq!(ask(router(), Method::POST, PATH, &headers, body.clone()).await.status, 404);
    assert_eq!(ask(router(), Method::POST, PATH, &[("x-berth-timeout-ms", "0")], body).await.status, 504);
    let long = vec![b' '; inference::embeddings::BODY_BYTES_MAX + 1];
    assert_eq!(ask(router(), Method::POST, PATH, &[], long).await.status, 413);
    let loading = post(&echo::loading(), &json!({ "model": "slow", "input": "a" })).await;
    assert_eq!((loading.status.as_u16(), loading.header("x-berth-retry")), (503, "safe"));
    let other = post(&echo::echo(&[("x", Datatype::Fp32, &[-1])]), &json!({ "model": "echo", "input": "a" })).await;
    assert_eq!((other.status.as_u16(), &other.json()["error"]["param"]), (400, &json!("model")));
}

/// Says that it was asked, and never answers.
struct Never {
    asked: Arc<Notify>,
    alive: Arc<()>,
}

impl Executor for Never {
    fn execute(&self, _: InferRequest, _: Option<Instant>) -> Execution<'_> {
        let held = Arc::clone(&self.alive);
        Box::pin(async move {
            self.asked.notify_one();
            let _held = held;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn a_client_that_goes_takes_its_inputs_with_it() {
    let (asked, alive) = (Arc::new(Notify::new()), Arc::new(()));
    let executor = Box::new(Never { asked: Arc::clone(&asked), alive: Arc::clone(&alive) });
    let model = Model::announced("words".into(), "1".into());
    model.load(Loaded { executor, ..load("{}").unwrap() });
    let registry = Registry::new(vec![model.into()], CancellationToken::new());
    let body = json!({ "model": "words", "input": vec!["ship"; 100] });
    let waiting = async {
        asked.notified().await;
        assert!(Arc::strong_count(&alive) > 2);
    };
    tokio::select! {
        answer = post(&registry, &body) => panic!("{:?}", answer.body),
        () = waiting => {}
    }
    assert_eq!(Arc::strong_count(&alive), 2);
}

#[tokio::test]
async fn the_contract_has_the_operation() {
    let path = "/v2/models/words/openapi.json";
    let answer = ask(router(registry(), Limits::default()), Method::GET, path, &[], "").await;
    let document = answer.json();
    assert_eq!(document["paths"][PATH]["post"]["operationId"], "embeddings");
    assert!(document["components"]["schemas"]["words.EmbeddingsRequest"].is_object());
}

#[test]
fn equal_lengths_are_tried_together_and_a_wrong_bundle_says_why() {
    use resources::condition::{ConditionKind, ConditionStatus};
    let loaded = load("{}").unwrap();
    let batched = loaded.report.conditions.iter().find(|condition| condition.kind == ConditionKind::Batched).unwrap();
    assert_eq!((batched.status, batched.reason.as_str()), (ConditionStatus::True, "SameAnswers"));
    let text = load(r#"{"maxTokens":1}"#).unwrap_err().to_string();
    assert!(text.contains("the bundle has a tokeniser, but") && text.contains("no room for a word"), "{text}");
    assert!(load("[").unwrap_err().to_string().contains("`embeddings.json`"));
}
