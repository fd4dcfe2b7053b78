//! Bodies on their way: what is read from a client, what is sent to a replica, what is sent back.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    vec,
};

use bytes::Bytes;
use daemon::{
    BoxError,
    http::{Pause, Stalled},
};
use futures_util::future::poll_fn;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    error::{Kind, Refusal},
    headers,
    limit::{Counter, Share},
    peek::{PREFIX_LEN, Prefix, WINDOW_BYTES_MAX},
    sending::Answer,
    shadow::Tee,
};

/// Bodies up to this are held, so that they can be sent again when a replica dies. Larger ones pass through.
pub(crate) const REPLAY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of bodies held by all requests together; beyond it bodies pass through, which costs them the second try alone.
pub(crate) const REPLAY_BYTES_TOTAL_MAX: usize = 256 * 1024 * 1024;

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client broke off its request.
    #[error("the request's body ended early")]
    Client,
    /// The request is over the limit.
    #[error("the request's body is over the limit")]
    TooLarge,
    /// The client sent nothing for too long.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// The replica broke off its answer.
    #[error("the answer ended early")]
    Upstream,
    /// The time is over.
    #[error("the answer took too long")]
    Deadline,
}

/// What the gateway holds of a request's body, in the pieces it came in.
#[derive(Debug, Default)]
pub(crate) struct Held {
    first: Bytes,
    more: Vec<Bytes>,
    len: usize,
    share: Option<Share>,
}

impl Held {
    fn push(&mut self, data: Bytes) {
        self.len += data.len();
        if self.first.is_empty() {
            self.first = data;
        } else {
            self.more.push(data);
        }
    }

    /// The beginning, at most `max` bytes of it, in one piece.
    pub(crate) fn window(&self, max: usize) -> Cow<'_, [u8]> {
        let wanted = self.len.min(max);
        if let Some(window) = self.first.get(..wanted) {
            return Cow::Borrowed(window);
        }
        let mut window = Vec::with_capacity(wanted);
        for piece in std::iter::once(&self.first).chain(&self.more) {
            let rest = wanted - window.len();
            window.extend_from_slice(piece.get(..rest).unwrap_or(piece));
        }
        Cow::Owned(window)
    }
}

/// A request's body after the door.
#[derive(Debug)]
pub(crate) enum Payload {
    /// All of it; it can be sent as often as needed.
    Whole(Held),
    /// The beginning of it and the rest on its way; it can be sent once. Nothing once it was.
    Passing(Option<Passing>),
}

/// A body that passes through.
#[derive(Debug)]
pub(crate) struct Passing {
    held: Held,
    rest: Incoming,
    bytes_max: usize,
}

impl Payload {
    /// Whether it can be sent again after it was sent.
    pub(crate) fn replayable(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Its length, where all of it is there.
    pub(crate) fn whole(&self) -> Option<usize> {
        match self {
            Self::Whole(held) => Some(held.len),
            Self::Passing(_) => None,
        }
    }

    /// Whether it can be sent at all.
    pub(crate) fn sendable(&self) -> bool {
        !matches!(self, Self::Passing(None))
    }

    /// What is held of it.
    pub(crate) fn held(&self) -> Option<&Held> {
        match self {
            Self::Whole(held) => Some(held),
            Self::Passing(passing) => passing.as_ref().map(|passing| &passing.held),
        }
    }

    /// The body to send, and where it is noted when the gateway itself breaks it off.
    pub(crate) fn take_send(&mut self) -> (UpBody, Option<Fault>) {
        match self {
            Self::Whole(held) => {
                let pieces = Pieces::of(held.first.clone(), held.more.clone(), held.len);
                (UpBody { pieces, rest: None }, None)
            }
            Self::Passing(passing) => {
                let Some(Passing { held, rest, bytes_max }) = passing.take() else { return (UpBody::default(), None) };
                let fault = Fault::default();
                let pieces = Pieces::of(held.first, held.more, held.len);
                let left = bytes_max.saturating_sub(held.len);
                let rest = Rest { incoming: rest, left, pause: Pause::default(), fault: Arc::clone(&fault) };
                (UpBody { pieces, rest: Some(rest) }, Some(fault))
            }
        }
    }
}

/// How a body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    /// Largest body.
    pub bytes_max: usize,
    /// Bytes up to which it is held whole.
    pub held_max: usize,
    /// Whether it is gRPC, whose first bytes say how long the message is and which model it is for.
    pub grpc: bool,
    /// Bytes held by all requests.
    pub budget: &'a Counter,
}

/// What a client is told about a body over the limit.
pub(crate) fn too_large(bytes_max: usize) -> Refusal {
    Refusal::new(Kind::TooLarge, format!("the body is over the limit of {bytes_max} bytes: send fewer rows at a time"))
}

