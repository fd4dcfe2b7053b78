//! A gateway with a controller and replicas made for tests, and clients for it.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use access::NewKey;
use bytes::Bytes;
use daemon::{Supervisor, link, telemetry::Tracing};
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use resources::{
    access::{KeyRecord, Permission},
    id::{ReplicaId, Revision, ServiceName},
    snapshot::{Endpoint, GatewaySnapshot, RouteRevision, RouteService},
    window::{GatewayWindow, ServiceWindow},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixListener, UnixStream},
    sync::watch,
};

use crate::{Config, Limits};

pub(super) type AnyBody = BoxBody<Bytes, String>;

/// What a replica of the tests does with a request.
pub(super) enum Act {
    Answer(Response<AnyBody>),
    /// Closes the connection.
    Close,
}

type Acting = Pin<Box<dyn Future<Output = Act> + Send>>;
type Behaviour = Arc<dyn Fn(Seen) -> Acting + Send + Sync>;

/// A request as a replica received it.
pub(super) struct Seen {
    pub(super) head: request::Parts,
    pub(super) body: link::Body,
}

impl Seen {
    /// Reads the body to its end.
    pub(super) async fn read(self) -> (request::Parts, Bytes) {
        let body = self.body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        (self.head, body)
    }
}

pub(super) fn full(text: impl Into<Bytes>) -> AnyBody {
    Full::new(text.into()).map_err(|error: Infallible| error.to_string()).boxed()
}

pub(super) fn ok(text: impl Into<Bytes>) -> Act {
    Act::Answer(Response::new(full(text)))
}

/// A replica: a small server on a Unix socket.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) endpoint: Endpoint,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) requests: Arc<AtomicUsize>,
    stop: Supervisor,
}

impl Replica {
    pub(super) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Closes its socket and its connections, as if killed.
    pub(super) fn kill(&self) {
        std::fs::remove_file(&self.endpoint.socket).unwrap();
        self.stop.stop();
    }
}

/// The whole arrangement.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) supervisor: Supervisor,
    pub(super) key: NewKey,
    pub(super) published: Arc<watch::Sender<GatewaySnapshot>>,
    /// What the gateway last said that it serves, and what of that it has on disk.
    pub(super) asked: Arc<watch::Sender<(u64, u64)>>,
    /// What the gateway has told of its load.
    pub(super) windows: Arc<watch::Sender<Vec<GatewayWindow>>>,
    pub(super) address: SocketAddr,
}

pub(super) const LIMITS: Limits = Limits { body_bytes_max: 4 * 1024 * 1024, in_flight_max: 64 };

impl World {
    /// A gateway with a controller that has published `snapshot`, which gains a key for everything.
    pub(super) async fn start(snapshot: GatewaySnapshot) -> Self {
        Self::start_with(snapshot, |_| {}).await
    }

    pub(super) async fn start_with(snapshot: GatewaySnapshot, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_traced(snapshot, change, Tracing::off()).await
    }

    pub(super) async fn start_traced(
        mut snapshot: GatewaySnapshot,
        change: impl FnOnce(&mut Config),
        tracing: Tracing,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let key = access::generate().unwrap();
        snapshot.keys.push(record(&key, &["infer:*", "preview:*", "metrics"]));
        let wanted = snapshot.generation;
        let published = Arc::new(watch::Sender::new(snapshot));
        let asked = Arc::new(watch::Sender::new((0, 0)));
        let supervisor = Supervisor::new();
        let socket = dir.path().join("run/control.sock");
        let windows = Arc::new(watch::Sender::new(Vec::new()));
        controller(&supervisor, socket, Arc::clone(&published), Arc::clone(&asked), Arc::clone(&windows));
        let mut config = config(dir.path().to_owned());
        change(&mut config);
        let address = crate::start(&config, &supervisor, tracing).await.unwrap();
        let world = Self { dir, supervisor, key, published, asked, windows, address };
        world.wait_for(wanted).await;
        world
    }

    /// Waits until the gateway acknowledges a generation.
    pub(super) async fn wait_for(&self, generation: u64) {
        self.asked.subscribe().wait_for(|(_, kept)| *kept >= generation).await.unwrap();
    }

    /// Publishes a new generation and waits until the gateway acknowledges it.
    pub(super) async fn publish(&self, change: impl FnOnce(&mut GatewaySnapshot)) {
        let generation = self.announce(change);
        self.wait_for(generation).await;
    }

    /// Publishes a new generation, which is given.
    pub(super) fn announce(&self, change: impl FnOnce(&mut GatewaySnapshot)) -> u64 {
        let mut snapshot = self.published.borrow().clone();
        snapshot.generation += 1;
        change(&mut snapshot);
        let generation = snapshot.generation;
        self.published.send_replace(snapshot);
        generation
    }

    pub(super) fn bearer(&self) -> String {
        bearer(&self.key)
    }

    /// A request with the world's key.
    pub(super) fn request(&self, method: Method, path: &str) -> request::Builder {
        Request::builder().method(method).uri(path).header("host", "gateway").header("authorization", self.bearer())
    }

