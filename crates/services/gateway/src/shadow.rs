//! Copies of requests for a revision that answers no client, and what becomes of them.
//!
//! Flow: the replica that answers a client has sent the head of its answer; a draw says that the request is mirrored; a task of its own
//! sends the copy, and the answer's bytes are noted as they pass. When both answers are there, they are compared off the request's way.
//!
//! Guarantees: nothing of it delays or fails the caller. A copy holds handles to bytes that the request had anyway. Each copy is sent
//! once, with a deadline of its own, and what is over a bound is left out and counted.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use inference::embeddings;
use resources::{id::Revision, snapshot::RouteShadow};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    body::UpBody,
    deadline,
    error::Protocol,
    headers,
    limit::{Counter, Share},
    proxy::Call,
    stack::Gateway,
};

mod answer;
mod metrics;
mod mirror;
mod tee;

pub(crate) use metrics::{Families, ShadowMetrics};
use mirror::Mirror;
pub(crate) use tee::Tee;

/// Requests with larger bodies are not mirrored: a few hundred rows are enough to compare models by.
pub(crate) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Longer answers are not compared.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Copies of one service under way: more than a shadow that keeps up has, and few enough that one which hangs costs little.
pub(crate) const MIRRORS_MAX: usize = 32;
/// Copies of all services under way. Each may hold a request and two answers: 96 MiB in all.
const MIRRORS_TOTAL_MAX: usize = 128;
/// Longest time for a copy: no client waits for it, and it keeps others out.
const MIRROR_TIME_MAX: Duration = Duration::from_secs(60);

/// The shadow of one service.
#[derive(Debug)]
pub(crate) struct Shadow {
    /// The revision that gets the copies.
    pub revision: Revision,
    /// Draws below it are mirrored.
    bound: u64,
    /// Copies under way.
    in_flight: Counter,
    /// What is counted.
    pub metrics: Arc<ShadowMetrics>,
}

impl Shadow {
    /// The shadow that `route` asks for; it goes on counting where `before` was of the same revision.
    pub(crate) fn new(service: &str, route: RouteShadow, before: Option<&Self>, families: &Families) -> Self {
        let before = before.filter(|before| before.revision == route.revision);
        let made = || Arc::new(families.of(service, route.revision));
        Self {
            revision: route.revision,
            bound: (u64::from(route.percent) << 32).div_ceil(100),
            in_flight: before.map(|before| before.in_flight.clone()).unwrap_or_default(),
            metrics: before.map_or_else(made, |before| Arc::clone(&before.metrics)),
        }
    }

    fn draws(&self, random: u32) -> bool {
        u64::from(random) < self.bound
    }

    fn admit(&self, all: &Counter) -> Option<[Share; 2]> {
        Some([self.in_flight.take(1, MIRRORS_MAX)?, all.take(1, MIRRORS_TOTAL_MAX)?])
    }
}

/// What became of a request that was drawn to be mirrored, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Both answers say the same.
    Agreed,
    /// They do not.
    Differed(&'static str),
    /// The copy was not answered.
    Failed(&'static str),
    /// Nothing was sent, or nothing could be compared.
    Dropped(&'static str),
}

impl Outcome {
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Agreed => ("agreed", ""),
            Self::Differed(reason) => ("differed", reason),
            Self::Failed(reason) => ("failed", reason),
            Self::Dropped(reason) => ("dropped", reason),
        }
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    V1,
    V2,
    Grpc,
}

impl Form {
    fn of(protocol: Protocol, path: &str) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc,
            Protocol::Rest if path.ends_with(":predict") => Self::V1,
            Protocol::Rest => Self::V2,
        }
    }
}

/// Whether an answer tells of the moment and not of the request: overload, a deadline, a fault of the replica.
fn is_passing(protocol: Protocol, code: u16) -> bool {
    match protocol {
        Protocol::Rest => code >= 500 || matches!(code, 408 | 429),
        Protocol::Grpc => matches!(code, 1 | 2 | 4 | 8 | 13 | 14 | 15),
    }
}

/// Why an answer with this head is not compared.
fn unfit<B: http_body::Body>(protocol: Protocol, answer: &Response<B>) -> Option<&'static str> {
    let code = match protocol {
        Protocol::Rest => Some(answer.status().as_u16()),
        Protocol::Grpc => headers::grpc_status(answer.headers()),
    };
    if code.is_some_and(|code| is_passing(protocol, code)) {
        return Some("primary_failed");
    }
    if answer.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Some("encoded");
    }
    let bytes = answer.body().size_hint().lower();
    usize::try_from(bytes).map_or(true, |bytes| bytes > ANSWER_BYTES_MAX).then_some("answer_large")
}

impl Gateway {
    /// Mirrors the request of `call`, whose answer begins with `answer` after `took`, where it is one of those to mirror. Gives what
    /// notes the rest of that answer.
    pub(crate) fn mirror<B: http_body::Body>(
        &self,
        call: &mut Call,
        answer: &Response<B>,
        took: Duration,
    ) -> Option<Box<Tee>> {
        let service = Arc::clone(&call.service);
        let shadow = service.shadow.as_ref()?;
        // Requests that are shared out have a ticket: predictions that name no revision.
        let mirrored = call.aim.ticket.is_some() && call.head.uri.path() != embeddings::PATH;
        if !mirrored || !shadow.draws(rand::random()) {
            return None;
        }
        match self.copy(call, shadow, answer, took) {
            Ok(tee) => Some(tee),
            Err(reason) => {
                shadow.metrics.count(Outcome::Dropped(reason));
                None
            }
        }
    }

