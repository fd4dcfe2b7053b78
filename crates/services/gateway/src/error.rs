//! What can go wrong: at the start of the process, and with one request, with one mapping to HTTP and to gRPC.

use std::{borrow::Cow, fmt::Write as _, io, path::PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use inference::embeddings::answer::write_error;

use crate::{body::DownBody, headers, inflate::ACCEPTED};

/// Why the gateway does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none, or one that must not be listened on.
    #[error(transparent)]
    Listen(#[from] daemon::listen::ListenError),
    /// One of certificate and key is missing.
    #[error("TLS needs both `--tls-cert` and `--tls-key`")]
    HalfTls,
    /// The certificate or the key cannot be used.
    #[error("cannot use `{path}` for TLS: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit makes no sense.
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    /// The address or the socket cannot be bound.
    #[error("cannot listen on `{at}`: {source}")]
    Bind {
        /// Address or path.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// A file or a folder cannot be used.
    #[error("cannot use `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Traces are asked for in a way that is not there.
    #[error(transparent)]
    Tracing(#[from] daemon::telemetry::TracingError),
    /// The runtime of the process cannot be started.
    #[error("cannot start the process: {0}")]
    Start(#[source] io::Error),
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client.
    Client,
    /// The gateway, or its limits.
    Us,
    /// A replica.
    Upstream,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// No key, or none that is known.
    Unauthenticated,
    /// The key does not permit it, or there is nothing to permit.
    Forbidden,
    /// No such path, service or revision.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed(&'static str),
    /// The request cannot be understood.
    Malformed,
    /// gRPC that the gateway does not speak: an unknown method or compression.
    Unimplemented,
    /// A gRPC path without gRPC's content type or without HTTP/2.
    NotGrpc,
    /// The body is over the limit.
    TooLarge,
    /// The service has as many requests as it works on.
    ServiceBusy,
    /// The gateway has as many requests as it holds.
    Overloaded,
    /// No replica became ready in time.
    NoReplica,
    /// The gateway stops.
    Draining,
    /// The time is over.
    Deadline,
    /// The replica broke off, and trying again was not possible or did not help.
    Broken,
    /// The client sent nothing of its body for too long.
    Stalled,
    /// The client went away or broke off its body.
    ClientGone,
}

impl Kind {
    /// Who has to change something.
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Overloaded | Self::Draining => Side::Us,
            Self::NoReplica | Self::Broken | Self::Deadline => Side::Upstream,
            _ => Side::Client,
        }
    }

    /// Whether the same request may be answered later.
    pub(crate) fn retryable(self) -> bool {
        matches!(self, Self::ServiceBusy | Self::Overloaded | Self::NoReplica | Self::Draining)
    }

    /// The status of an HTTP answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::NotGrpc => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ServiceBusy => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::NoReplica | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken => StatusCode::BAD_GATEWAY,
        }
    }

    /// The status of a gRPC answer, as numbered by gRPC.
    pub(crate) fn grpc(self) -> u16 {
        match self {
            Self::ClientGone => 1,
            Self::Malformed | Self::NotGrpc => 3,
            Self::Deadline | Self::Stalled => 4,
            Self::NotFound => 5,
            Self::Forbidden => 7,
            Self::TooLarge | Self::ServiceBusy => 8,
            Self::Unimplemented | Self::MethodNotAllowed(_) => 12,
            Self::Overloaded | Self::NoReplica | Self::Draining | Self::Broken => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// How metrics and logs name it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method",
            Self::Malformed => "malformed",
            Self::Unimplemented => "unimplemented",
            Self::NotGrpc => "not_grpc",
            Self::TooLarge => "too_large",
            Self::ServiceBusy => "service_busy",
            Self::Overloaded => "overloaded",
            Self::NoReplica => "no_replica",
            Self::Draining => "draining",
            Self::Deadline => "deadline",
            Self::Broken => "broken",
            Self::Stalled => "stalled",
            Self::ClientGone => "client_gone",
        }
    }
}

/// Which protocol a request speaks, and so how it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// JSON over HTTP.
    Rest,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// How metrics and logs name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
        }
    }
}

/// Why one request is not answered by a replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// What is wrong.
    pub kind: Kind,
    /// What is wrong, in words for the client.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with its words.
    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The answer. gRPC gets trailers alone.
    pub(crate) fn to_response(&self, protocol: Protocol) -> Response<DownBody> {
        let mut response = match protocol {
            Protocol::Rest => self.to_rest(),
            Protocol::Grpc => Response::new(DownBody::empty()),
        };
        let headers = response.headers_mut();
        if protocol == Protocol::Grpc {
            headers.insert(header::CONTENT_TYPE, headers::GRPC);
            headers.insert(headers::GRPC_STATUS, HeaderValue::from(self.kind.grpc()));
            if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.message)) {
                headers.insert(headers::GRPC_MESSAGE, message);
            }
            if self.kind == Kind::Unimplemented {
                headers.insert(headers::GRPC_ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
            }
        }
        self.add_hints(headers);
        response
    }

    /// The answer to a client of OpenAI's API.
    pub(crate) fn to_openai(&self) -> Response<DownBody> {
        let status = self.kind.status();
        let param = (self.kind == Kind::NotFound).then_some("model");
        let body = write_error(status.as_u16(), &self.message, param);
        let mut response = Response::new(DownBody::full(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, headers::JSON);
        self.add_hints(response.headers_mut());
        response
    }

    fn to_rest(&self) -> Response<DownBody> {
        let body = serde_json::json!({ "error": self.message }).to_string();
        let mut response = Response::new(DownBody::full(Bytes::from(body)));
        *response.status_mut() = self.kind.status();
        response.headers_mut().insert(header::CONTENT_TYPE, headers::JSON);
        response
    }

    fn add_hints(&self, headers: &mut HeaderMap) {
        if self.kind == Kind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Kind::MethodNotAllowed(allow) = self.kind {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.kind.retryable() {
            // One second: what a lone replica needs to come back is longer, but then the request has waited already.
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
    }
}

/// The form of `grpc-message`: bytes outside the visible ASCII characters, and `%`, are written as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_grpc_are_percent_encoded() {
        assert_eq!(percent_encoded("`a` is 100% ü\n"), "`a` is 100%25 %C3%BC%0A");
    }

    #[test]
    fn grpc_gets_trailers_alone() {
        let refusal = Refusal::new(Kind::NoReplica, "nothing is ready");
        let response = refusal.to_response(Protocol::Grpc);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(http_body::Body::is_end_stream(response.body()));
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        for kind in [Kind::Unauthenticated, Kind::Forbidden, Kind::Broken, Kind::Deadline, Kind::TooLarge] {
            assert!(!kind.retryable(), "{kind:?}");
        }
        assert!(Kind::ServiceBusy.retryable());
    }
}
