//! Clients that ask and do not take what they asked for.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};

use super::support::{Act, World, full, replica, spam};

const TIMEOUT: Duration = Duration::from_secs(600);
/// More than every buffer between replica and client.
const LARGE: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let (came, mut comes) = mpsc::channel(1);
    let a = replica(&dir, "a", move |seen| {
        let came = came.clone();
        async move {
            seen.read().await;
            came.send(()).await.unwrap();
            Act::Answer(Response::new(full(Bytes::from(vec![b'x'; LARGE]))))
        }
    });
    let mut snapshot = spam(&[&a]);
    snapshot.services[0].timeout_ms = u64::try_from(TIMEOUT.as_millis()).unwrap();
    let world = World::start(snapshot).await;
    // One does not read its socket, the other grants no window.
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /v2/models/spam/infer HTTP/1.1\r\nhost: g\r\nauthorization: {}\r\ncontent-length: 0\r\n\r\n",
        world.bearer()
    );
    silent.write_all(head.as_bytes()).await.unwrap();
    comes.recv().await.unwrap();
    let io = TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.initial_stream_window_size(0).handshake(io).await.unwrap();
    world.supervisor.spawn_connection(async move { drop(connection.await) });
    let request = http::Request::post("http://gateway/v2/models/spam/infer").header("authorization", world.bearer());
    let _answer = sender.send_request(request.body(full("")).unwrap()).await.unwrap();
    comes.recv().await.unwrap();
    assert_eq!(world.metric("berth_gateway_in_flight_requests", "").await, 2.0);
    tokio::time::pause();
    tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
    tokio::time::resume();
    while world.metric("berth_gateway_in_flight_requests", "").await > 0.0 {
        tokio::task::yield_now().await;
    }
    let ended = world.metric("berth_gateway_requests_total", "").await;
    assert_eq!(ended + world.metric("berth_gateway_cancelled_total", "").await, 2.0);
}
