//! The door: what every request goes through, in order. Who asks, whether they may, whether there is room, and then to whom.

use std::{
    borrow::Cow,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use access::Authorizer;
use daemon::{
    Supervisor,
    telemetry::{Span, Tracing},
};
use http::{HeaderMap, Request, Response, Version, header, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use inference::embeddings::PATH;
use prost::Message as _;
use resources::{
    access::{Action, KeyRecord},
    id::Revision,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    body::{self, DownBody, Payload, REPLAY_BYTES_MAX, Reading},
    config::Limits,
    deadline,
    error::{Kind, Protocol, Refusal, Side},
    exchange::{self, Shares, Unanswered},
    gather::{self, Question},
    headers::{self, Identity},
    index::{self, Index},
    inflate::Coding,
    limit::{self, Counter, Share},
    merge::{self, Merged},
    metrics::Metrics,
    outlier::Alarm,
    own,
    peek::{self, PREFIX_LEN, Prefix, WINDOW_BYTES_MAX},
    proxy::{self, Call, no_revision, no_service},
    route::{self, GrpcMethod, ModelRoute, NoRoute, Route},
    sending::Answers,
    table::{Aim, Service, Table, Tables},
};

mod embeddings;

/// Time for the first message of a gRPC call to arrive where the client names none: it must be there before the service is known.
pub(crate) const FIRST_MESSAGE_TIME: Duration = Duration::from_secs(60);
/// Of a version that is none, as far as a refusal repeats it.
const VERSION_CHARS_MAX: usize = 64;
/// What is read of a refused request's body, so that its client reads the refusal and not a reset connection.
const LINGER_BYTES_MAX: usize = 256 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(10);

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Limits on requests.
    pub limits: Limits,
    /// The configuration being served.
    pub tables: Arc<Tables>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Tasks, and word of the stop.
    pub supervisor: Supervisor,
    /// Traces, when there is a collector.
    pub tracing: Tracing,
    /// Health and reflection.
    pub own: own::Services,
    /// Requests in flight.
    pub in_flight: Counter,
    /// Bytes of bodies held.
    pub held_bytes: Counter,
    /// Answers on their way.
    pub answers: Arc<Answers>,
    /// Copies of requests under way to shadows.
    pub mirrors: Counter,
    /// Word that a replica fails again and again.
    pub outliers: Arc<Alarm>,
    /// Word that a service without any replica is asked, for the controller to know at once.
    pub missed: Arc<Notify>,
}

/// The door as a service.
#[derive(Clone, Debug)]
pub(crate) struct Door(pub Arc<Gateway>);

impl tower::Service<Request<Incoming>> for Door {
    type Response = Response<DownBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<DownBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let gateway = Arc::clone(&self.0);
        Box::pin(async move { Ok(gateway.handle(request).await) })
    }
}

/// What is known of a request from its head.
struct Asked {
    started: Instant,
    protocol: Protocol,
    /// Whether a refusal has OpenAI's form.
    openai: bool,
    identity: Identity,
}

impl Gateway {
    async fn handle(&self, request: Request<Incoming>) -> Response<DownBody> {
        let (head, body) = request.into_parts();
        let identity = Identity::of(&head.headers, rand::random());
        let protocol = if headers::is_grpc(&head.headers) { Protocol::Grpc } else { Protocol::Rest };
        let openai = head.uri.path() == PATH;
        let asked = Asked { started: Instant::now(), protocol, openai, identity };
        // A client that waits to be asked for its body is not asked for it.
        let lingers = head.version < Version::HTTP_2 && !head.headers.contains_key(header::EXPECT);
        let mut body = Some(body);
        let unanswered = Unanswered::new(&self.metrics, protocol);
        let answered = match protocol {
            Protocol::Rest => self.rest(&asked, head, &mut body).await,
            Protocol::Grpc => self.grpc(&asked, head, &mut body).await,
        };
        unanswered.answered();
        if let Ok(own) = answered.as_ref()
            && !own.body().is_of_replica()
        {
            self.metrics.answered_by_gateway(protocol, exchange::code(protocol, own));
        }
        let mut response = answered.unwrap_or_else(|refusal| {
            if let Some(body) = body.filter(|body| lingers && !body.is_end_stream()) {
                self.linger(body);
            }
            self.refuse(&asked, &refusal)
        });
        response.headers_mut().insert(headers::REQUEST_ID, asked.identity.request);
        response
    }

