//! Links to replicas over their Unix sockets.
//!
//! Requests with small bodies share a few links, so that those which come together cost few system calls. A larger body, or
//! one that passes through, has a link to itself while it lasts: it holds up nobody, and two of them use two cores.

use std::{
    cell::Cell,
    fmt, io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use daemon::{
    Supervisor,
    link::{self, Link, LinkError},
};
use http::{Request, Response};
use resources::snapshot::Endpoint;
use tokio::time::Instant;

use crate::{
    body::UpBody,
    limit::{Counter, Share},
    outlier::Meter,
};

/// Links for small bodies, per replica. A link's frames are handled by one task, so by one core; two use two cores.
const SHARED: usize = 2;
/// Requests on one shared link beyond which the next takes one of its own: well below what a replica takes on a link.
const SHARED_STREAMS_MAX: usize = 1024;
/// Bodies up to this go over a shared link.
const SHARED_BYTES_MAX: usize = 64 * 1024;
/// Idle links kept per replica for large bodies: more at once are rare, and opening one costs tens of microseconds.
const IDLE_MAX: usize = 16;
/// Time that a replica which refused a connection or declined a request is left alone, unless a new configuration comes.
pub(crate) const REST_TIME: Duration = Duration::from_millis(100);

/// Why a request got no response head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection; nothing was sent.
    #[error("cannot connect to the replica: {0}")]
    Connect(#[source] io::Error),
    /// The link or the stream ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// One replica: its links and how busy it is.
pub(crate) struct Upstream {
    endpoint: Endpoint,
    busy: Counter,
    shared: [Mutex<Option<Link>>; SHARED],
    own: Mutex<Vec<Link>>,
    /// Milliseconds after `epoch` until which the replica is left alone.
    resting_until: AtomicU64,
    epoch: Instant,
    /// What is seen of it beside its siblings.
    pub meter: Meter,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Upstream {
    /// A replica without links.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            busy: Counter::default(),
            shared: [const { Mutex::new(None) }; SHARED],
            own: Mutex::default(),
            resting_until: AtomicU64::new(0),
            epoch: Instant::now(),
            meter: Meter::default(),
        }
    }

    /// Where it listens and what it is called.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Requests in flight.
    pub(crate) fn load(&self) -> usize {
        self.busy.get()
    }

    /// Counts a request as in flight until the share goes.
    pub(crate) fn occupy(&self) -> Option<Share> {
        self.busy.take(1, usize::MAX)
    }

    /// Milliseconds on this replica's own clock.
    pub(crate) fn since_epoch(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// Leaves it alone for a while, and forgets its links.
    pub(crate) fn rest(&self, now: Instant) {
        self.resting_until.store(self.since_epoch(now + REST_TIME), Ordering::Relaxed);
        self.forget();
    }

    /// Forgets its links: where one was closed, the others are most likely too, whether or not their tasks have noticed.
    /// Requests under way keep theirs until they end.
    pub(crate) fn forget(&self) {
        lock(&self.own).clear();
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

    /// A link for one request, whose body has `whole` bytes where all of it is there.
    pub(crate) async fn lease(&self, whole: Option<usize>, supervisor: &Supervisor) -> Result<Lease<'_>, SendError> {
        match whole {
            Some(bytes) if bytes <= SHARED_BYTES_MAX => self.shared(supervisor).await,
            whole => {
                // A body that can be sent only once is not risked on a link that may just be closing.
                let idle = if whole.is_some() { self.idle() } else { None };
                self.own(idle, supervisor).await
            }
        }
    }

    async fn shared(&self, supervisor: &Supervisor) -> Result<Lease<'_>, SendError> {
        let Some(slot) = self.shared.get(lane()) else { return self.own(None, supervisor).await };
        let known = lock(slot).as_ref().and_then(|link| Some((link.clone(), link.load()?)));
        match known {
            Some((link, load)) if load < SHARED_STREAMS_MAX => return Ok(Lease { link, own: None }),
            Some(_) => return self.own(self.idle(), supervisor).await,
            None => {}
        }
        let link = self.open(supervisor).await?;
        // Two requests may both have opened one; the later stays and the earlier ends with its request.
        *lock(slot) = Some(link.clone());
        Ok(Lease { link, own: None })
    }

    async fn own(&self, idle: Option<Link>, supervisor: &Supervisor) -> Result<Lease<'_>, SendError> {
        let link = match idle {
            Some(link) => link,
            None => self.open(supervisor).await?,
        };
        Ok(Lease { link, own: Some(self) })
    }

    fn idle(&self) -> Option<Link> {
        let mut own = lock(&self.own);
        own.retain(|link| link.load().is_some());
        let at = own.iter().rposition(|link| link.load() == Some(0))?;
        Some(own.swap_remove(at))
    }

    async fn open(&self, supervisor: &Supervisor) -> Result<Link, SendError> {
        Link::open(&self.endpoint.socket, supervisor).await.map_err(SendError::Connect)
    }
}

/// The shared link of this thread: requests that one thread reads together leave together.
fn lane() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    LANE.with(|lane| {
        let number = lane.get().unwrap_or_else(|| THREADS.fetch_add(1, Ordering::Relaxed) % SHARED);
        lane.set(Some(number));
        number
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A link for one request.
#[derive(Debug)]
pub(crate) struct Lease<'u> {
    link: Link,
    /// Where it goes for the next large body.
    own: Option<&'u Upstream>,
}

impl Lease<'_> {
    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(self, request: Request<UpBody>) -> Result<Response<link::Body>, SendError> {
        let answer = self.link.send(request).await?;
        if let Some(upstream) = self.own {
            let mut own = lock(&upstream.own);
            // The answer may still be on its way: it is taken up again once that is over.
            if own.len() < IDLE_MAX {
                own.push(self.link);
            }
        }
        Ok(answer)
    }
}
