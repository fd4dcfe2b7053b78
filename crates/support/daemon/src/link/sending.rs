//! The body of a message that goes out over a link.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use super::{
    DATA_BYTES_MAX, LinkError, WINDOW_BYTES,
    frame::{self, Kind},
    shared::Shared,
};
use crate::BoxError;

/// Data up to this goes along with its head; longer data follows from where it is.
const ALONG_BYTES_MAX: usize = 16 * 1024;

/// A part of a body.
#[derive(Debug, Default)]
pub(super) struct Piece {
    data: Bytes,
    trailers: Option<HeaderMap>,
    last: bool,
}

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct Sending<B> {
    body: B,
    piece: Option<Piece>,
    /// Bytes sent.
    sent: usize,
    ended: bool,
}

/// What is left to be sent of some body.
pub(super) trait Sends: Send {
    /// Sends what there is and what there is credit for. Ready when all has been handed over.
    fn poll(&mut self, cx: &mut Context<'_>, to: (&Arc<Shared>, u32)) -> Poll<Result<(), LinkError>>;
}

impl<B> Sends for Sending<B>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>, (shared, stream): (&Arc<Shared>, u32)) -> Poll<Result<(), LinkError>> {
        while !self.ended {
            if self.piece.is_none() {
                self.piece = Some(ready!(self.next(cx))?);
            }
            let Some(piece) = self.piece.as_mut() else { continue };
            let ends = piece.last && piece.trailers.is_none();
            ready!(poll_data(cx, (shared, stream), (&mut piece.data, ends), &mut self.sent))?;
            if let Some(trailers) = piece.trailers.take() {
                let written = shared.with(|state| frame::write_trailers(state.frames(), stream, &trailers));
                written.map_err(|_| LinkError::HeadTooLarge)?;
            }
            self.ended = piece.last;
            self.piece = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: B) -> Self {
        Self { body, piece: None, sent: 0, ended: false }
    }

    /// Whether all of it has been sent.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// What of the body is there already and short enough to go along with the head, and whether that is all of it.
    pub(super) fn along(&mut self, cx: &mut Context<'_>) -> Result<(Bytes, bool), LinkError> {
        let Poll::Ready(piece) = self.next(cx) else { return Ok((Bytes::new(), false)) };
        let piece = self.piece.insert(piece?);
        if piece.data.len() > ALONG_BYTES_MAX {
            return Ok((Bytes::new(), false));
        }
        let data = std::mem::take(&mut piece.data);
        self.sent = data.len();
        self.ended = piece.last && piece.trailers.is_none();
        if piece.trailers.is_none() {
            self.piece = None;
        }
        Ok((data, self.ended))
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, LinkError>> {
        let end = || Piece { last: true, ..Piece::default() };
        if self.body.is_end_stream() {
            return Poll::Ready(Ok(end()));
        }
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(Ok(end())) };
        let piece = match frame.map_err(|error| LinkError::Body(error.into()))?.into_data() {
            Ok(data) => Piece { data, trailers: None, last: self.body.is_end_stream() },
            Err(frame) => Piece { trailers: frame.into_trailers().ok(), ..end() },
        };
        Poll::Ready(Ok(piece))
    }
}

/// Sends `data` as far as there is credit, and the end after it where `ends` says so.
fn poll_data(
    cx: &mut Context<'_>,
    (shared, stream): (&Arc<Shared>, u32),
    (data, ends): (&mut Bytes, bool),
    sent: &mut usize,
) -> Poll<Result<(), LinkError>> {
    if data.is_empty() && !ends {
        return Poll::Ready(Ok(()));
    }
    shared.with(|state| {
        loop {
            if state.closed {
                return Poll::Ready(Err(LinkError::Closed));
            }
            let credited = state.streams.get(&stream).map_or(0, |stream| stream.credited);
            let room = (WINDOW_BYTES + credited).saturating_sub(*sent);
            if room == 0 && !data.is_empty() {
                if let Some(stream) = state.streams.get_mut(&stream) {
                    stream.writer = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            let piece = data.split_to(data.len().min(room).min(DATA_BYTES_MAX));
            *sent += piece.len();
            state.put((stream, Kind::Data, ends && data.is_empty()), piece);
            if data.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    })
}