    fn refuse(&self, asked: &Asked, refusal: &Refusal) -> Response<DownBody> {
        let (kind, request_id) = (refusal.kind, &asked.identity.request);
        self.metrics.rejected(kind);
        let code = match asked.protocol {
            Protocol::Rest => kind.status().as_u16(),
            Protocol::Grpc => kind.grpc(),
        };
        self.metrics.answered_by_gateway(asked.protocol, code);
        match kind.side() {
            // A client must not be able to fill the log.
            Side::Client => tracing::debug!(?request_id, reason = kind.reason(), message = %refusal, "refused"),
            Side::Us | Side::Upstream => {
                tracing::info!(?request_id, reason = kind.reason(), message = %refusal, "not answered");
            }
        }
        if asked.openai { refusal.to_openai() } else { refusal.to_response(asked.protocol) }
    }

    /// Lets a refused HTTP/1.1 body run out, within bounds, beside the answer: closing at once would reset the connection
    /// under a client that is still writing. HTTP/2 has a frame for it.
    fn linger(&self, mut body: Incoming) {
        self.supervisor.spawn_connection(async move {
            let run_out = async {
                let mut left = LINGER_BYTES_MAX;
                while let Some(Ok(frame)) = http_body_util::BodyExt::frame(&mut body).await {
                    let Some(less) = left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) else { return };
                    left = less;
                }
            };
            drop(timeout(LINGER_TIME, run_out).await);
        });
    }

    async fn rest(
        &self,
        asked: &Asked,
        head: Parts,
        body: &mut Option<Incoming>,
    ) -> Result<Response<DownBody>, Refusal> {
        let route = route::rest(&head.method, head.uri.path());
        match route {
            Ok(Route::Livez) => return Ok(own::health("live", true)),
            Ok(Route::Readyz) => return Ok(own::health("ready", self.tables.load().generation > 0)),
            _ => {}
        }
        let table = self.tables.load();
        let key = authenticate(&table, &head.headers)?;
        match route.map_err(|none| no_route(none, head.uri.path()))? {
            Route::ServerMetadata => Ok(own::metadata()),
            Route::Livez | Route::ServerLive => Ok(own::health("live", true)),
            Route::Readyz | Route::ServerReady => Ok(own::health("ready", own::is_ready_for(&table, key))),
            Route::Models => Ok(own::json(index::names(&table, key))),
            Route::ModelsV1 => Ok(own::json(index::names_v1(&table, key))),
            Route::Embeddings => Box::pin(self.embeddings(asked, head, body, table)).await,
            Route::Contracts => {
                let whole = Box::pin(self.contracts(&table, key)).await?;
                Ok(own::json(whole.to_string()))
            }
            Route::RepositoryIndex => {
                let wanted = Box::pin(self.index_wanted(Protocol::Rest, Coding::Identity, body)).await?;
                let entries = index::entries(&table, key, wanted);
                Ok(own::json(serde_json::to_vec(&entries).unwrap_or_default()))
            }
            Route::RepositoryChange => Err(Refusal::new(Kind::Unimplemented, index::NO_CHANGE)),
            Route::Statistics(route) => {
                let (service, aim) = find(&table, key, route, &head.headers)?;
                let sum = Box::pin(self.statistics(&service, aim.revision)).await?;
                Ok(gather::answer(Protocol::Rest, &sum))
            }
            Route::Metrics => {
                authorise(key, Action::Metrics, None)?;
                let text = Box::pin(self.merged_metrics(&table)).await;
                Ok(own::text(text, merge::CONTENT_TYPE))
            }
            Route::Model(route) => {
                let (service, aim) = find(&table, key, route, &head.headers)?;
                // A replica says itself that it is ready; while there is none, nobody is woken by the question.
                if route.ready && service.target(aim).is_none_or(|target| target.upstreams.is_empty()) {
                    return Ok(own::health("ready", service.answers(aim)));
                }
                drop(table);
                let infers = route.action == Action::Infer;
                self.rest_call(asked, head, body, (service, aim, infers)).await
            }
        }
    }

    async fn rest_call(
        &self,
        asked: &Asked,
        mut head: Parts,
        body: &mut Option<Incoming>,
        (service, aim, infers): (Arc<Service>, Aim, bool),
    ) -> Result<Response<DownBody>, Refusal> {
        let asked_for = head.headers.get(headers::TIMEOUT_MS).map(|value| deadline::milliseconds(value.as_bytes()));
        let asked_for = asked_for.transpose().map_err(|error| Refusal::new(Kind::Malformed, error.to_string()))?;
        let deadline = asked.started + asked_for.map_or(service.timeout, |time| time.min(service.timeout));
        self.check_declared(body.as_ref())?;
        let shares = Shares { gateway: Some(self.admit()?), service: Some(admit_to(&service)?), replica: None };
        let payload = self.read(Protocol::Rest, body, deadline).await?;
        let span = self.span(asked, &head, &service);
        proxy::prepare(&mut head, Protocol::Rest, &service, &asked.identity);
        self.forward(call(asked, head, payload, Target { service, aim, infers, deadline, shares, span })).await
    }

    async fn grpc(
        &self,
        asked: &Asked,
        head: Parts,
        body: &mut Option<Incoming>,
    ) -> Result<Response<DownBody>, Refusal> {
        let table = self.tables.load();
        let key = authenticate(&table, &head.headers)?;
        if head.version != Version::HTTP_2 {
            return Err(Refusal::new(Kind::NotGrpc, "gRPC needs HTTP/2"));
        }
        let method = route::grpc(head.uri.path())
            .ok_or_else(|| Refusal::new(Kind::Unimplemented, format!("there is no method `{}`", head.uri.path())))?;
        match method {
            GrpcMethod::ServerLive => Ok(own::grpc_flag(true)),
            GrpcMethod::ServerReady => Ok(own::grpc_flag(own::is_ready_for(&table, key))),
            GrpcMethod::ServerMetadata => Ok(own::grpc_metadata()),
            GrpcMethod::Health | GrpcMethod::Reflection => match body.take() {
                Some(body) => {
                    let request = Request::from_parts(head, body);
                    Ok(Box::pin(self.own.call(request, self.supervisor.stopping())).await)
                }
                None => Err(Refusal::new(Kind::Malformed, "there is no message")),
            },
            GrpcMethod::RepositoryIndex => {
                let wanted = Box::pin(self.index_wanted(Protocol::Grpc, Coding::of(&head.headers)?, body)).await?;
                let models = index::entries(&table, key, wanted);
                Ok(own::grpc(&Index { models }.encode_to_vec()))
            }
            GrpcMethod::RepositoryChange => Err(Refusal::new(Kind::Unimplemented, index::NO_CHANGE)),
            GrpcMethod::ModelReady
            | GrpcMethod::ModelMetadata
            | GrpcMethod::ModelStatistics
            | GrpcMethod::ModelInfer => self.grpc_call(asked, head, body, (method, table)).await,
        }
    }

    async fn grpc_call(
        &self,
        asked: &Asked,
        mut head: Parts,
        body: &mut Option<Incoming>,
        (method, table): (GrpcMethod, Arc<Table>),
    ) -> Result<Response<DownBody>, Refusal> {
        let asked_for = head.headers.get(headers::GRPC_TIMEOUT).map(|value| deadline::grpc(value.as_bytes()));
        let asked_for = asked_for.transpose().map_err(|error| Refusal::new(Kind::Malformed, error.to_string()))?;
        let coding = Coding::of(&head.headers)?;
        self.check_declared(body.as_ref())?;
        let gateway = self.admit()?;
        let first = asked.started + asked_for.unwrap_or(FIRST_MESSAGE_TIME).min(FIRST_MESSAGE_TIME);
        let payload = self.read(Protocol::Grpc, body, first).await?;
        let (service, aim) = {
            let window = payload.held().map(|held| held.window(PREFIX_LEN + WINDOW_BYTES_MAX)).unwrap_or_default();
            let message = message(&window, coding)?;
            let model = peek_model(&message)?;
            let action = method.action().unwrap_or(Action::Infer);
            let version = (!model.version.is_empty()).then_some(model.version);
            // The key is looked up again, in the configuration that also names the service.
            let key = authenticate(&table, &head.headers)?;
            find(&table, key, ModelRoute { service: model.name, version, action, ready: false }, &head.headers)?
        };
        drop(table);
        if method == GrpcMethod::ModelStatistics {
            drop(gateway);
            let sum = Box::pin(self.statistics(&service, aim.revision)).await?;
            return Ok(gather::answer(Protocol::Grpc, &sum));
        }
        let unready = service.target(aim).is_none_or(|target| target.upstreams.is_empty());
        if method == GrpcMethod::ModelReady && unready {
            return Ok(own::grpc_flag(service.answers(aim)));
        }
        let deadline = asked.started + asked_for.map_or(service.timeout, |time| time.min(service.timeout));
        let shares = Shares { gateway: Some(gateway), service: Some(admit_to(&service)?), replica: None };
        let span = self.span(asked, &head, &service);
        proxy::prepare(&mut head, Protocol::Grpc, &service, &asked.identity);
        let infers = method == GrpcMethod::ModelInfer;
        self.forward(call(asked, head, payload, Target { service, aim, infers, deadline, shares, span })).await
    }

    /// The span of a request that was let in. One that was refused has none: strangers do not fill the collector.
    fn span(&self, asked: &Asked, head: &Parts, service: &Service) -> Span {
        if !self.tracing.is_on() {
            return Span::default();
        }
        let path = head.uri.path();
        let infers = ["/infer", ":predict", "/ModelInfer", PATH].iter().any(|end| path.ends_with(end));
        let name = if infers { "infer" } else { "metadata" };
        let span = self.tracing.server_span(name, &head.headers, asked.started.elapsed());
        span.set("berth.service", service.name.clone());
        span.set("berth.protocol", asked.protocol.as_str());
        if let Ok(request_id) = asked.identity.request.to_str() {
            span.set("berth.request_id", request_id.to_owned());
        }
        span
    }

    /// Refuses by its declared length a body that is too large, before any of it is read.
    fn check_declared(&self, body: Option<&Incoming>) -> Result<(), Refusal> {
        let declared = body.and_then(|body| body.size_hint().exact()).unwrap_or(0);
        let max = self.limits.body_bytes_max;
        if usize::try_from(declared).is_ok_and(|declared| declared <= max) { Ok(()) } else { Err(body::too_large(max)) }
    }

    /// Takes a place among the requests in flight.
    pub(crate) fn admit(&self) -> Result<Share, Refusal> {
        let full = || Refusal::new(Kind::Overloaded, "the gateway has as many requests as it holds: ask again later");
        self.in_flight.take(1, self.limits.in_flight_max).ok_or_else(full)
    }

    /// Reads a body, or the beginning of one that passes through.
    pub(crate) async fn read(
        &self,
        protocol: Protocol,
        body: &mut Option<Incoming>,
        deadline: Instant,
    ) -> Result<Payload, Refusal> {
        let grpc = protocol == Protocol::Grpc;
        let reading = Reading {
            bytes_max: self.limits.body_bytes_max,
            held_max: REPLAY_BYTES_MAX,
            grpc,
            budget: &self.held_bytes,
        };
        body::read_by(deadline, body, reading).await
    }

    async fn merged_metrics(&self, table: &Table) -> String {
        let questions = table.services().flat_map(|service| service.upstreams()).map(|upstream| Question {
            upstream: Arc::clone(upstream),
            path: "/metrics".to_owned(),
            bytes_max: merge::SOURCE_BYTES_MAX,
        });
        let mut merged = Merged::default();
        merged.add(&self.own_metrics(), None);
        for (upstream, text) in gather::ask(questions.collect(), &self.supervisor).await {
            merged.add(&text, Some(&upstream.endpoint().replica.0));
        }
        merged.text()
    }

    /// The gateway's own metrics.
    pub(crate) fn own_metrics(&self) -> String {
        self.metrics.in_flight.set(i64::try_from(self.in_flight.get()).unwrap_or(i64::MAX));
        self.metrics.text()
    }
}