    fn copy<B: http_body::Body>(
        &self,
        call: &mut Call,
        shadow: &Shadow,
        answer: &Response<B>,
        took: Duration,
    ) -> Result<Box<Tee>, &'static str> {
        match call.payload.whole() {
            None => return Err("passing"),
            Some(bytes) if bytes > REQUEST_BYTES_MAX => return Err("request_large"),
            Some(_) => {}
        }
        if let Some(reason) = unfit(call.protocol, answer) {
            return Err(reason);
        }
        let upstream = call.service.replica(shadow.revision, Instant::now()).ok_or("no_replica")?;
        let shares = shadow.admit(&self.mirrors).ok_or("busy")?;
        let time = call.service.timeout.min(MIRROR_TIME_MAX);
        let (sender, primary) = oneshot::channel();
        let mirror = Mirror {
            protocol: call.protocol,
            form: Form::of(call.protocol, call.head.uri.path()),
            request: request(&call.head, call.payload.take_send().0, (call.protocol, time)),
            upstream: Arc::clone(upstream),
            deadline: Instant::now() + time,
            primary,
            took,
            metrics: Arc::clone(&shadow.metrics),
            shares,
        };
        self.supervisor.spawn_connection(mirror.run(self.supervisor.clone()));
        Ok(Box::new(Tee::new(answer.status().as_u16(), answer.headers(), sender)))
    }
}

/// The copy: as it was sent to the replica that answers, but for its time, its mark, and what would make its answer hard to compare.
fn request(head: &Parts, body: UpBody, (protocol, time): (Protocol, Duration)) -> Request<UpBody> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    let mut copied: HeaderMap = head.headers.clone();
    // A client's trace tells of what it waits for.
    for name in [header::ACCEPT_ENCODING, headers::GRPC_ACCEPT_ENCODING, headers::TRACEPARENT] {
        copied.remove(name);
    }
    copied.insert(headers::SHADOW, HeaderValue::from_static("1"));
    match protocol {
        Protocol::Rest => copied.insert(headers::TIMEOUT_MS, HeaderValue::from(deadline::to_ms(time))),
        Protocol::Grpc => {
            let text = HeaderValue::from_str(&deadline::to_grpc(time));
            copied.insert(headers::GRPC_TIMEOUT, text.unwrap_or(HeaderValue::from_static("60S")))
        }
    };
    *request.headers_mut() = copied;
    request
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn shadow(percent: u32) -> Shadow {
        Shadow::new("spam", RouteShadow { revision: Revision(2), percent }, None, &Families::default())
    }

    #[test]
    fn draws_are_the_share_asked_for() {
        assert!(shadow(100).draws(u32::MAX) && shadow(1).draws(0) && !shadow(1).draws(u32::MAX));
        let fifth = shadow(20);
        let drawn = (0..1000_u32).filter(|step| fifth.draws(step * (u32::MAX / 1000))).count();
        assert!((199..=201).contains(&drawn), "{drawn}");
    }

    #[test]
    fn what_is_under_way_is_bounded_for_one_and_for_all() {
        let (one, all) = (shadow(100), Counter::default());
        let mut held: Vec<_> = (0..MIRRORS_MAX).map(|_| one.admit(&all).unwrap()).collect();
        assert!(one.admit(&all).is_none());
        held.pop();
        assert!(one.admit(&all).is_some());
        let others: Vec<_> = (0..4).map(|_| shadow(100)).collect();
        let admitted =
            others.iter().flat_map(|other| (0..MIRRORS_MAX).filter_map(|_| other.admit(&all))).collect::<Vec<_>>();
        assert_eq!(held.len() + admitted.len(), MIRRORS_TOTAL_MAX);
        drop((held, admitted));
        assert_eq!((all.get(), one.in_flight.get()), (0, 0));
    }

    #[test]
    fn answers_that_cannot_be_compared() {
        let answer = |status: u16, name: &'static str, value: &'static str, bytes: usize| {
            let body = Full::new(bytes::Bytes::from(vec![0; bytes]));
            Response::builder().status(status).header(name, value).body(body).unwrap()
        };
        for (protocol, answer, wanted) in [
            (Protocol::Rest, answer(200, "x", "y", ANSWER_BYTES_MAX), None),
            (Protocol::Rest, answer(400, "x", "y", 1), None),
            (Protocol::Rest, answer(200, "x", "y", ANSWER_BYTES_MAX + 1), Some("answer_large")),
            (Protocol::Rest, answer(200, "content-encoding", "gzip", 1), Some("encoded")),
            (Protocol::Rest, answer(429, "x", "y", 1), Some("primary_failed")),
            (Protocol::Rest, answer(500, "x", "y", 1), Some("primary_failed")),
            (Protocol::Grpc, answer(200, "grpc-status", "3", 0), None),
            (Protocol::Grpc, answer(200, "grpc-status", "14", 0), Some("primary_failed")),
        ] {
            assert_eq!(unfit(protocol, &answer), wanted, "{answer:?}");
        }
    }
}
