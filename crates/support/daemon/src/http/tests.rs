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
        Self::start_with(limits, Bytes::from_static(b"ok"))
    }

    fn start_with(limits: ServerLimits, answer: Bytes) -> Self {
        let (dir, supervisor, gate) = (tempfile::tempdir().unwrap(), Supervisor::new(), Arc::new(Semaphore::new(0)));
        let (came, comes) = mpsc::channel(16);
        let kept = Arc::clone(&gate);
        let service = tower::service_fn(move |_: Request<Incoming>| {
            let (gate, came, answer) = (Arc::clone(&kept), came.clone(), answer.clone());
            async move {
                came.send(()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                Ok(Response::new(Full::new(answer)))
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

#[tokio::test(start_paused = true)]
async fn headers_that_trickle_in_have_no_more_time_than_silence() {
    let served = Served::start(ServerLimits::default());
    let mut client = served.connect().await;
    let begun = tokio::time::Instant::now();
    let mut sent = 0;
    while client.write_all(if sent == 0 { b"GET / HTTP/1.1\r\nx: " } else { b"x" }).await.is_ok() {
        sent += 1;
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert!(sent > 2 && begun.elapsed() < 3 * ServerLimits::default().header_timeout);
}

#[tokio::test]
async fn a_client_that_closed_its_side_gets_its_answer_and_the_end() {
    let mut served = Served::start(ServerLimits::default());
    let mut client = served.connect().await;
    client.write_all(GET).await.unwrap();
    client.shutdown().await.unwrap();
    served.comes.recv().await.unwrap();
    served.gate.add_permits(1);
    let got = rest(&mut client).await;
    assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("ok"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_gone_takes_its_request_along_after_a_while() {
    let mut served = Served::start(ServerLimits::default());
    let mut client = served.connect().await;
    client.write_all(GET).await.unwrap();
    client.shutdown().await.unwrap();
    served.comes.recv().await.unwrap();
    // Nobody opens the gate: the connection ends all the same.
    let begun = tokio::time::Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert!(begun.elapsed() >= super::patience::HALF_CLOSED_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_given_up() {
    let size = 16 * 1024 * 1024;
    let served = Served::start_with(ServerLimits::default(), vec![b'x'; size].into());
    served.gate.add_permits(1);
    let mut client = served.connect().await;
    client.write_all(GET).await.unwrap();
    tokio::time::sleep(2 * PAUSE_MAX).await;
    assert!(rest(&mut client).await.len() < size);
}

#[tokio::test]
async fn a_connection_over_the_limit_is_told_so_over_tcp() {
    let supervisor = Supervisor::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service =
        tower::service_fn(|_: Request<Incoming>| async { Ok(Response::new(Full::new(Bytes::from_static(b"ok")))) });
    let limits = ServerLimits { connections_max: 1, ..ServerLimits::default() };
    supervisor.spawn(
        "serve",
        crate::OnExit::Continue,
        serve(Listener::Tcp(listener), service, limits, supervisor.clone()),
    );
    let ask = async |stream: &mut tokio::net::TcpStream| {
        stream.write_all(GET).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"ok") && stream.read_buf(&mut bytes).await.unwrap() > 0 {}
        String::from_utf8(bytes).unwrap()
    };
    let mut first = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = tokio::net::TcpStream::connect(address).await.unwrap();
    let refused = ask(&mut second).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.ends_with("ask again later\"}"), "{refused}");
    // The one that was there is as good as before.
    assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"));
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