struct Target {
    service: Arc<Service>,
    aim: Aim,
    /// Whether it is for a prediction.
    infers: bool,
    deadline: Instant,
    shares: Shares,
    span: Span,
}

fn call(asked: &Asked, head: Parts, payload: Payload, target: Target) -> Call {
    let Target { service, aim, infers, deadline, shares, span } = target;
    Call {
        protocol: asked.protocol,
        service,
        aim,
        infers,
        started: asked.started,
        deadline,
        head,
        payload,
        request_id: asked.identity.request.clone(),
        shares,
        span,
        waiting_since: None,
        tried: None,
    }
}

fn authenticate<'a>(table: &'a Table, headers: &HeaderMap) -> Result<&'a KeyRecord, Refusal> {
    table
        .authorizer
        .authenticate(headers::authorization(headers))
        .map_err(|error| Refusal::new(Kind::Unauthenticated, error.to_string()))
}

fn authorise(key: &KeyRecord, action: Action, service: Option<&str>) -> Result<(), Refusal> {
    Authorizer::authorise(key, action, service).map_err(|error| Refusal::new(Kind::Forbidden, error.to_string()))
}

/// The service that `route` names and what of it the request is for, as far as `key` may know of them. Whether a service exists
/// is learnt only by keys that would be let in.
fn find(
    table: &Table,
    key: &KeyRecord,
    route: ModelRoute<'_>,
    headers: &HeaderMap,
) -> Result<(Arc<Service>, Aim), Refusal> {
    let (name, infers) = (route.service, route.action == Action::Infer);
    let Some(version) = route.version else {
        authorise(key, route.action, Some(name))?;
        let service = table.service(name).ok_or_else(|| no_service(name))?;
        // Metadata and readiness are those of the default revision, whatever is shared out.
        let aim = if infers { service.aim(headers, &key.id) } else { Aim::default() };
        return Ok((Arc::clone(service), aim));
    };
    authorise(key, route.action, Some(name)).or_else(|refusal| {
        if infers { authorise(key, Action::Preview, Some(name)).map_err(|_| refusal) } else { Err(refusal) }
    })?;
    let service = table.service(name).ok_or_else(|| no_service(name))?;
    if !version.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(no_number(name, version));
    }
    let revision = version.parse().ok().map(Revision);
    let revision = revision.filter(|revision| service.has(*revision)).ok_or_else(|| no_revision(name, &version))?;
    if infers {
        may_ask(key, service, revision)?;
    }
    Ok((Arc::clone(service), Aim { revision: Some(revision), ticket: None }))
}