    pub(super) fn infer(&self, body: impl Into<Bytes>) -> Request<AnyBody> {
        self.request(Method::POST, "/v2/models/spam/infer").body(full(body)).unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        Client::h1(self.address, &self.supervisor).await
    }

    pub(super) async fn grpc(&self) -> Client {
        Client::h2(self.address, &self.supervisor).await
    }

    /// Sends over a connection of its own.
    pub(super) async fn send(&self, request: Request<AnyBody>) -> Answer {
        self.client().await.send(request).await
    }

    /// Asks the gateway's own socket.
    pub(super) async fn admin(&self, path: &str) -> Answer {
        let stream = UnixStream::connect(self.dir.path().join("run/gateway.sock")).await.unwrap();
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.supervisor.spawn_connection(async move { drop(connection.await) });
        let request = Request::get(path).header("host", "g").body(full("")).unwrap();
        Answer::of(sender.send_request(request).await.unwrap()).await
    }

    /// What is counted under `name`, over all labels that contain `labels`.
    pub(super) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// What the gateway has told of a service, once it is `enough`.
    pub(super) async fn told(&self, name: &str, enough: impl Fn(&[ServiceWindow]) -> bool) -> Vec<ServiceWindow> {
        let of = |windows: &Vec<GatewayWindow>| {
            let services = windows.iter().flat_map(|window| &window.services);
            services.filter(|service| service.name.as_str() == name).cloned().collect::<Vec<_>>()
        };
        let mut windows = self.windows.subscribe();
        let told = windows.wait_for(|windows| enough(&of(windows))).await.unwrap();
        of(&told)
    }

    /// Waits until something has been counted, which is how tests know that a request waits.
    pub(super) async fn until_counted(&self, name: &str, labels: &str) {
        while self.metric(name, labels).await < 1.0 {
            tokio::task::yield_now().await;
        }
    }
}

pub(super) fn config(data_dir: PathBuf) -> Config {
    Config { data_dir, listen: "127.0.0.1:0".parse().unwrap(), tls: None, limits: LIMITS }
}

pub(super) fn record(key: &NewKey, allow: &[&str]) -> KeyRecord {
    KeyRecord {
        id: key.id.clone(),
        name: key.id.clone(),
        digest: key.digest.clone(),
        allow: allow.iter().map(|text| Permission::parse(text).unwrap()).collect(),
        created_at: "2026-01-01T00:00:00.000Z".to_owned(),
    }
}

pub(super) fn bearer(key: &NewKey) -> String {
    format!("Bearer {}", key.key.expose())
}

/// Generation 1 with one service, `spam`, whose revision 1 has these replicas.
pub(super) fn spam(replicas: &[&Replica]) -> GatewaySnapshot {
    GatewaySnapshot { generation: 1, services: vec![service("spam", replicas)], keys: Vec::new() }
}

pub(super) fn service(name: &str, replicas: &[&Replica]) -> RouteService {
    let endpoints = replicas.iter().map(|replica| replica.endpoint.clone()).collect();
    RouteService {
        name: ServiceName::parse(name).unwrap(),
        timeout_ms: 60_000,
        container_concurrency: None,
        wakes: false,
        default_revision: Some(Revision(1)),
        split: Vec::new(),
        sticky: None,
        shadow: None,
        revisions: vec![RouteRevision { revision: Revision(1), endpoints }],
    }
}

