//! How long a connection waits for its client: to take what is written, and after it has said that nothing more will come.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use super::pause::Pause;

/// A client may close its sending side and still read. One that has gone altogether looks the same until something is written to
/// it: so a request is worked on for this long after its client has closed, which is longer than most take, and no longer.
pub(super) const HALF_CLOSED_TIME: Duration = Duration::from_secs(5);

/// A stream with a bound on waiting.
#[derive(Debug)]
pub(super) struct Patient<T> {
    stream: T,
    writing: Pause,
    flushing: Pause,
    /// Where it is told that the client has closed its side; its end is then told only after [`HALF_CLOSED_TIME`].
    half_closed: Option<CancellationToken>,
    end: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// For a protocol that is over when its client closes.
    pub(super) fn new(stream: T) -> Self {
        Self { stream, writing: Pause::default(), flushing: Pause::default(), half_closed: None, end: None }
    }

    /// For a protocol whose client may close its side and wait for the answer.
    pub(super) fn half(stream: T, closed: CancellationToken) -> Self {
        Self { half_closed: Some(closed), ..Self::new(stream) }
    }
}

/// A client that takes nothing of what is written to it for as long as one that sends nothing may be silent is given up, too.
fn within<T>(pause: &mut Pause, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
    match ready!(pause.watch(polled, cx)) {
        Ok(done) => Poll::Ready(done),
        Err(_) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing"))),
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            let before = buf.remaining();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let over = before > 0 && buf.remaining() == before;
            let Some(closed) = self.half_closed.as_ref().filter(|_| over) else { return Poll::Ready(Ok(())) };
            closed.cancel();
        }
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED_TIME)));
        end.as_mut().poll(cx).map(Ok)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        within(&mut self.writing, polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        within(&mut self.writing, polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        within(&mut self.flushing, polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        within(&mut self.flushing, polled, cx)
    }
}
