//! Answers on their way to clients. Each ends at its deadline, whether or not anybody still asks for its next piece.
//!
//! A client of HTTP/2 that grants no window, or one of HTTP/1.1 that does not read, stops whoever sends the answer, and nobody asks for
//! the next piece: a timer in the body alone would never be looked at, and the request would hold its places for ever.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use daemon::{BoxError, Supervisor, link};
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, interval};

use crate::{body::BodyError, exchange::Exchange};

/// How often deadlines are looked at. Whoever asks for pieces meets the deadline itself, to the millisecond.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes of an answer that a connection of HTTP/1.1 takes at once, whether or not its client reads: hyper's buffer holds many of them.
/// One that is too full for it takes nothing, and is closed for that.
const TAKEN_BYTES_MAX: u64 = 16 * 1024;

struct Sending {
    body: link::Body,
    exchange: Box<Exchange>,
}

type Cell = Mutex<Option<Sending>>;

/// All answers on their way; there are as many as there may be requests in flight.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    next: AtomicU64,
    all: Mutex<HashMap<u64, (Instant, Weak<Cell>)>>,
}

/// One answer. Dropping it ends it.
pub(crate) struct Answer {
    /// Its number among those that are watched.
    id: Option<u64>,
    answers: Arc<Answers>,
    cell: Arc<Cell>,
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    /// An answer that has begun, for a client of this version. One that the connection takes at once need not be watched.
    pub(crate) fn begin(self: &Arc<Self>, body: link::Body, exchange: Box<Exchange>, version: Version) -> Answer {
        let taken = version < Version::HTTP_2 && body.size_hint().exact().is_some_and(|len| len <= TAKEN_BYTES_MAX);
        let id = (!taken).then(|| self.next.fetch_add(1, Ordering::Relaxed));
        let deadline = exchange.deadline();
        let cell = Arc::new(Mutex::new(Some(Sending { body, exchange })));
        if let Some(id) = id {
            lock(&self.all).insert(id, (deadline, Arc::downgrade(&cell)));
        }
        Answer { id, answers: Arc::clone(self), cell }
    }

    /// Ends the answers that are late, until `supervisor` is through.
    pub(crate) async fn watch(self: Arc<Self>, supervisor: Supervisor) -> Result<(), BoxError> {
        let mut looks = interval(LOOK_EVERY);
        let stop = supervisor.stopping();
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            self.end_late(Instant::now());
        }
        Ok(())
    }

    fn end_late(&self, now: Instant) {
        let late: Vec<_> = lock(&self.all)
            .values()
            .filter(|(deadline, _)| *deadline <= now)
            .filter_map(|(_, cell)| cell.upgrade())
            .collect();
        for cell in late {
            let taken = lock(&cell).take();
            if let Some(mut sending) = taken {
                sending.exchange.note_broken(&BodyError::Deadline);
            }
        }
    }
}

impl Answer {
    /// The next piece.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut cell = lock(&self.cell);
        let Some(Sending { body, exchange }) = cell.as_mut() else {
            return Poll::Ready(Some(Err(BodyError::Deadline.into())));
        };
        let polled = Pin::new(body).poll_frame(cx).map_err(|_| BodyError::Upstream);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    exchange.note_trailers(trailers);
                }
            }
            Poll::Ready(Some(Err(error))) => exchange.note_broken(error),
            Poll::Ready(None) => exchange.note_end(),
            Poll::Pending => {}
        }
        polled.map_err(Into::into)
    }

    /// It took too long.
    pub(crate) fn note_late(&self) {
        if let Some(sending) = lock(&self.cell).as_mut() {
            sending.exchange.note_broken(&BodyError::Deadline);
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        lock(&self.cell).as_ref().is_some_and(|sending| sending.body.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        lock(&self.cell).as_ref().map(|sending| sending.body.size_hint()).unwrap_or_default()
    }
}

impl Drop for Answer {
    /// Whoever sends an answer drops it when all of it is on its way, or when nobody is left to send it to.
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.answers.all).remove(&id);
        }
        let taken = lock(&self.cell).take();
        if let Some(mut sending) = taken
            && (sending.body.is_end_stream() || sending.body.size_hint().exact() == Some(0))
        {
            sending.exchange.note_whole();
        }
    }
}
