//! One request at a replica: what it holds while it is in flight, and what is counted and logged when it ends.

use std::{fmt, sync::Arc};

use daemon::telemetry::Span;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use crate::{
    error::Protocol,
    headers,
    limit::Share,
    metrics::{Metrics, RevisionMetrics},
    window::Answered,
};

/// Numbers of gRPC's statuses end here; another number is `UNKNOWN`.
const GRPC_STATUS_MAX: u16 = 16;
const GRPC_UNKNOWN: u16 = 2;

/// What a request takes from the limits; given back when it ends.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "shares are held for their drop")]
pub(crate) struct Shares {
    /// Of the gateway.
    pub gateway: Option<Share>,
    /// Of the service.
    pub service: Option<Share>,
    /// Of the replica.
    pub replica: Option<Share>,
}

/// A request in flight. Dropping it ends it.
pub(crate) struct Exchange {
    protocol: Protocol,
    started: Instant,
    sent: Option<Instant>,
    deadline: Instant,
    code: u16,
    /// Whether the code is the replica's last word.
    settled: bool,
    metrics: Arc<Metrics>,
    revision: Arc<RevisionMetrics>,
    request_id: HeaderValue,
    broken: bool,
    /// Whether the client got all of the answer.
    whole: bool,
    spans: [Span; 2],
    _shares: Shares,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("code", &self.code).finish_non_exhaustive()
    }
}

/// What an exchange is made of.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Which protocol.
    pub protocol: Protocol,
    /// When the request's head was there.
    pub started: Instant,
    /// When it went to its replica; nothing for one that is no prediction, which says nothing about the load.
    pub sent: Option<Instant>,
    /// When the answer must be over.
    pub deadline: Instant,
    /// Where it is counted.
    pub revision: Arc<RevisionMetrics>,
    /// How logs name it.
    pub request_id: HeaderValue,
    /// What it holds.
    pub shares: Shares,
    /// Its span and that of the try that was answered.
    pub spans: [Span; 2],
}

impl Exchange {
    /// A request whose answer has begun.
    pub(crate) fn new<B>(begun: Begun, metrics: Arc<Metrics>, answer: &Response<B>) -> Self {
        let Begun { protocol, started, sent, deadline, revision, request_id, shares, spans } = begun;
        let (code, settled) = match protocol {
            Protocol::Rest => (answer.status().as_u16(), true),
            // Trailers bring it; without any the call has no outcome.
            Protocol::Grpc => grpc_status(answer.headers()).map_or((GRPC_UNKNOWN, false), |code| (code, true)),
        };
        Self {
            protocol,
            started,
            sent,
            deadline,
            code,
            settled,
            metrics,
            revision,
            request_id,
            broken: false,
            whole: false,
            spans,
            _shares: shares,
        }
    }

    /// When the answer must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Reads the outcome of a gRPC call.
    pub(crate) fn note_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(code) = grpc_status(trailers).filter(|_| self.protocol == Protocol::Grpc) {
            (self.code, self.settled) = (code, true);
        }
    }

    /// The replica has said all that it says.
    pub(crate) fn note_end(&mut self) {
        self.settled = true;
    }

    /// The answer went out to its end.
    pub(crate) fn note_whole(&mut self) {
        self.whole = true;
    }

    /// The answer broke off.
    pub(crate) fn note_broken(&mut self, error: &dyn fmt::Display) {
        if !self.broken {
            self.broken = true;
            tracing::warn!(request_id = ?self.request_id, %error, "an answer broke off");
        }
    }
}

impl Exchange {
    /// Whether it failed by the replica's fault. A client that left before the outcome says nothing about that.
    fn failed(&self) -> bool {
        let code = match self.protocol {
            Protocol::Rest => self.code >= 500,
            Protocol::Grpc => is_server_error(self.code),
        };
        self.broken || (self.settled && code)
    }

    fn tell(&self, span: &Span) {
        match self.protocol {
            Protocol::Rest => span.answered(StatusCode::from_u16(self.code).unwrap_or_default()),
            Protocol::Grpc => {
                span.set("rpc.grpc.status_code", i64::from(self.code));
                if is_server_error(self.code) {
                    span.fail("server error");
                }
            }
        }
        if self.broken {
            span.fail("the answer broke off");
        } else if !self.whole {
            span.fail("the client went away");
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now - self.started;
        if let Some(sent) = self.sent {
            let answered = Answered { latency: took, service: now - sent, failed: self.failed() };
            self.revision.counts.answered(answered);
        }
        if self.whole || self.broken {
            self.metrics.answered(&self.revision, self.protocol, self.code, took);
        } else {
            self.metrics.cancelled(self.protocol);
        }
        self.spans.iter().filter(|span| span.is_on()).for_each(|span| self.tell(span));
        tracing::debug!(
            request_id = ?self.request_id,
            protocol = self.protocol.as_str(),
            code = self.code,
            took_us = took.as_micros(),
            whole = self.whole,
            "answered"
        );
    }
}

/// What gRPC's conventions call a server's error: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED and 13 to 15.
fn is_server_error(code: u16) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}

/// A request that came in and has no answer yet. Dropped like that it was cancelled.
#[derive(Debug)]
pub(crate) struct Unanswered<'a> {
    metrics: &'a Metrics,
    protocol: Protocol,
    answered: bool,
}

impl<'a> Unanswered<'a> {
    /// Counts it as received.
    pub(crate) fn new(metrics: &'a Metrics, protocol: Protocol) -> Self {
        metrics.received(protocol);
        Self { metrics, protocol, answered: false }
    }

    /// An answer is there, and is counted as such.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.metrics.cancelled(self.protocol);
        }
    }
}

/// The code of an answer of the gateway's own. It makes none over gRPC whose trailers would say other than that all is well.
pub(crate) fn code<B>(protocol: Protocol, answer: &Response<B>) -> u16 {
    match protocol {
        Protocol::Rest => answer.status().as_u16(),
        Protocol::Grpc => grpc_status(answer.headers()).unwrap_or_default(),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let text = headers.get(headers::GRPC_STATUS)?.to_str().ok()?;
    Some(text.parse().ok().filter(|code| *code <= GRPC_STATUS_MAX).unwrap_or(GRPC_UNKNOWN))
}
