//! The way of one request to a replica and back. It only carries out what the pure modules decide.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use daemon::{
    Supervisor,
    link::{self, LinkError},
    telemetry::Span,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, timeout_at};

use crate::{
    body::{BodyError, DownBody, Fault, Payload, UpBody, stalled, too_large},
    deadline,
    error::{Kind, Protocol, Refusal},
    exchange::{Begun, Exchange, Shares},
    headers,
    limit::HELD_MAX,
    metrics::{RevisionMetrics, ServiceMetrics},
    outlier::{self, Told},
    pool::{SendError, Upstream},
    retry::{self, Failure, Progress},
    stack::Gateway,
    table::{Aim, Service},
    window::Line,
};

/// Longest time that a request waits for a replica: a model that loads longer is better refused, with `Retry-After`.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(30);
/// How often a waiting request looks whether a resting replica may be asked again.
const LOOK_EVERY: Duration = crate::pool::REST_TIME;

/// A request that is let in, for a service that exists.
#[derive(Debug)]
pub(crate) struct Call {
    /// Which protocol.
    pub protocol: Protocol,
    /// The service.
    pub service: Arc<Service>,
    /// Which revision it is for.
    pub aim: Aim,
    /// Whether it is for a prediction: others say nothing about the load.
    pub infers: bool,
    /// When its head was there.
    pub started: Instant,
    /// When its answer must be over.
    pub deadline: Instant,
    /// Its head, cleaned.
    pub head: Parts,
    /// Its body.
    pub payload: Payload,
    /// How logs name it.
    pub request_id: HeaderValue,
    /// What it holds of the limits.
    pub shares: Shares,
    /// Its span; each try has one below.
    pub span: Span,
    /// When a replica was first missed.
    pub waiting_since: Option<Instant>,
    /// The revision of the last try, until it answers.
    pub tried: Option<Arc<RevisionMetrics>>,
}

/// Why one try failed, and what the client is told when no other follows.
struct Failed {
    failure: Failure,
    refusal: Refusal,
}

/// A replica, where its answers are counted, and when it was found.
struct Found {
    upstream: Arc<Upstream>,
    metrics: Arc<RevisionMetrics>,
    at: Instant,
}

impl Gateway {
    /// Gets an answer from a replica, within the deadline.
    pub(crate) async fn forward(&self, mut call: Call) -> Result<Response<DownBody>, Refusal> {
        let at = call.deadline;
        if call.infers {
            call.service.metrics.counts.arrived();
        }
        let answered = match timeout_at(at, self.try_replicas(&mut call)).await {
            Ok(answered) => answered,
            Err(_) => Err(Refusal::new(Kind::Deadline, "the request took longer than its time-out")),
        };
        answered.inspect_err(|refusal| {
            call.count_refusal(refusal.kind);
            call.span.fail(refusal.kind.reason());
        })
    }

    async fn try_replicas(&self, call: &mut Call) -> Result<Response<DownBody>, Refusal> {
        let mut sends = 0;
        let mut avoid = None;
        loop {
            let found = self.find(call, avoid.as_ref()).await?;
            let replayable = call.payload.replayable();
            let span = attempt_span(call, &found);
            let Failed { failure, refusal } = match self.attempt(call, &found, &span).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            span.fail(refusal.kind.reason());
            drop(span);
            let now = Instant::now();
            sends += u32::from(failure == Failure::Closed);
            if failure == Failure::Closed && sends == 1 {
                // A connection may have ended at the wrong moment: the replica itself is asked again at once, on a new one.
                found.upstream.forget();
            } else {
                found.upstream.rest(now);
            }
            let late = now >= *call.waiting_since.get_or_insert(now) + HOLD_MAX;
            tracing::debug!(replica = %found.upstream.endpoint().replica, ?failure, sends, "a try failed");
            if late || !call.payload.sendable() || !retry::again(failure, Progress { sends, replayable }) {
                return Err(refusal);
            }
            call.service.metrics.retries.inc();
            avoid = Some(found.upstream);
        }
    }

