//! Embeddings: the service is named in the body, and refusals have OpenAI's form.

use http::Method;
use serde_json::{Value, json};

use super::{
    forwarding::fed,
    support::{Answer, LIMITS, World, full, named, replica, service, spam},
};

const PATH: &str = "/v1/embeddings";

async fn ask(world: &World, body: impl Into<bytes::Bytes>) -> Answer {
    world.send(world.request(Method::POST, PATH).body(full(body)).unwrap()).await
}

fn error(answer: &Answer) -> Value {
    let body: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    body["error"].clone()
}

#[tokio::test]
async fn the_body_names_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let ham = replica(&dir, "ham", |seen| async move {
        let (head, body) = seen.read().await;
        assert_eq!((head.uri.path(), &head.headers["x-berth-service"]), (PATH, &"ham".parse().unwrap()));
        super::support::ok(body)
    });
    let mut snapshot = spam(&[&named(&dir, "a")]);
    snapshot.services.push(service("ham", &[&ham]));
    let world = World::start(snapshot).await;
    assert_eq!(ask(&world, r#"{"model":"spam","input":"x"}"#).await.text(), "a");
    let body = r#"{"input":["model","spam"],"model":"ham"}"#;
    assert_eq!(ask(&world, body).await.text(), body);
    // Over what is held of other bodies.
    let long = format!(r#"{{"input":"{}","model":"ham"}}"#, "x".repeat(2 * 1024 * 1024));
    assert_eq!(ask(&world, long.clone()).await.text(), long);
    assert!(world.metric("berth_gateway_requests_total", "service=\"ham\"").await >= 2.0);
}

#[tokio::test]
async fn refusals_have_openais_form() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let mut snapshot = spam(&[&a]);
    let reader = access::generate().unwrap();
    snapshot.keys.push(super::support::record(&reader, &["metadata:*"]));
    let world = World::start(snapshot).await;
    let body = r#"{"model":"spam","input":"x"}"#;
    let request = http::Request::post(PATH).header("host", "g").body(full(body)).unwrap();
    let answer = world.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(
        (&error(&answer)["code"], &error(&answer)["type"]),
        (&json!("invalid_api_key"), &json!("invalid_request_error"))
    );
    let request = http::Request::post(PATH).header("host", "g");
    let request = request.header("authorization", super::support::bearer(&reader)).body(full(body)).unwrap();
    let answer = world.send(request).await;
    assert_eq!((answer.status.as_u16(), &error(&answer)["code"]), (403, &json!("permission_denied")));
    let answer = ask(&world, r#"{"model":"nothing","input":"x"}"#).await;
    assert_eq!(answer.status, 404);
    assert_eq!((&error(&answer)["code"], &error(&answer)["param"]), (&json!("model_not_found"), &json!("model")));
    for (body, words) in [
        ("{}", "names no model"),
        ("[]", "not a JSON object"),
        (r#"{"model":"spam","model":"ham"}"#, "twice"),
        (r#"{"model":7}"#, "name of a service"),
    ] {
        let answer = ask(&world, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(error(&answer)["message"].as_str().unwrap().contains(words), "{body}");
    }
    let compressed = world.request(Method::POST, PATH).header("content-encoding", "gzip").body(full(body)).unwrap();
    let answer = world.send(compressed).await;
    assert!(answer.status == 400 && error(&answer)["message"].as_str().unwrap().contains("compressed"));
    let answer = world.send(world.request(Method::GET, PATH).body(full("")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")));
    let answer = ask(&world, vec![b' '; LIMITS.body_bytes_max + 1]).await;
    assert_eq!((answer.status.as_u16(), &error(&answer)["code"]), (413, &json!("request_too_large")));
    let (sender, endless) = fed();
    let endless = world.request(Method::POST, PATH).body(endless).unwrap();
    let feeding = async {
        // Nobody reads on once it is refused.
        while sender.send(vec![b' '; 1024 * 1024].into()).await.is_ok() {}
    };
    let answer = tokio::select! { answer = world.send(endless) => answer, () = feeding => panic!("nobody listens") };
    assert_eq!(answer.status, 413);
    assert_eq!(a.count(), 0);
}

#[tokio::test]
async fn a_lost_replica_is_replaced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let dead = replica(&dir, "dead", |_| async { super::support::Act::Close });
    let world = World::start(spam(&[&dead, &named(&dir, "alive")])).await;
    for _ in 0..8 {
        assert_eq!(ask(&world, r#"{"input":"x","model":"spam"}"#).await.text(), "alive");
    }
}