/// Starts a replica. Its socket goes with `dir`.
pub(super) fn replica<F, O>(dir: &tempfile::TempDir, name: &str, act: F) -> Replica
where
    F: Fn(Seen) -> O + Send + Sync + 'static,
    O: Future<Output = Act> + Send + 'static,
{
    let act: Behaviour = Arc::new(move |seen| Box::pin(act(seen)));
    let socket = dir.path().join(format!("{name}.sock"));
    let listener = UnixListener::bind(&socket).unwrap();
    let replica = Replica {
        endpoint: Endpoint { replica: ReplicaId(name.to_owned()), socket },
        connections: Arc::default(),
        requests: Arc::default(),
        stop: Supervisor::new(),
    };
    let serving = replica.clone();
    replica.stop.spawn_connection(async move {
        let stop = serving.stop.stopping();
        while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
            serving.connections.fetch_add(1, Ordering::SeqCst);
            let (act, requests) = (Arc::clone(&act), Arc::clone(&serving.requests));
            let handle = move |request: Request<link::Body>| {
                requests.fetch_add(1, Ordering::SeqCst);
                let (head, body) = request.into_parts();
                let acting = act(Seen { head, body });
                async move {
                    match acting.await {
                        Act::Answer(response) => Ok(response),
                        Act::Close => Err(std::io::Error::other("closing")),
                    }
                }
            };
            let stop = stop.clone();
            serving.stop.spawn_connection(async move {
                let mut stream = stream;
                let mut preface = [0; link::PREFACE.len()];
                tokio::select! {
                    read = stream.read_exact(&mut preface) => assert!(read.is_err() || preface == *link::PREFACE),
                    () = stop.cancelled() => return,
                }
                tokio::select! {
                    _ = link::serve(stream, tower::service_fn(handle), Supervisor::new()) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    });
    replica
}

/// A replica that answers with its name.
pub(super) fn named(dir: &tempfile::TempDir, name: &'static str) -> Replica {
    replica(dir, name, move |seen| async move {
        seen.read().await;
        ok(name)
    })
}

fn controller(
    supervisor: &Supervisor,
    socket: PathBuf,
    published: Arc<watch::Sender<GatewaySnapshot>>,
    asked: Arc<watch::Sender<(u64, u64)>>,
    windows: Arc<watch::Sender<Vec<GatewayWindow>>>,
) {
    let listener = daemon::http::bind_unix(&socket).unwrap();
    let answer = move |request: Request<Incoming>| {
        let (mut snapshots, asked) = (published.subscribe(), Arc::clone(&asked));
        let windows = Arc::clone(&windows);
        async move {
            if request.uri().path() == crate::report::PATH {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                windows.send_modify(|windows| windows.push(serde_json::from_slice(&body).unwrap()));
                return Ok(Response::new(full("")));
            }
            assert_eq!(request.uri().path(), "/apis/berth.dev/v1alpha1/internal/gateway-snapshot");
            let query = request.uri().query().unwrap().strip_prefix("after=").unwrap();
            let (after, kept) = query.split_once("&kept=").unwrap_or((query, query));
            let (after, kept) = (after.parse().unwrap(), kept.parse().unwrap());
            asked.send_if_modified(|seen| std::mem::replace(seen, (after, kept)) != (after, kept));
            let snapshot = snapshots.wait_for(|snapshot| snapshot.generation != after).await.unwrap().clone();
            Ok(Response::new(full(serde_json::to_vec(&snapshot).unwrap())))
        }
    };
    let serve = daemon::http::serve(
        listener,
        tower::service_fn(answer),
        daemon::http::ServerLimits::default(),
        supervisor.clone(),
    );
    supervisor.spawn("controller", daemon::OnExit::Continue, serve);
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status of a gRPC call, wherever it stands.
    pub(super) fn grpc_status(&self) -> Option<u16> {
        let value = self.headers.get("grpc-status").or_else(|| self.trailers.get("grpc-status"))?;
        value.to_str().unwrap().parse().ok()
    }

    pub(super) async fn of<B>(response: Response<B>) -> Self
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, mut body) = response.into_parts();
        let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
        while let Some(frame) = body.frame().await {
            match frame.map_err(drop).unwrap().into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        Self { status: head.status, headers: head.headers, body: bytes.into(), trailers }
    }
}

/// A connection to the gateway.
pub(super) enum Client {
    H1(conn::http1::SendRequest<AnyBody>),
    H2(conn::http2::SendRequest<AnyBody>),
}

impl Client {
    pub(super) async fn h1(address: SocketAddr, supervisor: &Supervisor) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = conn::http1::handshake(io).await.unwrap();
        supervisor.spawn_connection(async move { drop(connection.await) });
        Self::H1(sender)
    }

    pub(super) async fn h2(address: SocketAddr, supervisor: &Supervisor) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        supervisor.spawn_connection(async move { drop(connection.await) });
        Self::H2(sender)
    }

    pub(super) async fn head(&mut self, request: Request<AnyBody>) -> Response<Incoming> {
        match self {
            Self::H1(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Self::H2(sender) => sender.send_request(request).await.unwrap(),
        }
    }

    pub(super) async fn send(&mut self, request: Request<AnyBody>) -> Answer {
        Answer::of(self.head(request).await).await
    }
}

/// Writes `bytes` to the gateway and reads until it closes.
pub(super) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good an end as any.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A gRPC request with `message`.
pub(super) fn grpc_request(path: &str, authorization: Option<&str>, message: &[u8]) -> Request<AnyBody> {
    let mut request = Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    request.body(full(framed(message))).unwrap()
}

/// A message with gRPC's prefix.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// A message with `model_name` and `model_version`.
pub(super) fn message(name: &str, version: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, text) in [(0x0a, name), (0x12, version)] {
        bytes.extend([key, u8::try_from(text.len()).unwrap()]);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// An answer of a gRPC server: a message, then trailers with status 0.
pub(super) fn grpc_ok(data: &[u8]) -> Act {
    let trailers = HeaderMap::from_iter([
        ("grpc-status".parse().unwrap(), http::HeaderValue::from_static("0")),
        ("x-extra".parse().unwrap(), http::HeaderValue::from_static("kept")),
    ]);
    let body = Full::new(Bytes::from(framed(data))).with_trailers(async move { Some(Ok(trailers)) });
    let body = body.map_err(|error: Infallible| error.to_string()).boxed();
    Act::Answer(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

/// Gives revision 1 of the first service these replicas.
pub(super) fn set(snapshot: &mut GatewaySnapshot, replicas: &[&Replica]) {
    snapshot.services[0].revisions[0].endpoints = replicas.iter().map(|replica| replica.endpoint.clone()).collect();
}
