//! The task of a connection: reads frames and hands them on, and writes what streams have left to be written.

use std::{
    collections::VecDeque,
    future::Future as _,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::{
    LinkError,
    frame::{self, HEADER_LEN, Header, Kind, Malformed},
    shared::{Shared, Stream},
};

/// Bytes read at a time: tens of small messages, or a few pieces of a large one.
const READ_BYTES: usize = 128 * 1024;
/// Payloads up to this are copied out of what was read, whose memory is then used again.
const COPIED_BYTES_MAX: usize = 4096;
/// Pieces of one write (`IOV_MAX` is 1024; more than this gains nothing).
const SLICES_MAX: usize = 64;

/// What the two sides do differently.
pub(super) trait Role {
    /// A message begins.
    fn head(&mut self, cx: &mut Context<'_>, header: Header, payload: Bytes) -> Result<(), Malformed>;
    /// The other side has ended a stream early; `refused` where it was not taken.
    fn reset(&mut self, stream: u32, refused: bool);
    /// The other side takes no stream after this one.
    fn leaving(&mut self, last: u32) -> Result<(), Malformed>;
}

/// A connection that is driven.
pub(super) struct Driver<T, R> {
    io: T,
    pub(super) role: R,
    shared: Arc<Shared>,
    read: BytesMut,
    writing: VecDeque<Bytes>,
}

impl<T, R> Driver<T, R> {
    pub(super) fn new(io: T, role: R, shared: Arc<Shared>) -> Self {
        Self { io, role, shared, read: BytesMut::new(), writing: VecDeque::new() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin, R: Role> Driver<T, R> {
    /// Drives the connection until it ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.shared.register_driver(cx.waker());
        loop {
            let read = self.read(cx);
            if let Poll::Ready(Err(error)) = read {
                return Poll::Ready(Err(error));
            }
            let written = self.write(cx)?;
            let mut state = self.shared.lock();
            if state.failed || written.is_ready() && !state.has_output() && state.is_over() {
                return Poll::Ready(Ok(()));
            }
            // What was left to be written while the lock was open is written first. A write that the kernel holds up wakes
            // the task by itself.
            if read.is_pending() && (written.is_pending() || state.fall_asleep()) {
                return Poll::Pending;
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.read.reserve(READ_BYTES.saturating_sub(self.read.len()).max(HEADER_LEN));
        let count = ready!(pin!(self.io.read_buf(&mut self.read)).poll(cx)).map_err(|_| LinkError::Closed)?;
        if count == 0 {
            return Poll::Ready(Err(LinkError::Closed));
        }
        self.frames(cx).map_err(|Malformed| LinkError::Closed)?;
        Poll::Ready(Ok(()))
    }

    fn frames(&mut self, cx: &mut Context<'_>) -> Result<(), Malformed> {
        while let Some(header) = Header::read(&self.read)? {
            if self.read.len() - HEADER_LEN < header.len {
                return Ok(());
            }
            self.read.advance(HEADER_LEN);
            let payload = if header.len <= COPIED_BYTES_MAX {
                copied(&mut self.read, header.len)
            } else {
                self.read.split_to(header.len).freeze()
            };
            self.frame(cx, header, payload)?;
        }
        Ok(())
    }

    fn frame(&mut self, cx: &mut Context<'_>, header: Header, payload: Bytes) -> Result<(), Malformed> {
        match header.kind {
            Kind::Head => self.role.head(cx, header, payload),
            Kind::Data => self.change(header.stream, |stream| stream.receive(payload, header.end)),
            Kind::Trailers => {
                let trailers = frame::read_headers(payload)?;
                self.change(header.stream, |stream| {
                    stream.trailers = Some(trailers);
                    stream.receive(Bytes::new(), true)
                })
            }
            Kind::Credit => {
                let credit = usize::try_from(number(&payload)?).map_err(|_| Malformed)?;
                self.change(header.stream, |stream| {
                    stream.credited = stream.credited.saturating_add(credit);
                    Ok(())
                })
            }
            Kind::Reset => {
                self.role.reset(header.stream, header.end);
                Ok(())
            }
            Kind::Leaving => self.role.leaving(number(&payload)?),
        }
    }

    /// Changes a stream and wakes who waits for it. One that is not there any more was reset on this side.
    fn change(&self, stream: u32, change: impl FnOnce(&mut Stream) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let mut state = self.shared.lock();
        let Some(stream) = state.streams.get_mut(&stream) else { return Ok(()) };
        change(stream)?;
        let wakers = [stream.reader.take(), stream.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(std::task::Waker::wake);
        Ok(())
    }

    /// Writes until nothing is left (ready) or the kernel takes no more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, LinkError> {
        loop {
            if self.writing.is_empty() {
                self.shared.lock().take_output(&mut self.writing);
            }
            if self.writing.is_empty() {
                return Ok(Poll::Ready(()));
            }
            match self.write_some(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(count)) if count > 0 => advance(&mut self.writing, count),
                Poll::Ready(_) => return Err(LinkError::Closed),
            }
        }
    }

    fn write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        if let (Some(one), 1) = (self.writing.front(), self.writing.len()) {
            return io.poll_write(cx, one);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.writing) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        io.poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }
}

fn number(payload: &Bytes) -> Result<u32, Malformed> {
    payload.as_ref().try_into().map(u32::from_le_bytes).map_err(|_| Malformed)
}

fn advance(writing: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(front) = writing.front_mut() {
        if count < front.len() {
            front.advance(count);
            return;
        }
        count -= front.len();
        writing.pop_front();
    }
}

/// The end of the task is the end of its streams, however it comes.
impl<T, R> Drop for Driver<T, R> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn copied(read: &mut BytesMut, len: usize) -> Bytes {
    let bytes = Bytes::copy_from_slice(read.get(..len).unwrap_or_default());
    read.advance(len);
    bytes
}
