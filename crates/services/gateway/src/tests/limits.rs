//! How much is let in.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use tokio::sync::{Semaphore, mpsc};

use super::{
    forwarding::fed,
    support::{LIMITS, Replica, World, full, grpc_request, message, named, ok, raw, replica, spam},
};

/// A replica that says when a request has come and answers when it may.
fn gated(dir: &tempfile::TempDir) -> (Replica, mpsc::Receiver<()>, Arc<Semaphore>) {
    let (came, comes) = mpsc::channel(64);
    let gate = Arc::new(Semaphore::new(0));
    let kept = Arc::clone(&gate);
    let replica = replica(dir, "gated", move |seen| {
        let (came, gate) = (came.clone(), Arc::clone(&kept));
        async move {
            seen.read().await;
            came.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            ok("late")
        }
    });
    (replica, comes, gate)
}

#[tokio::test]
async fn a_service_has_as_many_requests_as_its_replicas_work_on() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut comes, gate) = gated(&dir);
    let mut snapshot = spam(&[&a]);
    snapshot.services[0].container_concurrency = Some(2);
    let world = World::start(snapshot).await;
    let refusals = async {
        comes.recv().await.unwrap();
        comes.recv().await.unwrap();
        let answer = world.send(world.infer("{}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")));
        let path = "/inference.GRPCInferenceService/ModelInfer";
        let request = grpc_request(path, Some(&world.bearer()), &message("spam", ""));
        assert_eq!(world.grpc().await.send(request).await.grpc_status(), Some(8));
        gate.add_permits(2);
    };
    let (one, two, ()) = tokio::join!(world.send(world.infer("{}")), world.send(world.infer("{}")), refusals);
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    // What they held came back.
    gate.add_permits(1);
    assert_eq!(world.send(world.infer("{}")).await.status, 200);
}

#[tokio::test]
async fn the_gateway_has_as_many_requests_as_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut comes, gate) = gated(&dir);
    let world = World::start_with(spam(&[&a]), |config| config.limits.in_flight_max = 1).await;
    let refusals = async {
        comes.recv().await.unwrap();
        let answer = world.send(world.infer("{}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
        gate.add_permits(1);
    };
    let (one, ()) = tokio::join!(world.send(world.infer("{}")), refusals);
    assert_eq!(one.status, 200);
    assert_eq!(world.metric("berth_gateway_rejected_total", "reason=\"overloaded\"").await, 1.0);
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let head = format!(
        "POST /v2/models/spam/infer HTTP/1.1\r\nhost: g\r\nauthorization: {}\r\ncontent-length: {}\r\n\r\n",
        world.bearer(),
        LIMITS.body_bytes_max + 1,
    );
    // Nothing of the body is sent: the answer does not wait for it.
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    assert_eq!(a.count(), 0);
}

#[tokio::test]
async fn a_client_that_writes_first_still_reads_the_413() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let answer = world.send(world.infer(vec![b' '; LIMITS.body_bytes_max + 1])).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains(&LIMITS.body_bytes_max.to_string()));
    // Just as large as allowed.
    assert_eq!(world.send(world.infer(vec![b' '; LIMITS.body_bytes_max])).await.status, 200);
}

#[tokio::test]
async fn a_body_without_a_length_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    for http2 in [false, true] {
        let (sender, body) = fed();
        let path = if http2 { "http://g/v2/models/spam/infer" } else { "/v2/models/spam/infer" };
        let request = world.request(Method::POST, path).body(body).unwrap();
        let feed = async move {
            let piece = Bytes::from(vec![b' '; 64 * 1024]);
            for _ in 0..LIMITS.body_bytes_max / piece.len() + 1 {
                if sender.send(piece.clone()).await.is_err() {
                    break;
                }
            }
        };
        let mut client = if http2 { world.grpc().await } else { world.client().await };
        let (answer, ()) = tokio::join!(client.send(request), feed);
        assert_eq!(answer.status, 413, "http2: {http2}");
    }
}

#[tokio::test]
async fn a_message_that_says_it_is_too_large_is_refused_by_its_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let (sender, body) = fed();
    let mut request = grpc_request("/inference.GRPCInferenceService/ModelInfer", Some(&world.bearer()), &[]);
    *request.body_mut() = body;
    let mut start = vec![0];
    start.extend(u32::try_from(LIMITS.body_bytes_max).unwrap().to_be_bytes());
    start.extend(message("spam", ""));
    let mut client = world.grpc().await;
    let feed = async move {
        sender.send(start.into()).await.unwrap();
        sender
    };
    let (answer, _sender) = tokio::join!(client.send(request), feed);
    assert_eq!(answer.grpc_status(), Some(8));
    assert_eq!(a.count(), 0);
}

