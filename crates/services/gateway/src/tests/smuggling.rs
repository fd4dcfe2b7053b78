//! Requests that two readers could read in two ways.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request;

use super::support::{Replica, World, ok, raw, replica, spam};

type Log = Arc<Mutex<Vec<(request::Parts, Bytes)>>>;

fn recording(dir: &tempfile::TempDir) -> (Replica, Log) {
    let log = Log::default();
    let kept = Arc::clone(&log);
    let replica = replica(dir, "a", move |seen| {
        let kept = Arc::clone(&kept);
        async move {
            let seen = seen.read().await;
            kept.lock().unwrap().push(seen);
            ok("answer")
        }
    });
    (replica, log)
}

const SMUGGLED: &str = "POST /v2/models/other/infer HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn both_lengths_are_read_as_chunks_and_end_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (a, log) = recording(&dir);
    let world = World::start(spam(&[&a])).await;
    for lengths in
        ["content-length: 6\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 6"]
    {
        let bytes = format!(
            "POST /v2/models/spam/infer HTTP/1.1\r\nhost: g\r\nauthorization: {}\r\n{lengths}\r\n\r\n1\r\nx\r\n0\r\n\r\n{SMUGGLED}",
            world.bearer()
        );
        let answer = raw(world.address, bytes.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let seen = log.lock().unwrap().drain(..).collect::<Vec<_>>();
        assert_eq!(seen.len(), 1);
        let (head, body) = &seen[0];
        assert_eq!(body.as_ref(), b"x");
        assert!(!head.headers.contains_key("content-length") && !head.headers.contains_key("transfer-encoding"));
    }
}

#[tokio::test]
async fn what_cannot_be_framed_is_refused_and_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (a, log) = recording(&dir);
    let world = World::start(spam(&[&a])).await;
    let bearer = world.bearer();
    for headers in [
        "content-length: 1\r\ncontent-length: 2",
        "content-length: 1, 2",
        "content-length: +1",
        "content-length: -1",
        "content-length: 0x1",
        "content-length: 18446744073709551616",
        "transfer-encoding: identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "content-length : 1",
        "x\r\ny: 1",
        "x: 1\r\n folded: 1",
        "x: a\0b",
    ] {
        let head = format!("POST /v2/models/spam/infer HTTP/1.1\r\nhost: g\r\nauthorization: {bearer}\r\n{headers}");
        let answer = raw(world.address, format!("{head}\r\n\r\nx{SMUGGLED}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers}: {answer}");
    }
    let old = format!(
        "POST /v2/models/spam/infer HTTP/1.0\r\nauthorization: {bearer}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert!(raw(world.address, old.as_bytes()).await.contains(" 400 "));
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_chunks_never_reach_a_replica() {
    let dir = tempfile::tempdir().unwrap();
    let (a, log) = recording(&dir);
    let world = World::start(spam(&[&a])).await;
    for chunks in ["zz\r\nx\r\n0\r\n\r\n", "-1\r\nx\r\n0\r\n\r\n", "fffffffffffffffff\r\nx", "1\r\nxx\r\n0\r\n\r\n"] {
        let bytes = format!(
            "POST /v2/models/spam/infer HTTP/1.1\r\nhost: g\r\nauthorization: {}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}",
            world.bearer()
        );
        let answer = raw(world.address, bytes.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{chunks}: {answer}");
    }
    assert!(log.lock().unwrap().is_empty());
}