    /// A replica for the call. Waits for one while none is available, after those that came before.
    async fn find(&self, call: &mut Call, avoid: Option<&Arc<Upstream>>) -> Result<Found, Refusal> {
        if let Some(found) = pick(call, avoid) {
            return Ok(found);
        }
        let metrics = Arc::clone(&call.service.metrics);
        metrics.held.inc();
        let Some((_waiting, before)) = metrics.counts.wait(HELD_MAX) else {
            let text =
                format!("{HELD_MAX} requests wait for a replica of `{}` already: ask again later", call.service.name);
            return Err(Refusal::new(Kind::NoReplica, text));
        };
        let target = call.service.target(call.aim);
        if before == 0 && target.is_none_or(|target| target.upstreams.is_empty()) {
            self.missed.notify_one();
        }
        let target = target.map(|target| Arc::clone(&target.metrics));
        let line = line(call.aim, &metrics, target.as_deref());
        let until = *call.waiting_since.get_or_insert_with(Instant::now) + HOLD_MAX;
        let stop = self.supervisor.stopping();
        let draining = || Refusal::new(Kind::Draining, "the gateway is stopping");
        let _turn = tokio::select! {
            turn = line.lock() => turn,
            () = tokio::time::sleep_until(until) => return Err(none_ready(&call.service.name)),
            () = stop.cancelled() => return Err(draining()),
        };
        let mut generations = self.tables.subscribe();
        loop {
            generations.mark_unchanged();
            let service = self.tables.load().service(&call.service.name).cloned();
            call.service = service.ok_or_else(|| no_service(&call.service.name))?;
            if let Some(revision) = call.aim.revision.filter(|revision| !call.service.has(*revision)) {
                return Err(no_revision(&call.service.name, &revision));
            }
            if let Some(found) = pick(call, avoid) {
                let waited_ms = deadline::to_ms(found.at + HOLD_MAX - until);
                tracing::debug!(service = %call.service.name, waited_ms, "a request that waited goes on");
                return Ok(found);
            }
            if Instant::now() >= until {
                return Err(none_ready(&call.service.name));
            }
            tokio::select! {
                // An error means that the gateway is being taken down; the stop follows.
                _ = generations.changed() => {}
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)) => {}
                () = stop.cancelled() => return Err(draining()),
            }
        }
    }

    async fn attempt(&self, call: &mut Call, found: &Found, span: &Span) -> Result<Response<DownBody>, Failed> {
        let upstream = &found.upstream;
        let busy = upstream.occupy();
        let leased = upstream.lease(call.payload.whole(), &self.supervisor).await;
        let began = Instant::now();
        let answer = match leased {
            Ok(lease) => {
                let (request, fault) = call.request(span);
                self.head(call, lease.send(request).await, fault)
            }
            Err(error) => Err(failed(error, call)),
        };
        // A body that passes through takes its client's time, not the replica's.
        let took = call.payload.replayable().then(|| began.elapsed());
        if told(call.protocol, &answer).is_some_and(|told| upstream.meter.note(told, took)) {
            self.outliers.raise();
        }
        let answer = answer?;
        let tee = self.mirror(call, &answer, began.elapsed());
        let exchange = self.exchange(call, found, (busy, span), &answer);
        let (deadline, version) = (call.deadline, call.head.version);
        Ok(answer.map(|body| DownBody::of_replica(self.answers.begin(body, exchange, version), deadline, tee)))
    }

    /// Looks at the head of an answer: whether it is one, and what of it reaches the client.
    fn head(
        &self,
        call: &Call,
        answered: Result<Response<link::Body>, SendError>,
        fault: Option<Fault>,
    ) -> Result<Response<link::Body>, Failed> {
        if let Some(error) = fault.as_ref().and_then(|fault| fault.get()) {
            let refusal = match error {
                BodyError::Stalled(pause) => stalled(*pause),
                _ => too_large(self.limits.body_bytes_max),
            };
            return Err(Failed { failure: Failure::Closed, refusal });
        }
        let mut answer = answered.map_err(|error| failed(error, call))?;
        if headers::is_declined(answer.headers()) {
            return Err(declined(call));
        }
        headers::clean_response(answer.headers_mut());
        Ok(answer)
    }

    fn exchange(
        &self,
        call: &mut Call,
        found: &Found,
        (busy, span): (Option<crate::limit::Share>, &Span),
        answer: &Response<link::Body>,
    ) -> Box<Exchange> {
        let shares = Shares { replica: busy, ..std::mem::take(&mut call.shares) };
        span.server_timing(answer.headers(), SystemTime::now());
        let begun = Begun {
            protocol: call.protocol,
            started: call.started,
            sent: call.infers.then_some(found.at),
            deadline: call.deadline,
            // The try that is answered was the last one.
            revision: call.tried.take().unwrap_or_else(|| Arc::clone(&found.metrics)),
            request_id: call.request_id.clone(),
            shares,
            spans: [std::mem::take(&mut call.span), span.clone()],
        };
        let mut exchange = Exchange::new(begun, Arc::clone(&self.metrics), answer);
        if call.head.method == Method::HEAD {
            // There is nothing to send of the body whose length is told.
            exchange.note_whole();
        }
        Box::new(exchange)
    }
}