/// What a client is told that sent nothing for too long.
pub(crate) fn stalled(stalled: Stalled) -> Refusal {
    Refusal::new(Kind::Stalled, stalled.to_string())
}

fn broken_off() -> Refusal {
    Refusal::new(Kind::ClientGone, "the request's body ended early")
}

/// [`read`]s a body, which must be there by `deadline`.
pub(crate) async fn read_by(
    deadline: Instant,
    body: &mut Option<Incoming>,
    reading: Reading<'_>,
) -> Result<Payload, Refusal> {
    let late = |_| Refusal::new(Kind::Deadline, "the request's body did not arrive within its time-out");
    timeout_at(deadline, read(body, reading)).await.map_err(late)?
}

/// Reads all of a small body, and as much of a large one as routing needs.
///
/// The body stays with the caller unless it passes, so that what is left of a refused one can be let run out.
async fn read(body: &mut Option<Incoming>, reading: Reading<'_>) -> Result<Payload, Refusal> {
    let mut held = Held::default();
    let Some(incoming) = body.as_mut() else { return Ok(Payload::Whole(held)) };
    let mut expected = incoming.size_hint().exact().and_then(|len| usize::try_from(len).ok());
    let mut decided = false;
    let mut pause = Pause::default();
    let replay_max = if reading.grpc { reading.held_max + PREFIX_LEN } else { reading.held_max };
    loop {
        if incoming.is_end_stream() {
            return Ok(Payload::Whole(held));
        }
        if reading.grpc && held.len >= PREFIX_LEN && expected.is_none() {
            expected = Prefix::read(&held.window(PREFIX_LEN)).map(message_end);
        }
        if expected.is_some_and(|len| len > reading.bytes_max) || held.len > reading.bytes_max {
            return Err(too_large(reading.bytes_max));
        }
        // The first bytes of a gRPC message tell what to expect; of other bodies without a length, the worst is expected.
        let known = expected.is_some() || !reading.grpc;
        if known && !decided {
            let expected = expected.unwrap_or(reading.held_max);
            held.share =
                (expected <= replay_max).then(|| reading.budget.take(expected, REPLAY_BYTES_TOTAL_MAX)).flatten();
            decided = true;
        }
        let passes = (decided && held.share.is_none()) || held.len > replay_max;
        let routable = !reading.grpc || held.len >= (PREFIX_LEN + WINDOW_BYTES_MAX).min(expected.unwrap_or(usize::MAX));
        if passes && routable {
            held.share = None;
            let rest = body.take();
            return Ok(Payload::Passing(rest.map(|rest| Passing { held, rest, bytes_max: reading.bytes_max })));
        }
        let piece = poll_fn(|cx| {
            let polled = Pin::new(&mut *incoming).poll_frame(cx);
            pause.watch(polled, cx)
        });
        match piece.await.map_err(stalled)? {
            // Trailers of a request mean nothing to a runtime (RFC 9110, 6.5.1: they may be dropped).
            Some(Ok(frame)) => drop(frame.into_data().map(|data| held.push(data))),
            Some(Err(_)) => return Err(broken_off()),
            None => return Ok(Payload::Whole(held)),
        }
    }
}

fn message_end(prefix: Prefix) -> usize {
    usize::try_from(prefix.len).unwrap_or(usize::MAX).saturating_add(PREFIX_LEN)
}

#[derive(Debug, Default)]
struct Pieces {
    first: Option<Bytes>,
    more: vec::IntoIter<Bytes>,
    len: usize,
}

impl Pieces {
    fn of(first: Bytes, more: Vec<Bytes>, len: usize) -> Self {
        Self { first: (!first.is_empty()).then_some(first), more: more.into_iter(), len }
    }

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.first.take().or_else(|| self.more.next())?;
        self.len = self.len.saturating_sub(piece.len());
        Some(piece)
    }
}

/// Why the gateway broke off a body that passes, once it did.
pub(crate) type Fault = Arc<OnceLock<BodyError>>;

#[derive(Debug)]
struct Rest {
    incoming: Incoming,
    left: usize,
    pause: Pause,
    fault: Fault,
}

impl Rest {
    fn break_off(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The first reason stays.
        let _ = self.fault.set(error);
        Poll::Ready(Some(Err(error)))
    }
}

/// A body on its way to a replica.
#[derive(Debug, Default)]
pub(crate) struct UpBody {
    pieces: Pieces,
    rest: Option<Rest>,
}