/// What a client is told whose version is no number. Published clients of Triton look for the first words as they are.
fn no_number(name: &str, version: &str) -> Refusal {
    let version: String = version.chars().take(VERSION_CHARS_MAX).collect();
    let text = format!(
        "failed to get model version from specified version string '{version}': revisions of `{name}` are numbers, leave the \
         version out for the newest"
    );
    Refusal::new(Kind::NotFound, text)
}

/// A revision that requests reach anyway is asked by its number with `infer:`, any other with `preview:`.
fn may_ask(key: &KeyRecord, service: &Service, revision: Revision) -> Result<(), Refusal> {
    let name = &service.name;
    if service.shares(revision) {
        return authorise(key, Action::Infer, Some(name));
    }
    authorise(key, Action::Preview, Some(name)).map_err(|_| {
        let text = format!(
            "revision {revision} of `{name}` gets no requests: asking it needs the permission `preview:{name}`"
        );
        Refusal::new(Kind::Forbidden, text)
    })
}

fn admit_to(service: &Service) -> Result<Share, Refusal> {
    let max = limit::service_max(service.container_concurrency, service.replicas());
    let busy = || {
        service.metrics.counts.refused();
        let text = format!("`{}` has as many requests as it works on: ask again later", service.name);
        Refusal::new(Kind::ServiceBusy, text)
    };
    service.in_flight.take(1, max).ok_or_else(busy)
}

