//! Connections to replicas over their Unix sockets.
//!
//! HTTP/1.1 connections carry one request at a time and are driven by the task of that request: no task of their own, no hop between
//! threads, and a client that goes away takes the connection with it, which tells the replica to stop. Idle ones wait
//! in a stack, the warmest on top. HTTP/2 connections, for gRPC, are few, shared, and driven by tasks of their own.

use std::{
    fmt, io,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use daemon::Supervisor;
use futures_util::future::poll_fn;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use resources::snapshot::Endpoint;
use tokio::{net::UnixStream, time::Instant};

use crate::{
    body::UpBody,
    limit::{Counter, Share},
};

/// Idle connections kept per replica: more requests than this at once are rare, and opening one costs tens of microseconds.
const IDLE_MAX: usize = 64;
/// Shared HTTP/2 connections per replica. One connection's frames are handled by one task, so one core; two use two cores.
const SHARED: usize = 2;
/// Time that a replica which refused a connection or declined a request is left alone, unless a new configuration comes.
pub(crate) const REST_TIME: Duration = Duration::from_millis(100);
/// Bytes that may be under way on one HTTP/2 stream and on one connection: enough for a whole answer of usual size.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes read at a time: a large answer takes few reads, and idle connections do not hold much.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a runtime's answer headers.
const HEADER_BYTES_MAX: u32 = 32 * 1024;

type Io = TokioIo<UnixStream>;

/// Why a request got no response head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection; nothing was sent.
    #[error("cannot connect to the replica: {0}")]
    Connect(#[source] io::Error),
    /// No connection; nothing was sent.
    #[error("cannot open a connection to the replica: {0}")]
    Handshake(#[source] hyper::Error),
    /// The connection closed.
    #[error("the replica closed the connection: {0}")]
    Closed(#[source] hyper::Error),
}

/// One replica: its connections and how busy it is.
pub(crate) struct Upstream {
    endpoint: Endpoint,
    busy: Counter,
    idle: Mutex<Vec<Driven>>,
    shared: [Mutex<Option<http2::SendRequest<UpBody>>>; SHARED],
    next_shared: AtomicUsize,
    /// Milliseconds after `epoch` until which the replica is left alone.
    resting_until: AtomicU64,
    epoch: Instant,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Upstream {
    /// A replica without connections.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            busy: Counter::default(),
            idle: Mutex::default(),
            shared: [const { Mutex::new(None) }; SHARED],
            next_shared: AtomicUsize::new(0),
            resting_until: AtomicU64::new(0),
            epoch: Instant::now(),
        }
    }

    /// Where it listens and what it is called.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn socket(&self) -> &Path {
        &self.endpoint.socket
    }

    /// Requests in flight.
    pub(crate) fn load(&self) -> usize {
        self.busy.get()
    }

    /// Counts a request as in flight until the share goes.
    pub(crate) fn occupy(&self) -> Option<Share> {
        self.busy.take(1, usize::MAX)
    }

    fn since_epoch(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// Leaves it alone for a while, and forgets its connections.
    pub(crate) fn rest(&self, now: Instant) {
        self.resting_until.store(self.since_epoch(now + REST_TIME), Ordering::Relaxed);
        self.forget();
    }

    /// Forgets its connections: where one was closed, the others are most likely too, whether or not their tasks have noticed.
    /// Requests under way on a shared one keep it until they end.
    pub(crate) fn forget(&self) {
        lock(&self.idle).clear();
        for slot in &self.shared {
            drop(lock(slot).take());
        }
    }

    /// Ends the rest, because a new configuration still names it.
    pub(crate) fn wake(&self) {
        self.resting_until.store(0, Ordering::Relaxed);
    }

    /// Whether it may be picked.
    pub(crate) fn available(&self, now: Instant) -> bool {
        self.resting_until.load(Ordering::Relaxed) <= self.since_epoch(now)
    }

    /// A connection for one request, an idle one where `fresh` is not asked for.
    pub(crate) async fn lease(self: &Arc<Self>, fresh: bool) -> Result<Lease, SendError> {
        if !fresh {
            while let Some(mut driven) = { lock(&self.idle).pop() } {
                if driven.is_alive() {
                    return Ok(Lease { driven, upstream: Arc::clone(self) });
                }
            }
        }
        let driven = Driven::open(self.socket()).await?;
        Ok(Lease { driven, upstream: Arc::clone(self) })
    }

    /// A handle on a shared HTTP/2 connection.
    pub(crate) async fn shared(&self, supervisor: &Supervisor) -> Result<http2::SendRequest<UpBody>, SendError> {
        let at = self.next_shared.fetch_add(1, Ordering::Relaxed) % SHARED;
        let Some(slot) = self.shared.get(at) else { return Err(SendError::Connect(io::ErrorKind::NotFound.into())) };
        if let Some(sender) = lock(slot).as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = UnixStream::connect(self.socket()).await.map_err(SendError::Connect)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(SendError::Handshake)?;
        supervisor.spawn_connection(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "shared connection to a replica ended");
            }
        });
        // Two requests may both have opened one; the later stays and the earlier ends with its request.
        *lock(slot) = Some(sender.clone());
        Ok(sender)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An HTTP/1.1 connection and the future that drives it.
struct Driven {
    sender: http1::SendRequest<UpBody>,
    driver: Pin<Box<http1::Connection<Io, UpBody>>>,
    over: bool,
}

impl Driven {
    async fn open(socket: &Path) -> Result<Self, SendError> {
        let stream = UnixStream::connect(socket).await.map_err(SendError::Connect)?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(READ_BYTES_MAX)
            .max_header_size(usize::try_from(HEADER_BYTES_MAX).unwrap_or(usize::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(SendError::Handshake)?;
        Ok(Self { sender, driver: Box::pin(driver), over: false })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.over {
            self.over = self.driver.as_mut().poll(cx).is_ready();
        }
    }

    /// Looks whether the other end closed it. Nobody is to be woken by it: it is driven again before it is waited for.
    fn is_alive(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.over && self.sender.is_ready()
    }
}

/// A connection while one request has it.
pub(crate) struct Lease {
    driven: Driven,
    upstream: Arc<Upstream>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Lease {
    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<UpBody>) -> Result<Response<Incoming>, SendError> {
        let driven = &mut self.driven;
        let mut answer = std::pin::pin!(driven.sender.try_send_request(request));
        let (driver, over) = (&mut driven.driver, &mut driven.over);
        let answered = poll_fn(|cx| {
            if !*over {
                *over = driver.as_mut().poll(cx).is_ready();
            }
            answer.as_mut().poll(cx)
        });
        answered.await.map_err(|error| SendError::Closed(error.into_error()))
    }

    /// Polls the answer's body, driving the connection as far as it goes.
    pub(crate) fn poll_body(
        lease: Option<&mut Self>,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        match lease {
            Some(lease) if polled.is_pending() => {
                lease.driven.drive(cx);
                Pin::new(incoming).poll_frame(cx)
            }
            _ => polled,
        }
    }

    /// Reads an answer's body of at most `bytes_max`; nothing when it is longer or breaks off.
    pub(crate) async fn collect(&mut self, mut incoming: Incoming, bytes_max: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|cx| Self::poll_body(Some(self), &mut incoming, cx)).await {
            if let Ok(data) = frame.ok()?.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > bytes_max {
                return None;
            }
        }
        Some(bytes)
    }

    /// Puts the connection back for the next request, when it is fit for one.
    pub(crate) fn give_back(mut self) {
        if self.driven.is_alive() {
            let mut idle = lock(&self.upstream.idle);
            if idle.len() < IDLE_MAX {
                idle.push(self.driven);
            }
        }
    }
}