const STALLED: &str = "no piece of the request's body came for 30 s: send it without such pauses";

/// A replica that says when a request has come, and reads it to its end.
fn reading(dir: &tempfile::TempDir) -> (Replica, mpsc::Receiver<()>) {
    let (came, comes) = mpsc::channel(1);
    let replica = replica(dir, "reading", move |seen| {
        let came = came.clone();
        async move {
            came.send(()).await.unwrap();
            seen.read().await;
            ok("read")
        }
    });
    (replica, comes)
}

/// Lets the longest pause pass, once what has been sent has arrived.
async fn pause(world: &World) -> std::convert::Infallible {
    for _ in 0..10 {
        world.metric("berth_gateway_generation", "").await;
    }
    tokio::time::pause();
    tokio::time::advance(daemon::http::PAUSE_MAX).await;
    tokio::time::resume();
    std::future::pending().await
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut comes) = reading(&dir);
    let mut snapshot = spam(&[&a]);
    snapshot.services[0].timeout_ms = 3_600_000;
    let world = World::start(snapshot).await;
    // One that the gateway holds, and one that passes: its replica has begun to read it.
    for (bytes, passes) in [(1, false), (2 * 1024 * 1024, true)] {
        let (sender, body) = fed();
        let request = world.request(Method::POST, "/v2/models/spam/infer").body(body).unwrap();
        let stall = async {
            sender.send(vec![b' '; bytes].into()).await.unwrap();
            world.until_counted("berth_gateway_in_flight_requests", "").await;
            if passes {
                comes.recv().await.unwrap();
            }
            pause(&world).await
        };
        let mut client = world.client().await;
        let answer = tokio::select! {
            answer = client.send(request) => answer,
            never = stall => match never {},
        };
        assert_eq!((answer.status.as_u16(), answer.text()), (408, format!("{{\"error\":\"{STALLED}\"}}")), "{bytes}");
    }
    assert_eq!(world.metric("berth_gateway_rejected_total", "reason=\"stalled\"").await, 2.0);
}

#[tokio::test]
async fn a_call_that_stalls_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut comes) = reading(&dir);
    let mut snapshot = spam(&[&a]);
    snapshot.services[0].timeout_ms = 3_600_000;
    let world = World::start(snapshot).await;
    for (bytes, passes) in [(100, false), (3 * 1024 * 1024 / 2, true)] {
        let (sender, body) = fed();
        let mut request = grpc_request("/inference.GRPCInferenceService/ModelInfer", Some(&world.bearer()), &[]);
        *request.body_mut() = body;
        // Half of a message whose last field is long.
        let mut start = vec![0];
        start.extend(u32::try_from(2 * bytes).unwrap().to_be_bytes());
        start.extend(message("spam", ""));
        start.push(0x3a);
        prost::encoding::encode_varint(u64::try_from(2 * bytes).unwrap(), &mut start);
        start.resize(bytes, 0);
        let stall = async {
            sender.send(start.into()).await.unwrap();
            world.until_counted("berth_gateway_in_flight_requests", "").await;
            if passes {
                comes.recv().await.unwrap();
            }
            pause(&world).await
        };
        let mut client = world.grpc().await;
        let answer = tokio::select! {
            answer = client.send(request) => answer,
            never = stall => match never {},
        };
        assert_eq!((answer.grpc_status(), answer.header("grpc-message")), (Some(4), Some(STALLED)), "{bytes}");
    }
}

#[tokio::test]
async fn headers_over_the_limit_are_431() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let long = "x".repeat(40 * 1024);
    let answer = raw(world.address, format!("GET /v2 HTTP/1.1\r\nhost: g\r\nx-long: {long}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many: String = (0..2000).map(|at| format!("x-{at}: 1\r\n")).collect();
    let answer = raw(world.address, format!("GET /v2 HTTP/1.1\r\nhost: g\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let fits = world.request(Method::GET, "/v2").header("x-long", "x".repeat(30 * 1024)).body(full("")).unwrap();
    assert_eq!(world.send(fits).await.status, 200);
    let request = http::Request::get("http://g/v2").header("authorization", world.bearer()).header("x-long", &long);
    assert_eq!(world.grpc().await.send(request.body(full("")).unwrap()).await.status, 431);
}
