//! Serves HTTP/1.1 and HTTP/2 on one port: TCP, TLS or a Unix socket, with limits and a graceful drain; and links beside them.

use std::{
    convert::Infallible,
    future::Future,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{BoxError, Supervisor, link};

use self::{full::Refuser, opening::Version, patience::Patient};

mod full;
mod opening;
mod patience;
mod pause;

pub use pause::{PAUSE_MAX, Pause, Stalled};

/// A silent HTTP/2 connection is pinged this often, and closed when no answer comes in the time after it.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Bounds on what a client may make a server hold.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at a time. Over TCP one more is told so, and closed; on a Unix socket it waits in the kernel's queue.
    pub connections_max: usize,
    /// Bytes of a request's headers, HTTP/1.1 and HTTP/2.
    pub header_bytes_max: u32,
    /// Time for the first bytes, for the headers of a request, and for a TLS handshake: what a slow-loris client gets. An
    /// HTTP/1.1 connection without a request is closed after it, too.
    pub header_timeout: Duration,
    /// Streams of one HTTP/2 connection at a time.
    pub streams_max: u32,
    /// On a Unix socket, whether only this process's own user and root are answered. The kernel says who connects
    /// (`SO_PEERCRED`); the socket's mode says the same, unless somebody has changed it.
    pub same_user_only: bool,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            header_bytes_max: 32 * 1024,
            // Long enough that the pools of usual clients mostly let go first, short enough that silent ones cost little.
            header_timeout: Duration::from_secs(30),
            streams_max: 1024,
            same_user_only: false,
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// In the clear.
    Tcp(TcpListener),
    /// TLS over TCP.
    Tls(TcpListener, TlsConfig),
    /// A Unix socket; its file goes when the listener goes.
    Unix(UnixListener, SocketFile),
}

/// A TLS server configuration; its keys are not printed.
#[derive(Clone)]
pub struct TlsConfig(pub Arc<rustls::ServerConfig>);

impl std::fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConfig")
    }
}

/// The file of a Unix socket, removed on drop unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: Self::id(path)? })
    }

    fn id(path: &Path) -> io::Result<(u64, u64)> {
        let meta = std::fs::symlink_metadata(path)?;
        Ok((meta.dev(), meta.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::id(&self.path).is_ok_and(|id| id == self.id) {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Longest path of a Unix socket on Linux (`sun_path` is 108 bytes with the final zero; unix(7)).
pub const SOCKET_PATH_LEN_MAX: usize = 107;

/// Binds a Unix socket that only its owner can open. A stale file at `path` is replaced.
pub fn bind_unix(path: &Path) -> io::Result<Listener> {
    EarlySocket::unix(path)?.listen()
}

/// A socket bound before there is a tokio runtime, which a process does that restricts itself before it has threads.
#[derive(Debug)]
pub enum EarlySocket {
    /// In the clear.
    Tcp(std::net::TcpListener),
    /// A Unix socket; its file goes when the listener goes.
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl EarlySocket {
    /// Binds a TCP address.
    pub fn tcp(address: std::net::SocketAddr) -> io::Result<Self> {
        Ok(Self::Tcp(std::net::TcpListener::bind(address)?))
    }

    /// Binds a Unix socket that only its owner can open. A stale file at `path` is replaced.
    pub fn unix(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() > SOCKET_PATH_LEN_MAX {
            let text = format!(
                "`{}` is longer than {SOCKET_PATH_LEN_MAX} bytes, the limit for a Unix socket: choose a shorter data directory",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self::Unix(listener, SocketFile::new(path)?))
    }

    /// Gives the socket to the tokio runtime this is called in.
    pub fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(TcpListener::from_std(listener)?))
            }
            Self::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(UnixListener::from_std(listener)?, file))
            }
        }
    }
}

/// What is served over links; the bodies are of another kind than those of HTTP.
trait OnLink: Clone + Send + 'static {
    /// Serves one connection, whose preface has been read.
    fn serve<T>(self, stream: T, supervisor: Supervisor) -> impl Future<Output = Result<(), BoxError>> + Send
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// Serves no links.
#[derive(Clone)]
struct NoLinks;

impl OnLink for NoLinks {
    async fn serve<T>(self, _: T, _: Supervisor) -> Result<(), BoxError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Err("links are not served here".into())
    }
}

#[derive(Clone)]
struct Links<S>(S);

impl<S, B> OnLink for Links<S>
where
    S: tower::Service<Request<link::Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn serve<T>(self, stream: T, supervisor: Supervisor) -> Result<(), BoxError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Ok(link::serve(stream, self.0, supervisor).await?)
    }
}

/// Serves until the supervisor stops, then finishes the requests that have begun.
///
/// `service` is cloned per connection. Errors of one connection end that connection alone.
pub async fn serve<S, B>(
    listener: Listener,
    service: S,
    limits: ServerLimits,
    supervisor: Supervisor,
) -> Result<(), BoxError>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    serve_all(listener, (service, NoLinks), limits, supervisor).await
}

/// [`serve`], and [links](crate::link) too where the listener is a Unix socket.
pub async fn serve_linked<S, B>(
    listener: Listener,
    service: S,
    limits: ServerLimits,
    supervisor: Supervisor,
) -> Result<(), BoxError>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    <S as tower::Service<Request<Incoming>>>::Future: Send,
    S: tower::Service<Request<link::Body>, Response = Response<B>, Error = Infallible>,
    <S as tower::Service<Request<link::Body>>>::Future: Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    serve_all(listener, (service.clone(), Links(service)), limits, supervisor).await
}

