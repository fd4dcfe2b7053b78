//! HTTP answers: errors as JSON, metadata, inferences with their timings.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use inference::{Encoded, InferError, binary, embeddings, json};

use super::{coding::Coding, json_body};
use crate::registry::Timings;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Seconds after which to ask again when nothing was run.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Says that nothing was run, so that another replica may be asked without harm.
pub(crate) const RETRY_HEADER: &str = "x-berth-retry";

/// Value of [`RETRY_HEADER`].
pub(crate) const RETRY_SAFE: &str = "safe";

fn with(status: StatusCode, content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// JSON text with `status`.
pub(super) fn json(status: StatusCode, text: Vec<u8>) -> Response {
    with(status, JSON, json_body(text))
}

/// `{"error":…}` with `status`.
fn error_text(status: StatusCode, message: &str) -> Response {
    let mut text = Vec::with_capacity(message.len() + 16);
    text.extend_from_slice(b"{\"error\":");
    json::write_string(&mut text, message);
    text.push(b'}');
    json(status, text)
}

/// The one mapping from errors to HTTP.
fn status(error: &InferError) -> StatusCode {
    match error {
        InferError::InvalidInput(_) => StatusCode::BAD_REQUEST,
        InferError::NotFound(_) => StatusCode::NOT_FOUND,
        InferError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        InferError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        InferError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        InferError::Stalled(_) => StatusCode::REQUEST_TIMEOUT,
        InferError::DeadlineExceeded(_) => StatusCode::GATEWAY_TIMEOUT,
        InferError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(super) fn error(error: &InferError) -> Response {
    with_hints(error_text(status(error), &error.to_string()))
}

/// An error in OpenAI's form.
pub(super) fn embeddings_error(error: &InferError, param: Option<&str>) -> Response {
    let status = status(error);
    with_hints(json(status, embeddings::answer::write_error(status.as_u16(), &error.to_string(), param)))
}

/// When to ask again, where that may help.
fn with_hints(mut response: Response) -> Response {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        retry_safe(&mut response);
    }
    response
}

fn retry_safe(response: &mut Response) {
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response.headers_mut().insert(RETRY_HEADER, HeaderValue::from_static(RETRY_SAFE));
}

/// Health: the status is the answer, the body repeats it.
pub(super) fn health(what: &str, value: bool) -> Response {
    healthy(value, format!("{{\"{what}\":{value}}}").into_bytes())
}

/// Health of one model.
pub(super) fn model_health(name: &str, ready: bool) -> Response {
    let mut text = Vec::with_capacity(name.len() + 32);
    text.extend_from_slice(b"{\"name\":");
    json::write_string(&mut text, name);
    text.extend_from_slice(if ready { b",\"ready\":true}" } else { b",\"ready\":false}" });
    healthy(ready, text)
}

fn healthy(value: bool, text: Vec<u8>) -> Response {
    if value {
        return json(StatusCode::OK, text);
    }
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, text);
    retry_safe(&mut response);
    response
}

/// A path that names nothing. A gRPC client gets the answer that it understands.
pub(super) fn unknown_path(path: &str, headers: &HeaderMap) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
        return tonic::Status::unimplemented("there is no such gRPC method here").into_http();
    }
    let shown: String = path.chars().take(256).collect();
    error_text(
        StatusCode::NOT_FOUND,
        &format!("there is nothing at `{shown}`: inference is at `/v2/models/NAME/infer`"),
    )
}

pub(super) fn options(allow: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

pub(super) fn method_not_allowed(method: &Method, allow: &'static str) -> Response {
    let message = format!("the method `{method}` is not allowed here: use {allow}");
    let mut response = error_text(StatusCode::METHOD_NOT_ALLOWED, &message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

pub(super) fn unsupported_coding(message: &str) -> Response {
    let mut response = error_text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, identity"));
    response
}

/// An inference.
pub(super) fn inference(encoded: Encoded, timings: Timings) -> Response {
    let mut response = if encoded.binary {
        let header_length = encoded.json.len();
        let mut pieces = VecDeque::with_capacity(encoded.tensors.len() + 1);
        pieces.push_back(encoded.json);
        pieces.extend(encoded.tensors.into_iter().filter(|piece| !piece.is_empty()));
        let mut response = with(StatusCode::OK, BYTES, Body::new(Pieces(pieces)));
        response.headers_mut().insert(binary::HEADER, HeaderValue::from(header_length));
        response
    } else {
        with(StatusCode::OK, JSON, Body::from(encoded.json))
    };
    add_timings(&mut response, timings);
    response
}

/// A compressed inference; `header_length` is that of the text before compression.
pub(super) fn compressed(bytes: Vec<u8>, coding: Coding, header_length: Option<usize>, timings: Timings) -> Response {
    let content_type = if header_length.is_some() { BYTES } else { JSON };
    let mut response = with(StatusCode::OK, content_type, Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(length) = header_length {
        headers.insert(binary::HEADER, HeaderValue::from(length));
    }
    add_timings(&mut response, timings);
    response
}

fn add_timings(response: &mut Response, timings: Timings) {
    let queue = timings.queue.as_secs_f64() * 1e3;
    let compute = timings.compute.as_secs_f64() * 1e3;
    if let Ok(value) = HeaderValue::try_from(format!("queue;dur={queue:.3},compute;dur={compute:.3}")) {
        response.headers_mut().insert("server-timing", value);
    }
}

/// A body in pieces, which are passed on without being copied together.
struct Pieces(VecDeque<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.0.iter().map(Bytes::len).fold(0, usize::saturating_add);
        SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}