/// What a try says of its replica; nothing where the client, a bound or a wish to stop ended it.
fn told(protocol: Protocol, answer: &Result<Response<link::Body>, Failed>) -> Option<Told> {
    match answer {
        Ok(answer) => outlier::told(protocol, answer.status().as_u16(), headers::grpc_status(answer.headers())),
        Err(Failed { failure: Failure::Connect, .. }) => Some(Told::Fault),
        Err(Failed { failure: Failure::Closed, refusal }) if refusal.kind == Kind::Broken => Some(Told::Fault),
        Err(_) => None,
    }
}

fn attempt_span(call: &Call, found: &Found) -> Span {
    let span = call.span.client_span("attempt");
    if span.is_on() {
        span.set("berth.replica", found.upstream.endpoint().replica.0.clone());
    }
    span
}

fn pick(call: &mut Call, avoid: Option<&Arc<Upstream>>) -> Option<Found> {
    let at = Instant::now();
    let (target, upstream) = call.service.pick(call.aim, at, avoid)?;
    let (upstream, metrics) = (Arc::clone(upstream), Arc::clone(&target.metrics));
    call.tried = Some(Arc::clone(&metrics));
    Some(Found { upstream, metrics, at })
}

/// Where a request waits. What may go to either revision of a split does not wait behind what may not.
fn line<'a>(aim: Aim, service: &'a ServiceMetrics, target: Option<&'a RevisionMetrics>) -> &'a Line {
    match target {
        Some(revision) if aim.ticket.is_none() => &revision.counts.line,
        _ => &service.counts.line,
    }
}

fn none_ready(name: &str) -> Refusal {
    Refusal::new(Kind::NoReplica, format!("no replica of `{name}` is ready: ask again later"))
}

/// What a client that may see it all is told about a service that is not there. Triton's published clients look for the
/// first words, as they are, to tell a wrong name from other errors.
pub(crate) fn no_service(name: &str) -> Refusal {
    Refusal::new(Kind::NotFound, format!("Request for unknown model: there is no service `{name}`"))
}

/// What a client is told about a revision that is not there.
pub(crate) fn no_revision(name: &str, revision: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Kind::NotFound, format!("`{name}` has no revision `{revision}`: leave the version out for the newest"))
}