async fn serve_all<S, B>(
    listener: Listener,
    (service, links): (S, impl OnLink),
    limits: ServerLimits,
    supervisor: Supervisor,
) -> Result<(), BoxError>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let refuser = Refuser::new();
    let stop = supervisor.stopping();
    loop {
        let permit = match &listener {
            Listener::Unix(..) => tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => Some(permit?),
                () = stop.cancelled() => return Ok(()),
            },
            Listener::Tcp(_) | Listener::Tls(..) => None,
        };
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        let connection = match accepted {
            Ok(connection) => connection,
            // A client that has gone already is no reason to keep the next one waiting.
            Err(error) if !is_exhausted(&error) => continue,
            Err(error) => {
                // Out of file descriptors or memory: the next accept may work.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if limits.same_user_only && !connection.is_of_same_user() {
            tracing::warn!("refused a connection of another user");
            continue;
        }
        let Some(permit) = permit.or_else(|| Arc::clone(&permits).try_acquire_owned().ok()) else {
            if let Connection::Tcp(stream) = connection {
                refuser.refuse(stream, &supervisor);
            }
            continue;
        };
        let (service, links, supervising) = (service.clone(), links.clone(), supervisor.clone());
        supervisor.spawn_connection(async move {
            let _permit = permit;
            if let Err(error) = connection.serve((service, links), limits, supervising).await {
                tracing::debug!(error = %error, "connection ended with an error");
            }
        });
    }
}

enum Connection {
    Tcp(tokio::net::TcpStream),
    Tls(tokio::net::TcpStream, TlsConfig),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Connection> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            Ok(Connection::Tcp(without_delay(stream)))
        }
        Listener::Tls(listener, config) => {
            let (stream, _) = listener.accept().await?;
            Ok(Connection::Tls(without_delay(stream), config.clone()))
        }
        Listener::Unix(listener, _) => Ok(Connection::Unix(listener.accept().await?.0)),
    }
}

/// Small answers leave at once. A connection that refuses the option is over and says so when it is read.
fn without_delay(stream: tokio::net::TcpStream) -> tokio::net::TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was over before it was served");
    }
    stream
}

impl Connection {
    fn is_of_same_user(&self) -> bool {
        let Self::Unix(stream) = self else { return true };
        let me = rustix::process::geteuid().as_raw();
        stream.peer_cred().is_ok_and(|peer| peer.uid() == me || peer.uid() == 0)
    }

    async fn serve<S, B>(
        self,
        (service, links): (S, impl OnLink),
        limits: ServerLimits,
        supervisor: Supervisor,
    ) -> Result<(), BoxError>
    where
        S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let service = hyper_util::service::TowerToHyperService::new(service);
        match self {
            Self::Tcp(stream) => serve_connection(stream, (service, NoLinks), limits, supervisor).await,
            Self::Unix(stream) => serve_connection(stream, (service, links), limits, supervisor).await,
            Self::Tls(stream, TlsConfig(config)) => {
                let handshake = TlsAcceptor::from(config).accept(stream);
                let stream = tokio::time::timeout(limits.header_timeout, handshake).await??;
                serve_connection(stream, (service, NoLinks), limits, supervisor).await
            }
        }
    }
}

async fn serve_connection<T, S, B>(
    stream: T,
    (service, links): (S, impl OnLink),
    limits: ServerLimits,
    supervisor: Supervisor,
) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let stop = supervisor.stopping();
    let opening = tokio::time::timeout(limits.header_timeout, opening::open(stream));
    let opened = tokio::select! {
        opened = opening => opened??,
        () = stop.cancelled() => return Ok(()),
    };
    match opened {
        Some((Version::One, stream)) => serve_one(stream, service, limits, stop).await,
        Some((Version::Two, stream)) => serve_two(stream, service, limits, stop).await,
        Some((Version::Link, stream)) => links.serve(stream, supervisor).await,
        None => Ok(()),
    }
}

async fn serve_one<T, S, B>(
    stream: T,
    service: S,
    limits: ServerLimits,
    stop: CancellationToken,
) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let closed = CancellationToken::new();
    let stream = Patient::half(stream, closed.clone());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It runs from the end of the request before: it also closes connections that are idle.
        .header_read_timeout(limits.header_timeout)
        .max_header_size(usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX))
        .serve_connection(TokioIo::new(stream), service);
    // A client that has closed its side asks nothing more: the connection is over with the answer.
    until_stopped(connection, (stop, closed)).await
}

async fn serve_two<T, S, B>(
    stream: T,
    service: S,
    limits: ServerLimits,
    stop: CancellationToken,
) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.header_bytes_max)
        .adaptive_window(true)
        .keep_alive_interval(Some(PING_EVERY))
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    until_stopped(connection, (stop, CancellationToken::new())).await
}

/// Drives a connection until its client ends it; after `stop` or `closed` it finishes the requests that have begun.
async fn until_stopped<C>(connection: C, (stop, closed): (CancellationToken, CancellationToken)) -> Result<(), BoxError>
where
    C: GracefulConnection,
    C::Error: Into<BoxError>,
{
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = closed.cancelled() => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(Into::into)
}

/// Whether `accept` failed for want of something that only time brings back, not because of one client.
fn is_exhausted(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
