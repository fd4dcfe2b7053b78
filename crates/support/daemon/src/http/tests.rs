//! Tests of serving: clients that are slow, silent or many, and the end.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{Semaphore, mpsc},
};

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Served {
    dir: tempfile::TempDir,
    supervisor: Supervisor,
    gate: Arc<Semaphore>,
    comes: mpsc::Receiver<()>,
}

impl Served {
    /// Serves answers that each need a permit of the gate.
    fn start(limits: ServerLimits) -> Self {
        let (dir, supervisor, gate) = (tempfile::tempdir().unwrap(), Supervisor::new(), Arc::new(Semaphore::new(0)));
        let (came, comes) = mpsc::channel(16);
        let kept = Arc::clone(&gate);
        let service = tower::service_fn(move |_: Request<Incoming>| {
            let (gate, came) = (Arc::clone(&kept), came.clone());
            async move {
                came.send(()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))
            }
        });
        let listener = bind_unix(&dir.path().join("s")).unwrap();
        supervisor.spawn("serve", crate::OnExit::Continue, serve(listener, service, limits, supervisor.clone()));
        Self { dir, supervisor, gate, comes }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("s")).await.unwrap()
    }
}

async fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

async fn answer(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"ok") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_silent_or_slow_are_shown_out() {
    let served = Served::start(ServerLimits::default());
    served.gate.add_permits(1);
    for sent in [b"".as_slice(), b"G", b"PRI * HT", b"GET / HTTP/1.1\r\nhost:"] {
        let mut client = served.connect().await;
        client.write_all(sent).await.unwrap();
        assert!(!rest(&mut client).await.contains(" 200 "));
    }
    // After an answer, too.
    let mut client = served.connect().await;
    client.write_all(GET).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn headers_over_the_limit_are_answered_with_431() {
    let served = Served::start(ServerLimits { header_bytes_max: 1024, ..ServerLimits::default() });
    let mut client = served.connect().await;
    client.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(1024)).as_bytes()).await.unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_another_to_end() {
    let served = Served::start(ServerLimits { connections_max: 1, ..ServerLimits::default() });
    let mut first = served.connect().await;
    first.write_all(GET).await.unwrap();
    let mut second = served.connect().await;
    second.write_all(GET).await.unwrap();
    served.gate.add_permits(2);
    answer(&mut first).await;
    // Two permits, one answer: the second has not been looked at.
    assert_eq!(served.gate.available_permits(), 1);
    drop(first);
    answer(&mut second).await;
}

#[tokio::test]
async fn the_end_finishes_what_has_begun_and_closes_the_rest() {
    let mut served = Served::start(ServerLimits::default());
    served.gate.add_permits(1);
    let (mut idle, mut silent, mut busy) = (served.connect().await, served.connect().await, served.connect().await);
    idle.write_all(GET).await.unwrap();
    answer(&mut idle).await;
    busy.write_all(GET).await.unwrap();
    for _ in 0..2 {
        served.comes.recv().await.unwrap();
    }
    served.supervisor.stop();
    assert_eq!((rest(&mut idle).await, rest(&mut silent).await), (String::new(), String::new()));
    served.gate.add_permits(1);
    assert!(rest(&mut busy).await.ends_with("ok"));
}

#[tokio::test]
async fn a_socket_that_another_process_put_in_place_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let first = bind_unix(&path).unwrap();
    let second = bind_unix(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}