fn failed(error: SendError, call: &Call) -> Failed {
    let name = &call.service.name;
    match error {
        SendError::Connect(_) => {
            let text = format!("no replica of `{name}` can be reached: ask again later");
            Failed { failure: Failure::Connect, refusal: Refusal::new(Kind::NoReplica, text) }
        }
        SendError::Link(LinkError::Refused) => declined(call),
        SendError::Link(LinkError::Body(_)) => {
            let refusal = Refusal::new(Kind::ClientGone, "the request's body ended early");
            Failed { failure: Failure::Closed, refusal }
        }
        SendError::Link(error) => {
            let cause = daemon::supervisor::chain(&error);
            tracing::warn!(service = %name, request_id = ?call.request_id, error = cause, "a replica broke off");
            let text = format!("the replica of `{name}` broke off before it answered");
            Failed { failure: Failure::Closed, refusal: Refusal::new(Kind::Broken, text) }
        }
    }
}

fn declined(call: &Call) -> Failed {
    let text = format!("no replica of `{}` takes requests now: ask again later", call.service.name);
    Failed { failure: Failure::Declined, refusal: Refusal::new(Kind::NoReplica, text) }
}

impl Call {
    /// Counts a request that no replica answered, at the revision that was tried or as one that found none.
    fn count_refusal(&self, kind: Kind) {
        match (&self.tried, kind) {
            _ if !self.infers => {}
            (Some(revision), Kind::Broken | Kind::Deadline) => revision.counts.failed(),
            (_, Kind::NoReplica | Kind::Deadline) => self.service.metrics.counts.refused(),
            _ => {}
        }
    }

    /// The request for a replica, with the time that is left, below `span`.
    fn request(&mut self, span: &Span) -> (Request<UpBody>, Option<Fault>) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (body, fault) = self.payload.take_send();
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = self.head.headers.clone();
        span.inject(request.headers_mut());
        // While hardly any time is gone the service's own limit says it, without writing a number anew.
        let fresh = self.service.timeout.saturating_sub(left) * 100 <= self.service.timeout;
        let (rest, grpc) = &self.service.timeout_headers;
        let (name, value) = match self.protocol {
            Protocol::Rest if fresh => (headers::TIMEOUT_MS, rest.clone()),
            Protocol::Rest => (headers::TIMEOUT_MS, HeaderValue::from(deadline::to_ms(left))),
            Protocol::Grpc if fresh => (headers::GRPC_TIMEOUT, grpc.clone()),
            Protocol::Grpc => {
                let value = HeaderValue::from_str(&deadline::to_grpc(left));
                (headers::GRPC_TIMEOUT, value.unwrap_or_else(|_| grpc.clone()))
            }
        };
        request.headers_mut().insert(name, value);
        (request, fault)
    }
}

/// Makes a client's head into one for a replica: no hop-by-hop headers, no credentials, the gateway's stamps.
pub(crate) fn prepare(head: &mut Parts, protocol: Protocol, service: &Service, identity: &headers::Identity) {
    headers::clean_request(&mut head.headers);
    head.headers.insert(headers::SERVICE, service.header.clone());
    head.headers.insert(headers::REQUEST_ID, identity.request.clone());
    if let Some(trace) = &identity.trace {
        head.headers.insert(headers::TRACEPARENT, trace.clone());
    }
    head.headers.remove(header::HOST);
    if protocol == Protocol::Grpc {
        head.headers.insert(header::TE, headers::TRAILERS);
    }
}

/// What one replica says at `path`; nothing when it is not text within the limit.
pub(crate) async fn fetch(
    upstream: &Upstream,
    (path, bytes_max): (&str, usize),
    supervisor: &Supervisor,
) -> Option<String> {
    let lease = upstream.lease(Some(0), supervisor).await.ok()?;
    let request = Request::get(path).body(Default::default()).ok()?;
    let answer = lease.send(request).await.ok()?;
    if answer.status() != StatusCode::OK {
        return None;
    }
    let whole = Limited::new(answer.into_body(), bytes_max).collect().await.ok()?;
    String::from_utf8(whole.to_bytes().to_vec()).ok()
}
