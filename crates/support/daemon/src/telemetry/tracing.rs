//! OpenTelemetry traces over OTLP, sent when the environment names a collector; without one they cost nothing.
//!
//! Flow: the gateway opens a span for each request with the caller's `traceparent` as parent, one below it for each try,
//! passes its own `traceparent` on, and adds what the runtime says in `Server-Timing` as spans below the try: a runtime has
//! no network and sends nothing itself. Spans wait in a bounded queue and are sent from a thread of their own; when
//! the collector is away they are dropped and the log says so.
//!
//! Configuration is OpenTelemetry's own: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) switches it on;
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `OTEL_BSP_*` hold
//! as specified. The protocol is gRPC, in the clear for `http://`, with TLS and the system's roots for `https://`.

use std::{
    borrow::Cow,
    env,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};

use super::server_timing;

/// Either variable names the collector and so switches traces on; the first wins, as OpenTelemetry specifies.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// How long the end of a process waits for the last spans to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// Another protocol was asked for.
    #[error("`{asked}` is not a protocol for traces here: set OTEL_EXPORTER_OTLP_PROTOCOL to `grpc`, or unset it")]
    Protocol {
        /// What was asked for.
        asked: String,
    },
    /// The exporter does not take its configuration.
    #[error("cannot send traces: check the variables OTEL_EXPORTER_OTLP_*")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// The traces of a process, or nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracing(Option<Sender>);

#[derive(Clone, Debug)]
struct Sender {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// A span of a trace, or nothing; it ends when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct Span(Option<Open>);

#[derive(Clone, Debug)]
struct Open {
    tracer: SdkTracer,
    context: Context,
}

impl Tracing {
    /// Sends nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// What the environment asks for, under the name `service` unless `OTEL_SERVICE_NAME` says otherwise.
    ///
    /// Must be called within a tokio runtime, which then carries the connection to the collector.
    ///
    /// # Errors
    ///
    /// [`TracingError`] when the environment asks for what is not there; a collector that does not answer is no error.
    pub fn from_env(service: &'static str) -> Result<Self, TracingError> {
        match wanted(|name| env::var(name).ok().filter(|value| !value.is_empty()))? {
            Some(endpoint) => Self::to(&endpoint, service),
            None => Ok(Self::off()),
        }
    }

    /// Sends to the collector at `endpoint`, such as `http://127.0.0.1:4317`; otherwise as [`Tracing::from_env`].
    ///
    /// # Errors
    ///
    /// [`TracingError::Exporter`] when `endpoint` is no address.
    pub fn to(endpoint: &str, service: &'static str) -> Result<Self, TracingError> {
        let exporter =
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(TracingError::Exporter)?;
        let named = env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version);
        let resource = if named { resource } else { resource.with_service_name(service) };
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
        let tracer = provider.tracer("berth");
        Ok(Self(Some(Sender { provider, tracer })))
    }

    /// Whether spans are made at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Opens the span of a request that began `ago`, below the span that `headers` names by W3C trace context.
    ///
    /// `name` has few values (`infer`), never what a client chose.
    pub fn server_span(&self, name: impl Into<Cow<'static, str>>, headers: &HeaderMap, ago: Duration) -> Span {
        let Some(sender) = &self.0 else { return Span(None) };
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let open = Open { tracer: sender.tracer.clone(), context: parent };
        let began = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        Span(Some(open.below(SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_start_time(began))))
    }

    /// Sends what waits, for at most a few seconds. Later spans go nowhere.
    pub async fn shutdown(self) {
        let Some(sender) = self.0 else { return };
        // The flush blocks its thread while the runtime carries the messages.
        let flushed = tokio::task::spawn_blocking(move || sender.provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        match flushed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => ::tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => ::tracing::warn!(%error, "the last spans were not sent"),
        }
    }
}

/// The collector that the environment names, if traces are wanted. Pure.
fn wanted(value: impl Fn(&str) -> Option<String>) -> Result<Option<String>, TracingError> {
    let disabled = value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || value("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let Some(endpoint) = ENDPOINTS.iter().find_map(|name| value(name)).filter(|_| !disabled) else {
        return Ok(None);
    };
    match value("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| value("OTEL_EXPORTER_OTLP_PROTOCOL")) {
        Some(asked) if asked != "grpc" => Err(TracingError::Protocol { asked }),
        _ => Ok(Some(endpoint)),
    }
}

impl Open {
    fn below(&self, builder: SpanBuilder) -> Self {
        let span = self.tracer.build_with_context(builder, &self.context);
        Self { tracer: self.tracer.clone(), context: self.context.with_span(span) }
    }
}

impl Span {
    /// Opens the span of a request that this process sends on: one for each try.
    pub fn client_span(&self, name: impl Into<Cow<'static, str>>) -> Self {
        Self(self.0.as_ref().map(|open| open.below(SpanBuilder::from_name(name).with_kind(SpanKind::Client))))
    }

    /// Whether what is set here will be sent; ask before building a value that costs something.
    pub fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.context.span().is_recording())
    }

    /// Sets an attribute, under a name of OpenTelemetry's semantic conventions or `berth.…`. Never a secret, never a body.
    pub fn set(&self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(open) = &self.0 {
            open.context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Sets the status of the answer; a server's error marks the span as failed.
    pub fn answered(&self, status: StatusCode) {
        let Some(open) = &self.0 else { return };
        let span = open.context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_status(Status::error(status.canonical_reason().unwrap_or("server error")));
        }
    }

    /// Marks the span as failed, with a reason that has few values.
    pub fn fail(&self, reason: &'static str) {
        if let Some(open) = &self.0 {
            open.context.span().set_status(Status::error(reason));
        }
    }

    /// Writes `traceparent` and `tracestate` of this span into the headers of a request that is sent on.
    ///
    /// Without a span the headers stay as they are, so a caller's own context passes through.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Some(open) = &self.0 {
            TraceContextPropagator::new().inject_context(&open.context, &mut HeadersMut(headers));
        }
    }

    /// Adds the entries of an answer's `Server-Timing` as spans below this one, one after the other, the last ending at `ended`.
    pub fn server_timing(&self, headers: &HeaderMap, ended: SystemTime) {
        let Some(open) = self.0.as_ref().filter(|_| self.is_on()) else { return };
        let Some(header) = headers.get("server-timing").and_then(|value| value.to_str().ok()) else { return };
        let mut ends = ended;
        for (name, lasted) in server_timing::read(header).into_iter().rev() {
            let Some(began) = ends.checked_sub(lasted) else { return };
            let builder = SpanBuilder::from_name(name.to_owned()).with_kind(SpanKind::Internal).with_start_time(began);
            open.below(builder).context.span().end_with_timestamp(ends);
            ends = began;
        }
    }

    /// The trace's id in hexadecimal, for log lines.
    pub fn trace_id(&self) -> Option<String> {
        self.0.as_ref().map(|open| open.context.span().span_context().trace_id().to_string())
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
