//! Calls against a socket that answers what the test says.

use std::{future::Future, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

use super::*;

/// Runs `call` against a server that takes one connection, answers `answer` and hangs up. Gives the request too.
async fn against<F, T>(answer: &str, call: impl FnOnce(Client) -> F) -> (String, T)
where
    F: Future<Output = T>,
{
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("run")).unwrap();
    let listener = UnixListener::bind(home.path().join(SOCKET)).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 64 * 1024];
        let read = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    };
    tokio::join!(serve, call(Client::new(home.path())))
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_call_and_its_answer() {
    let body = r#"{"version":"1","pid":7,"dataDir":"/d","listen":"127.0.0.1:8080","gateway":null,"generation":1,"services":2,"replicas":3,"later":1}"#;
    let (request, status) = against(&answer("200 OK", body), |client| async move { client.status().await }).await;
    assert!(request.starts_with("GET /apis/berth.dev/v1alpha1/status HTTP/1.1\r\n"), "{request}");
    let status = status.unwrap();
    assert_eq!((status.pid, status.is_ready(), status.base_url().as_str()), (7, false, "http://127.0.0.1:8080"));
}

#[tokio::test]
async fn nobody_there() {
    let home = tempfile::tempdir().unwrap();
    let error = Client::new(home.path()).status().await.unwrap_err();
    assert!(matches!(error, Error::NotRunning { .. }));
    assert!(error.to_string().contains("`berth up`") && error.is_away());
    std::fs::create_dir(home.path().join("run")).unwrap();
    drop(UnixListener::bind(home.path().join(SOCKET)).unwrap());
    assert!(matches!(Client::new(home.path()).status().await.unwrap_err(), Error::NotRunning { .. }));
}

#[tokio::test]
async fn a_refusal_carries_the_words_of_the_server() {
    let body = r#"{"kind":"Status","code":404,"reason":"NotFound","message":"there is no service `x`"}"#;
    let (request, error) =
        against(&answer("404 Not Found", body), |client| async move { client.service("a/../b").await }).await;
    assert!(request.starts_with("GET /apis/berth.dev/v1alpha1/inferenceservices/a%2F..%2Fb HTTP"), "{request}");
    let error = error.unwrap_err();
    assert!(error.is_not_found() && !error.is_away());
    assert_eq!(error.to_string(), "there is no service `x`");
    let (_, error) = against(&answer("502 Bad Gateway", "<html>"), |client| async move { client.keys().await }).await;
    assert_eq!(error.unwrap_err().to_string(), "Berth answered 502 Bad Gateway: <html>");
}

#[tokio::test]
async fn answers_that_break_or_make_no_sense() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    let (_, error) = against(half, |client| async move { client.services().await }).await;
    assert!(error.unwrap_err().is_away());
    let (_, error) = against("", |client| async move { client.services().await }).await;
    assert!(matches!(error.unwrap_err(), Error::Broken { .. }));
    let (_, error) = against(&answer("200 OK", "[]"), |client| async move { client.services().await }).await;
    assert!(matches!(error.unwrap_err(), Error::Unreadable(_)));
}

const SERVICE: &str = r#"{"apiVersion":"berth.dev/v1alpha1","kind":"InferenceService","metadata":{"name":"spam"},"spec":{"predictor":{"model":{"modelFormat":{"name":"onnx"},"storageUri":"file:///m"}}}}"#;

#[tokio::test]
async fn a_watch_is_read_line_by_line() {
    let first = format!(r#"{{"type":"ADDED","object":{SERVICE}}}"#);
    let (begin, rest) = first.split_at(40);
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"InferenceService","metadata":{"resourceVersion":"9"}}}"#;
    let error = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
    let parts = [begin.to_owned(), format!("{rest}\n\n{{\"type\":\"LATER\",\"object\":1}}\n{bookmark}\n{error}\n")];
    let chunks: String = parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect();
    let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    let (request, changes) = against(&answer, |client| async move {
        let mut watch = client.watch_services("7").await.unwrap();
        (watch.next().await, watch.next().await, watch.next().await, watch.next().await)
    })
    .await;
    assert!(request.contains("?watch=true&resourceVersion=7 "), "{request}");
    assert!(
        matches!(changes.0.unwrap().unwrap(), ServiceChange::Added(service) if service.metadata.name.as_str() == "spam")
    );
    assert_eq!(changes.1.unwrap(), Some(ServiceChange::Bookmark("9".to_owned())));
    assert!(changes.2.unwrap_err().is_expired());
    assert!(changes.3.unwrap().is_none());
}

#[tokio::test]
async fn events_as_they_happen() {
    let event = r#"{"sequence":3,"time":"t","type":"Warning","service":"spam","reason":"ReplicaExited","message":"m"}"#;
    let query = EventQuery { service: Some("spam".to_owned()), limit: Some(5), after: Some(2) };
    let (request, events) = against(&answer("200 OK", &format!("{event}\n")), |client| async move {
        let mut watch = client.watch_events(&query).await.unwrap();
        (watch.next().await.unwrap(), watch.next().await.unwrap())
    })
    .await;
    assert!(request.contains("/events?service=spam&limit=5&after=2&watch=true "), "{request}");
    assert_eq!(events.0.unwrap().sequence, 3);
    assert!(events.1.is_none());
}

#[test]
fn a_path_without_questions() {
    assert_eq!(events_path(&EventQuery::default(), false), "/events");
    assert_eq!(encoded("a b/ü?&"), "a%20b%2F%C3%BC%3F%26");
    assert!(Path::new(SOCKET).is_relative());
}