/// The first message in `window`, as far as it is there and routing looks at it.
pub(crate) fn message(window: &[u8], coding: Coding) -> Result<Cow<'_, [u8]>, Refusal> {
    let prefix = Prefix::read(window).ok_or_else(|| Refusal::new(Kind::Malformed, "there is no message"))?;
    let message = window.get(PREFIX_LEN..).unwrap_or_default();
    let len = usize::try_from(prefix.len).unwrap_or(usize::MAX);
    let message = message.get(..len).unwrap_or(message);
    if prefix.compressed { coding.beginning(message, WINDOW_BYTES_MAX) } else { Ok(Cow::Borrowed(message)) }
}

fn peek_model(message: &[u8]) -> Result<peek::Model<'_>, Refusal> {
    let malformed = |text: String| Refusal::new(Kind::Malformed, text);
    let model = peek::model(message).map_err(|error| malformed(error.to_string()))?;
    if model.name.is_empty() {
        return Err(malformed("the message names no model: set the model's name, and write it first".to_owned()));
    }
    Ok(model)
}

fn no_route(none: NoRoute, path: &str) -> Refusal {
    match none {
        NoRoute::Method(allow) => {
            Refusal::new(Kind::MethodNotAllowed(allow), format!("`{path}` is asked with {allow}"))
        }
        NoRoute::Path if route::grpc(path).is_some() => {
            Refusal::new(Kind::NotGrpc, "this path speaks gRPC: send content type `application/grpc`")
        }
        NoRoute::Path => Refusal::new(Kind::NotFound, format!("there is nothing at `{path}`")),
    }
}