impl Body for UpBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.pieces.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(rest) = self.rest.as_mut() else { return Poll::Ready(None) };
        loop {
            let polled = Pin::new(&mut rest.incoming).poll_frame(cx);
            let frame = match rest.pause.watch(polled, cx) {
                Poll::Ready(Ok(Some(Ok(frame)))) => frame,
                Poll::Ready(Ok(Some(Err(_)))) => return Poll::Ready(Some(Err(BodyError::Client))),
                Poll::Ready(Ok(None)) => return Poll::Ready(None),
                Poll::Ready(Err(stalled)) => return rest.break_off(stalled.into()),
                Poll::Pending => return Poll::Pending,
            };
            let Ok(data) = frame.into_data() else { continue };
            match rest.left.checked_sub(data.len()) {
                Some(left) => rest.left = left,
                None => return rest.break_off(BodyError::TooLarge),
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.len == 0 && self.rest.as_ref().is_none_or(|rest| rest.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held = u64::try_from(self.pieces.len).unwrap_or(u64::MAX);
        match &self.rest {
            None => SizeHint::with_exact(held),
            Some(rest) => match rest.incoming.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(held.saturating_add(rest)),
                None => SizeHint::default(),
            },
        }
    }
}

type Boxed = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

enum Source {
    /// The gateway's own words.
    Own(Option<Bytes>, Option<HeaderMap>),
    /// A replica's.
    Replica(Answer),
    /// Health and reflection.
    Boxed(Boxed, Option<Pin<Box<WaitForCancellationFutureOwned>>>),
}

/// A body on its way to the client. While it lives, its request counts as in flight.
pub(crate) struct DownBody {
    source: Source,
    tee: Option<Box<Tee>>,
    deadline: Option<(Instant, Option<Pin<Box<Sleep>>>)>,
}

impl std::fmt::Debug for DownBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DownBody")
    }
}

impl DownBody {
    fn own(data: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self { source: Source::Own(data, trailers), tee: None, deadline: None }
    }

    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::own(None, None)
    }

    /// These bytes.
    pub(crate) fn full(data: Bytes) -> Self {
        Self::own((!data.is_empty()).then_some(data), None)
    }

    /// These bytes, then these trailers.
    pub(crate) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Self {
        Self::own(Some(data), Some(trailers))
    }

    /// Another service's body, until the gateway stops: a watch on health would outlast every drain.
    pub(crate) fn boxed<B>(body: B, stop: CancellationToken) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let body = http_body_util::BodyExt::map_err(body, Into::into);
        let stop = Some(Box::pin(stop.cancelled_owned()));
        Self { source: Source::Boxed(Box::pin(body), stop), tee: None, deadline: None }
    }

    /// A replica's answer, which `tee` notes where it is mirrored.
    pub(crate) fn of_replica(answer: Answer, deadline: Instant, tee: Option<Box<Tee>>) -> Self {
        let mut whole = Self { source: Source::Replica(answer), tee, deadline: Some((deadline, None)) };
        // A body without bytes may never be asked for any.
        whole.tee_ends();
        whole
    }

    /// Whether somebody else counts the answer when it has gone out.
    pub(crate) fn is_of_replica(&self) -> bool {
        matches!(self.source, Source::Replica(_))
    }

    fn tee(&mut self, polled: &Option<Result<Frame<Bytes>, BoxError>>) {
        match (self.tee.as_mut(), polled) {
            (Some(tee), Some(Ok(frame))) => tee.add(frame),
            (Some(_), Some(Err(_))) => self.tee = None,
            _ => {}
        }
        self.tee_ends();
    }

    fn tee_ends(&mut self) {
        if self.tee.is_some()
            && self.is_end_stream()
            && let Some(tee) = self.tee.take()
        {
            tee.finish();
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Source::Own(data, trailers) => {
                let frame = data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            Source::Replica(answer) => answer.poll_frame(cx),
            Source::Boxed(body, stop) => {
                let polled = body.as_mut().poll_frame(cx);
                let stopped =
                    polled.is_pending() && stop.as_mut().is_some_and(|stop| stop.as_mut().poll(cx).is_ready());
                if !stopped {
                    return polled;
                }
                *stop = None;
                Poll::Ready(Some(Ok(Frame::trailers(unavailable()))))
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((at, sleep)) = &mut self.deadline else { return false };
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(*at)));
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// The outcome of a call that the end of the gateway cut off.
fn unavailable() -> HeaderMap {
    HeaderMap::from_iter([(headers::GRPC_STATUS, HeaderValue::from(Kind::Draining.grpc()))])
}

impl Body for DownBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.poll_source(cx) {
            Poll::Ready(polled) => {
                if self.tee.is_some() {
                    self.tee(&polled);
                }
                Poll::Ready(polled)
            }
            Poll::Pending if self.poll_deadline(cx) => {
                if let Source::Replica(answer) = &self.source {
                    answer.note_late();
                }
                Poll::Ready(Some(Err(BodyError::Deadline.into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(data, trailers) => data.is_none() && trailers.is_none(),
            Source::Replica(answer) => answer.is_end_stream(),
            Source::Boxed(body, stop) => stop.is_none() || body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(data, _) => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX)))
            }
            Source::Replica(answer) => answer.size_hint(),
            Source::Boxed(body, _) => body.size_hint(),
        }
    }
}
