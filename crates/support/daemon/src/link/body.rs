//! The body of a message that comes in over a link.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};

use super::{
    LinkError,
    frame::Kind,
    sending::Sends,
    shared::{Shared, Stream},
};

/// A body. Dropping that of an answer before its end resets the stream, which tells the server to stop.
#[derive(Debug)]
pub struct Body {
    first: Option<Bytes>,
    rest: Option<Rest>,
    /// Bytes still to come, where the head says how many there are.
    declared: Option<u64>,
}

/// The part of a message that is still on its way.
pub(super) struct Rest {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: u32,
    /// Whether the stream is this side's to forget.
    pub(super) opened_here: bool,
    pub(super) over: bool,
    /// What is still to be sent meanwhile.
    pub(super) sending: Option<Box<dyn Sends>>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("stream", &self.stream).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Body {
    pub(super) fn whole(data: Bytes) -> Self {
        Self { first: (!data.is_empty()).then_some(data), rest: None, declared: None }
    }

    /// The body of a message with these headers.
    pub(super) fn streaming(rest: Rest, headers: &HeaderMap) -> Self {
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        Self { first: None, rest: Some(rest), declared }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = LinkError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LinkError>>> {
        if let Some(data) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(rest) = self.rest.as_mut() else { return Poll::Ready(None) };
        let polled = rest.poll_frame(cx);
        if rest.over {
            self.rest = None;
        }
        if let (Poll::Ready(Some(Ok(frame))), Some(declared)) = (&polled, self.declared) {
            self.declared = declared.checked_sub(frame.data_ref().map_or(0, len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.rest, self.declared) {
            (None, _) => SizeHint::with_exact(self.first.as_ref().map_or(0, len)),
            (Some(_), Some(declared)) => SizeHint::with_exact(declared),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

fn len(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

impl Rest {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LinkError>>> {
        let Self { shared, stream: id, opened_here, over, sending } = self;
        match sending.as_mut().map(|sending| sending.poll(cx, (shared, *id))) {
            Some(Poll::Ready(Err(error))) => return Poll::Ready(Some(Err(error))),
            Some(Poll::Ready(Ok(()))) => *sending = None,
            Some(Poll::Pending) | None => {}
        }
        shared.with(|state| {
            let Some(stream) = state.streams.get_mut(id) else {
                *over = true;
                return Poll::Ready(Some(Err(LinkError::Reset)));
            };
            let (polled, credit) = poll_stream(stream, cx);
            if let Some(credit) = credit {
                state.put_number((*id, Kind::Credit), credit);
            }
            *over = match &polled {
                Poll::Pending => false,
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    let done = |stream: &Stream| stream.ended && stream.data.is_empty() && stream.trailers.is_none();
                    state.streams.get(id).is_none_or(done)
                }
                Poll::Ready(_) => true,
            };
            if *over && *opened_here {
                state.streams.remove(id);
            }
            polled
        })
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, LinkError>>>;

fn poll_stream(stream: &mut Stream, cx: &mut Context<'_>) -> (Polled, Option<usize>) {
    if let Some((data, credit)) = stream.take_data() {
        return (Poll::Ready(Some(Ok(Frame::data(data)))), credit);
    }
    let polled = match (stream.fault, stream.trailers.take()) {
        (Some(fault), _) => Poll::Ready(Some(Err(fault.into()))),
        (None, Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
        (None, None) if stream.ended => Poll::Ready(None),
        (None, None) => {
            stream.reader = Some(cx.waker().clone());
            Poll::Pending
        }
    };
    (polled, None)
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.over || !self.opened_here {
            return;
        }
        let (shared, id) = (Arc::clone(&self.shared), self.stream);
        shared.with(|state| {
            let removed = state.streams.remove(&id);
            let asks = removed.is_some_and(|stream| !stream.ended && stream.fault.is_none());
            if asks && !state.closed {
                state.put((id, Kind::Reset, false), Bytes::new());
            }
        });
    }
}
