//! The side that asks.

use std::{
    future::poll_fn,
    io,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use tokio::{io::AsyncWriteExt as _, net::UnixStream};

use super::{
    Body, LinkError, PREFACE,
    body::Rest,
    driver::{Driver, Role},
    frame::{self, Header, Malformed},
    sending::{Sending, Sends as _},
    shared::{Fault, Shared, State, Stream},
};
use crate::{BoxError, Supervisor};

/// A connection to a server. When the last of its clones is dropped it ends with its last stream.
#[derive(Clone, Debug)]
pub struct Link(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Link {
    /// Connects to the socket at `path`. The connection's task belongs to `supervisor`; once that stops, it ends with the last
    /// stream.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub async fn open(path: &Path, supervisor: &Supervisor) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(PREFACE).await?;
        let shared = Arc::new(Shared::default());
        let mut driver = Driver::new(stream, Asking(Arc::clone(&shared)), Arc::clone(&shared));
        let stop = supervisor.stopping();
        supervisor.spawn_connection(async move {
            let ended = tokio::select! {
                ended = poll_fn(|cx| driver.poll(cx)) => ended,
                () = stop.cancelled() => {
                    driver.shared().lock().abandoned = true;
                    poll_fn(|cx| driver.poll(cx)).await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a link ended");
            }
        });
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Requests under way; nothing when no other may be sent.
    pub fn load(&self) -> Option<usize> {
        let state = self.0.0.lock();
        takes_more(&state).ok().map(|_| state.streams.len())
    }

    /// Sends a request and waits for the head of its answer. Dropping the future resets the stream.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; after [`LinkError::Refused`] nothing was run.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Body>, LinkError>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let shared = &self.0.0;
        let (head, body) = request.into_parts();
        let mut sending = Sending::new(body);
        let along = poll_fn(|cx| Poll::Ready(sending.along(cx))).await?;
        let stream = shared.with(|state| begin(state, &head, along))?;
        let mut rest = Rest { shared: Arc::clone(shared), stream, opened_here: true, over: false, sending: None };
        let (head, whole) = poll_fn(|cx| {
            let sent = sending.poll(cx, (shared, stream));
            // An answer may come before all of the request has gone.
            match (poll_answer(&mut rest, cx), sent) {
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (answer, _) => answer,
            }
        })
        .await?;
        let body = match whole {
            Some(data) => Body::whole(data),
            None => {
                rest.sending = if sending.ended() { None } else { Some(Box::new(sending)) };
                Body::streaming(rest, &head.1)
            }
        };
        let mut answer = Response::new(body);
        (*answer.status_mut(), *answer.headers_mut()) = head;
        Ok(answer)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(|state| state.abandoned = true);
    }
}

fn takes_more(state: &State) -> Result<u32, LinkError> {
    if state.closed {
        return Err(LinkError::Closed);
    }
    // Numbers are never used again: a connection that has used them all is replaced.
    let next = state.last.checked_add(1);
    next.filter(|_| !state.leaving && !state.abandoned).ok_or(LinkError::Refused)
}

fn begin(state: &mut State, head: &Parts, (data, end): (Bytes, bool)) -> Result<u32, LinkError> {
    let stream = takes_more(state)?;
    let fields = (&head.method, &head.uri, &head.headers);
    frame::write_head(state.frames(), (stream, end), &data, |out| frame::write_request(out, fields))
        .map_err(|_| LinkError::HeadTooLarge)?;
    state.last = stream;
    state.streams.insert(stream, Stream::default());
    Ok(stream)
}

type Head = (StatusCode, HeaderMap);

/// The head of the answer, and its body where all of it is there.
fn poll_answer(asked: &mut Rest, cx: &mut Context<'_>) -> Poll<Result<(Head, Option<Bytes>), LinkError>> {
    let mut state = asked.shared.lock();
    let Some(stream) = state.streams.get_mut(&asked.stream) else { return Poll::Ready(Err(LinkError::Closed)) };
    let Some(head) = stream.head.take() else {
        if let Some(fault) = stream.fault {
            return Poll::Ready(Err(fault.into()));
        }
        stream.reader = Some(cx.waker().clone());
        return Poll::Pending;
    };
    if !stream.ended || stream.trailers.is_some() || stream.data.len() > 1 {
        return Poll::Ready(Ok((head, None)));
    }
    let data = stream.data.pop_front().unwrap_or_default();
    state.streams.remove(&asked.stream);
    asked.over = true;
    Poll::Ready(Ok((head, Some(data))))
}

/// The role of the side that asks.
struct Asking(Arc<Shared>);

impl Role for Asking {
    fn head(&mut self, _: &mut Context<'_>, header: Header, mut payload: Bytes) -> Result<(), Malformed> {
        let head = frame::read_answer(frame::split_head(&mut payload)?)?;
        let mut state = self.0.lock();
        // One that is not there any more was reset on this side.
        let Some(stream) = state.streams.get_mut(&header.stream) else { return Ok(()) };
        stream.head = Some(head);
        stream.receive(payload, header.end)?;
        let waker = stream.reader.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn reset(&mut self, stream: u32, refused: bool) {
        self.fail(|id| id == stream, if refused { Fault::Refused } else { Fault::Reset });
    }

    fn leaving(&mut self, last: u32) -> Result<(), Malformed> {
        self.0.lock().leaving = true;
        self.fail(|id| id > last, Fault::Refused);
        Ok(())
    }
}

impl Asking {
    fn fail(&self, concerned: impl Fn(u32) -> bool, fault: Fault) {
        let mut wakers = Vec::new();
        let mut state = self.0.lock();
        for (id, stream) in &mut state.streams {
            if concerned(*id) && !stream.ended {
                stream.fault = Some(fault);
                stream.wakers(&mut wakers);
            }
        }
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}
