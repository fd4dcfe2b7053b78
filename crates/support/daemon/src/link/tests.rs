//! Tests of whole links: a server on a Unix socket, and clients that are many, slow, gone or wrong.

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

use super::{
    frame::{self, Header, Kind},
    *,
};
use crate::Supervisor;

type AnyBody = BoxBody<Bytes, LinkError>;

struct Server {
    dir: tempfile::TempDir,
    /// Of the server.
    serving: Supervisor,
    /// Of the clients.
    asking: Supervisor,
    /// A permit lets one request to `/gate` end.
    gate: Arc<Semaphore>,
    /// A message for each request to `/gate` that begins, whose other end goes when the request does.
    begun: mpsc::Receiver<mpsc::Receiver<()>>,
    /// Counts connections that ended.
    ended: mpsc::Receiver<bool>,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (serving, gate) = (Supervisor::new(), Arc::new(Semaphore::new(0)));
        let ((began, begun), (ends, ended)) = (mpsc::channel(16), mpsc::channel(16));
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let (supervisor, waiting) = (serving.clone(), Arc::clone(&gate));
        serving.spawn_connection(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (supervisor, gate) = (supervisor.clone(), Arc::clone(&waiting));
                let (began, ends) = (began.clone(), ends.clone());
                let service = tower::service_fn(move |request: Request<Body>| {
                    let (gate, began) = (Arc::clone(&gate), began.clone());
                    async move { Ok::<_, Infallible>(answer(request, &gate, &began).await) }
                });
                supervisor.clone().spawn_connection(async move {
                    let mut preface = [0; PREFACE.len()];
                    stream.read_exact(&mut preface).await.unwrap();
                    let served = serve(stream, service, supervisor).await;
                    ends.send(served.is_ok()).await.unwrap();
                });
            }
        });
        Self { dir, serving, asking: Supervisor::new(), gate, begun, ended }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    async fn link(&self) -> Link {
        Link::open(&self.path(), &self.asking).await.unwrap()
    }
}

async fn answer(
    request: Request<Body>,
    gate: &Semaphore,
    began: &mpsc::Sender<mpsc::Receiver<()>>,
) -> Response<AnyBody> {
    match request.uri().path() {
        "/gate" => {
            let (alive, dies) = mpsc::channel(1);
            began.send(dies).await.unwrap();
            gate.acquire().await.unwrap().forget();
            drop(alive);
            Response::new(full("open"))
        }
        "/broken" => {
            let frames = [Ok(http_body::Frame::data(Bytes::from_static(b"half"))), Err(LinkError::Reset)];
            Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))))
        }
        // Says what came, and sends it back, with a trailer where that is asked for.
        _ => {
            let (head, body) = request.into_parts();
            let whole = body.collect().await.unwrap().to_bytes();
            let trailers = head.headers.contains_key("te").then(|| {
                Ok(HeaderMap::from_iter([("x-len".parse().unwrap(), whole.len().to_string().parse().unwrap())]))
            });
            let body = Full::new(whole).with_trailers(std::future::ready(trailers));
            let body = body.map_err(|error: Infallible| match error {}).boxed();
            Response::builder().status(203).header("x-path", head.uri.to_string()).body(body).unwrap()
        }
    }
}

fn full(data: impl Into<Bytes>) -> AnyBody {
    Full::new(data.into()).map_err(|error: Infallible| match error {}).boxed()
}

/// A body in pieces, whose length is not known beforehand.
fn pieces(data: &Bytes, len: usize) -> AnyBody {
    let pieces: Vec<_> = data.chunks(len).map(Bytes::copy_from_slice).collect();
    let frames = pieces.into_iter().map(|piece| Ok(http_body::Frame::data(piece)));
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

fn post(path: &str, body: AnyBody) -> Request<AnyBody> {
    Request::post(path).body(body).unwrap()
}

#[tokio::test]
async fn messages_of_every_size_come_back_whole_and_together() {
    let server = Server::start();
    let link = server.link().await;
    let asked = [0, 1, 4096, 4097, 16 * 1024 + 1, 64 * 1024, 1024 * 1024, 5_000_001].map(async |len: usize| {
        let data = (0..=250).cycle().take(len).collect::<Bytes>();
        for body in [full(data.clone()), pieces(&data, 100_000)] {
            let mut request = post(&format!("/v2?len={len}"), body);
            request.headers_mut().insert("te", "trailers".parse().unwrap());
            let answer = link.send(request).await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["x-path"].to_str().unwrap()),
                (203, &*format!("/v2?len={len}"))
            );
            let collected = answer.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["x-len"], len.to_string());
            assert!(collected.to_bytes() == data, "{len}");
        }
        let answer = link.send(post("/", full(data.clone()))).await.unwrap();
        assert!(answer.into_body().collect().await.unwrap().to_bytes() == data, "{len} without trailers");
    });
    join_all(asked).await;
    assert_eq!(link.load(), Some(0));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_up_no_other() {
    let server = Server::start();
    let link = server.link().await;
    let large = Bytes::from(vec![7; 3 * WINDOW_BYTES]);
    let unread = link.send(post("/", full(large.clone()))).await.unwrap();
    for _ in 0..50 {
        let answer = link.send(post("/", full("small"))).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "small");
    }
    assert!(unread.into_body().collect().await.unwrap().to_bytes() == large);
}

