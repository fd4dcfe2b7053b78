//! What the tasks of the streams and the task of the connection share: the streams, and the bytes that are to be written.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use tokio::task::AbortHandle;

use super::{
    LinkError, WINDOW_BYTES,
    frame::{Header, Kind, Malformed},
};

/// Data up to this is copied behind the frames before it; longer data goes out from where it is.
const COPIED_BYTES_MAX: usize = 4096;
/// Room made at a time for frames: some tens of small messages.
const TAIL_BYTES: usize = 8192;

/// One side of a link.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    driver: AtomicWaker,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) streams: HashMap<u32, Stream>,
    /// The connection has ended.
    pub(super) closed: bool,
    /// The server takes no more streams.
    pub(super) leaving: bool,
    /// Nobody will open another stream: the connection ends with the last one.
    pub(super) abandoned: bool,
    /// The service broke off: the connection ends at once.
    pub(super) failed: bool,
    /// The last stream that was opened here.
    pub(super) last: u32,
    out: VecDeque<Bytes>,
    tail: BytesMut,
    /// The driver waits to be woken by the next frame.
    asleep: bool,
}

/// One message that comes in, and the leave to send the other.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Of an answer.
    pub(super) head: Option<(StatusCode, HeaderMap)>,
    pub(super) data: VecDeque<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) ended: bool,
    pub(super) fault: Option<Fault>,
    pub(super) reader: Option<Waker>,
    /// Bytes received that no credit was given for yet, and how many of them were taken.
    pub(super) received: usize,
    pub(super) taken: usize,
    /// Bytes that may be sent beyond the window.
    pub(super) credited: usize,
    pub(super) writer: Option<Waker>,
    /// What answers the stream; only where it is served.
    pub(super) task: Option<AbortHandle>,
}

/// Why a stream ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Refused,
    Reset,
    Closed,
}

impl From<Fault> for LinkError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused => Self::Refused,
            Fault::Reset => Self::Reset,
            Fault::Closed => Self::Closed,
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the driver where it sleeps while something is to be written.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let wakes = state.asleep && (state.has_output() || state.is_over());
        state.asleep &= !wakes;
        drop(state);
        if wakes {
            self.driver.wake();
        }
        result
    }

    pub(super) fn register_driver(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    /// The connection has ended: whoever waits is told, and what answers is stopped.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let mut wakers = Vec::new();
        for stream in state.streams.values_mut() {
            if !stream.ended {
                stream.fault.get_or_insert(Fault::Closed);
            }
            stream.wakers(&mut wakers);
            if let Some(task) = stream.task.take() {
                task.abort();
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.tail.is_empty()
    }

    /// Whether the connection may end: nobody will open a stream, and none is left.
    pub(super) fn is_over(&self) -> bool {
        self.failed || self.abandoned && self.streams.is_empty()
    }

    /// Whether the driver may sleep: nothing is to be written.
    pub(super) fn fall_asleep(&mut self) -> bool {
        self.asleep = !self.has_output() && !self.is_over();
        self.asleep
    }

    /// Where frames are written.
    pub(super) fn frames(&mut self) -> &mut BytesMut {
        if self.tail.capacity() == 0 {
            self.tail.reserve(TAIL_BYTES);
        }
        &mut self.tail
    }

    pub(super) fn put(&mut self, (stream, kind, end): (u32, Kind, bool), payload: Bytes) {
        Header { len: payload.len(), stream, kind, end }.write(self.frames());
        if payload.len() <= COPIED_BYTES_MAX {
            self.tail.put_slice(&payload);
        } else {
            self.out.push_back(self.tail.split().freeze());
            self.out.push_back(payload);
        }
    }

    pub(super) fn put_number(&mut self, (stream, kind): (u32, Kind), number: usize) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.put((stream, kind, false), Bytes::copy_from_slice(&number.to_le_bytes()));
    }

    /// Moves all that is to be written to `out`.
    pub(super) fn take_output(&mut self, out: &mut VecDeque<Bytes>) {
        if !self.tail.is_empty() {
            self.out.push_back(self.tail.split().freeze());
        }
        out.append(&mut self.out);
    }
}

impl Stream {
    pub(super) fn wakers(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }

    /// Takes data in. A side that sends more than it was given credit for is not listened to.
    pub(super) fn receive(&mut self, data: Bytes, end: bool) -> Result<(), Malformed> {
        self.received += data.len();
        if self.ended || self.received > WINDOW_BYTES {
            return Err(Malformed);
        }
        if !data.is_empty() {
            self.data.push_back(data);
        }
        self.ended = end;
        Ok(())
    }

    /// Hands data out; the credit to give for it, once it is worth a frame.
    pub(super) fn take_data(&mut self) -> Option<(Bytes, Option<usize>)> {
        let data = self.data.pop_front()?;
        self.taken += data.len();
        if self.ended || self.taken < WINDOW_BYTES / 2 {
            return Some((data, None));
        }
        self.received -= self.taken;
        Some((data, Some(std::mem::take(&mut self.taken))))
    }
}
