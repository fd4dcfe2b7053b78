//! The side that answers.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, response::Parts};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Body, LinkError, STREAMS_MAX,
    body::Rest,
    driver::{Driver, Role},
    frame::{self, Header, Kind, Malformed},
    sending::{Sending, Sends as _},
    shared::{Shared, Stream},
};
use crate::{BoxError, Supervisor};

/// Requests with bodies up to this are begun by the task of the connection, which saves the way to another task for all that
/// are answered at once. Reading a larger one would hold up the other streams.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// Serves one connection, whose preface has been read, until the client closes it or `supervisor` stops; then it finishes
/// what it has taken. An error of the service closes the connection.
///
/// # Errors
///
/// The connection ended, or what came over it was not of this protocol.
pub async fn serve<T, S, B>(io: T, service: S, supervisor: Supervisor) -> Result<(), LinkError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: tower::Service<Request<Body>, Response = Response<B>>,
    S::Error: 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (shared, stop) = (Arc::new(Shared::default()), supervisor.stopping());
    let role = Answering { service, supervisor, shared: Arc::clone(&shared), last: 0 };
    let mut driver = Driver::new(io, role, Arc::clone(&shared));
    tokio::select! {
        ended = poll_fn(|cx| driver.poll(cx)) => return ended,
        () = stop.cancelled() => {}
    }
    shared.with(|state| {
        (state.leaving, state.abandoned) = (true, true);
        state.put_number((0, Kind::Leaving), usize::try_from(driver.role.last).unwrap_or(usize::MAX));
    });
    poll_fn(|cx| driver.poll(cx)).await
}

/// The role of the side that answers.
struct Answering<S> {
    service: S,
    supervisor: Supervisor,
    shared: Arc<Shared>,
    last: u32,
}

impl<S, B> Role for Answering<S>
where
    S: tower::Service<Request<Body>, Response = Response<B>>,
    S::Error: 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn head(&mut self, cx: &mut Context<'_>, header: Header, mut payload: Bytes) -> Result<(), Malformed> {
        let Header { stream, end, .. } = header;
        let (method, uri, headers) = frame::read_request(frame::split_head(&mut payload)?)?;
        if stream <= self.last {
            return Err(Malformed);
        }
        let mut state = self.shared.lock();
        if state.leaving {
            // The client has been told, or will be before it reads an answer.
            return Ok(());
        }
        self.last = stream;
        if state.streams.len() >= STREAMS_MAX {
            state.put((stream, Kind::Reset, true), Bytes::new());
            return Ok(());
        }
        let inline = end && payload.len() <= INLINE_BYTES_MAX;
        let body = if end {
            Body::whole(payload)
        } else {
            let mut arriving = Stream::default();
            arriving.receive(payload, false)?;
            state.streams.insert(stream, arriving);
            let shared = Arc::clone(&self.shared);
            Body::streaming(Rest { shared, stream, opened_here: false, over: false, sending: None }, &headers)
        };
        drop(state);
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        let answered = Answered { shared: Arc::clone(&self.shared), stream, ended: false };
        let mut answering = Box::pin(answer(self.service.call(request), answered));
        if inline && answering.as_mut().poll(cx).is_ready() {
            return Ok(());
        }
        self.shared.lock().streams.entry(stream).or_default();
        let task = self.supervisor.spawn_connection(answering);
        if let Some(stream) = self.shared.lock().streams.get_mut(&stream) {
            stream.task = Some(task);
        }
        Ok(())
    }

    fn reset(&mut self, stream: u32, _: bool) {
        let removed = self.shared.lock().streams.remove(&stream);
        if let Some(task) = removed.and_then(|stream| stream.task) {
            task.abort();
        }
    }

    fn leaving(&mut self, _: u32) -> Result<(), Malformed> {
        Err(Malformed)
    }
}

/// A stream that is being answered. When it is dropped the stream is over, well or not.
struct Answered {
    shared: Arc<Shared>,
    stream: u32,
    ended: bool,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.streams.remove(&self.stream);
            if !self.ended && !state.closed {
                state.put((self.stream, Kind::Reset, false), Bytes::new());
            }
        });
    }
}

async fn answer<F, B, E>(call: F, mut answered: Answered)
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<BoxError>,
{
    let Ok(response) = call.await else {
        answered.shared.with(|state| state.failed = true);
        return;
    };
    match send(response, &answered).await {
        Ok(()) => answered.ended = true,
        Err(error) => tracing::debug!(%error, "an answer broke off"),
    }
}

async fn send<B>(response: Response<B>, answered: &Answered) -> Result<(), LinkError>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<BoxError>,
{
    let Answered { shared, stream, .. } = answered;
    let (mut head, body) = response.into_parts();
    declare_length(&mut head, body.size_hint().exact());
    let mut sending = Sending::new(body);
    let (data, end) = poll_fn(|cx| Poll::Ready(sending.along(cx))).await?;
    let written = shared.with(|state| {
        let fields = |out: &mut _| frame::write_answer(out, head.status, &head.headers);
        frame::write_head(state.frames(), (*stream, end), &data, fields)
    });
    written.map_err(|_| LinkError::HeadTooLarge)?;
    poll_fn(|cx| sending.poll(cx, (shared, *stream))).await
}

/// A body that comes in pieces has its length said beforehand, as a server of HTTP/1.1 does.
fn declare_length(head: &mut Parts, len: Option<u64>) {
    if let Some(len) = len.filter(|len| *len > 0) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(len));
    }
}