#[tokio::test]
async fn a_request_that_is_given_up_is_given_up_on_the_other_side() {
    let mut server = Server::start();
    let link = server.link().await;
    let mut asking = Box::pin(link.send(post("/gate", full(""))));
    let mut dies = tokio::select! {
        dies = server.begun.recv() => dies.unwrap(),
        _ = &mut asking => panic!("the gate is closed"),
    };
    drop(asking);
    assert_eq!(dies.recv().await, None);
    assert_eq!(server.gate.available_permits(), 0);
    assert_eq!(link.load(), Some(0));
    assert_eq!(link.send(post("/", full("next"))).await.unwrap().status(), 203);
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_alone() {
    let server = Server::start();
    let link = server.link().await;
    let broken = link.send(post("/broken", full(""))).await.unwrap();
    let mut body = broken.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert!(matches!(body.frame().await, Some(Err(LinkError::Reset))));
    assert_eq!(link.send(post("/", full("next"))).await.unwrap().status(), 203);
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_its_request_alone() {
    let server = Server::start();
    let link = server.link().await;
    let frames = [Ok(http_body::Frame::data(Bytes::from_static(b"half"))), Err(LinkError::Reset)];
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    assert!(matches!(link.send(post("/", body)).await, Err(LinkError::Body(_))));
    assert_eq!(link.send(post("/", full("next"))).await.unwrap().status(), 203);
    assert_eq!(link.load(), Some(0));
}

#[tokio::test]
async fn a_server_that_drains_finishes_what_it_took_and_refuses_the_rest() {
    let mut server = Server::start();
    let (busy, idle) = (server.link().await, server.link().await);
    assert_eq!(idle.send(post("/", full(""))).await.unwrap().status(), 203);
    let mut asking = Box::pin(busy.send(post("/gate", full(""))));
    tokio::select! {
        _ = server.begun.recv() => {}
        _ = &mut asking => panic!("the gate is closed"),
    }
    server.serving.stop();
    assert_eq!(server.ended.recv().await, Some(true));
    // The word of the end has come before that of the idle link's.
    while busy.load().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(busy.send(post("/", full(""))).await, Err(LinkError::Refused)));
    server.gate.add_permits(1);
    assert_eq!(asking.await.unwrap().into_body().collect().await.unwrap().to_bytes(), "open");
    assert_eq!(server.ended.recv().await, Some(true));
}

#[tokio::test]
async fn a_connection_ends_with_its_last_user() {
    let mut server = Server::start();
    let link = server.link().await;
    let answer = link.send(post("/", full(vec![1; 2 * WINDOW_BYTES]))).await.unwrap();
    drop(link);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 2 * WINDOW_BYTES);
    // The client has closed: for the server that is an end like any other's death.
    assert_eq!(server.ended.recv().await, Some(false));
}

#[tokio::test]
async fn the_death_of_a_server_is_told_to_all_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let supervisor = Supervisor::new();
    let link = Link::open(&path, &supervisor).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let asking = async {
        let asked = join_all((0..3).map(|_| link.send(post("/", full("x"))))).await;
        assert!(asked.iter().all(|answer| matches!(answer, Err(LinkError::Closed))));
    };
    let dying = async {
        let mut stream = stream;
        let mut some = [0; PREFACE.len() + 1];
        stream.read_exact(&mut some).await.unwrap();
    };
    tokio::join!(asking, dying);
    assert_eq!(link.load(), None);
    assert!(matches!(link.send(post("/", full("x"))).await, Err(LinkError::Closed)));
}

/// What a client sends that is no client of ours; whether it was shown out.
async fn is_shown_out(server: &mut Server, frames: &[u8]) -> bool {
    let mut stream = UnixStream::connect(server.path()).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(frames).await.unwrap();
    let mut rest = Vec::new();
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut rest).await;
    server.ended.recv().await == Some(false)
}

fn head(stream: u32, end: bool) -> BytesMut {
    let mut out = BytesMut::new();
    let fields = (&http::Method::POST, &http::Uri::from_static("/gate"), &HeaderMap::new());
    frame::write_head(&mut out, (stream, end), b"", |out| frame::write_request(out, fields)).unwrap();
    out
}

#[tokio::test]
async fn who_breaks_the_protocol_is_shown_out() {
    let mut server = Server::start();
    let header = |len, kind| {
        let mut out = BytesMut::new();
        Header { len, stream: 1, kind, end: false }.write(&mut out);
        out
    };
    let twice = [head(1, true), head(1, true)].concat();
    let backwards = [head(2, true), head(1, true)].concat();
    let mut flood = head(1, false).to_vec();
    for _ in 0..=WINDOW_BYTES / DATA_BYTES_MAX {
        flood.extend_from_slice(&header(DATA_BYTES_MAX, Kind::Data));
        flood.extend(vec![0; DATA_BYTES_MAX]);
    }
    let fields = [header(9, Kind::Head).as_ref(), b"\x05\0\0\0\xff\xff\xff\xff\xff"].concat();
    let credit = [header(3, Kind::Credit).as_ref(), b"abc"].concat();
    let leaving = [header(4, Kind::Leaving).as_ref(), b"\0\0\0\0"].concat();
    for frames in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), twice, backwards, flood, fields, credit, leaving] {
        assert!(is_shown_out(&mut server, &frames).await, "{:?}", frames.get(..20));
    }
    // Streams that are gone, and credit for them, are nobody's fault.
    let link = server.link().await;
    assert_eq!(link.send(post("/", full("next"))).await.unwrap().status(), 203);
}
