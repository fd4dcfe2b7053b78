//! The body of a call, given up when its client sends nothing for too long.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use daemon::http::Pause;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use inference::InferError;
use tonic::Status;

use super::status;

/// Puts the rule on the body of `request`.
pub(super) async fn paced(request: Request<Body>) -> Request<Body> {
    request.map(|body| Body::new(Paced { body, pause: Pause::default() }))
}

struct Paced {
    body: Body,
    pause: Pause,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let broken = |error: axum::Error| Status::from_error(error.into());
        Poll::Ready(match ready!(self.pause.watch(polled, cx)) {
            Ok(frame) => frame.map(|frame| frame.map_err(broken)),
            Err(stalled) => Some(Err(status::of(InferError::Stalled(stalled.to_string())))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
