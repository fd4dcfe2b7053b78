//! Spans arrive at a collector in this process.

use std::time::UNIX_EPOCH;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value,
    trace::v1::{ResourceSpans, Span as SentSpan, span, status},
};
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;

use super::*;
use crate::Supervisor;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Collector(mpsc::Sender<ResourceSpans>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for spans in request.into_inner().resource_spans {
            self.0.send(spans).await.unwrap();
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a port of its own: its address and what it receives.
fn collector(supervisor: &Supervisor) -> (String, mpsc::Receiver<ResourceSpans>) {
    let (sender, receiver) = mpsc::channel(16);
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", incoming.local_addr().unwrap());
    let stop = supervisor.stopping();
    supervisor.spawn_connection(async move {
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
        server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await.unwrap();
    });
    (endpoint, receiver)
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn by_name<'a>(sent: &'a ResourceSpans, name: &str) -> &'a SentSpan {
    let mut spans = sent.scope_spans.iter().flat_map(|scope| &scope.spans);
    spans.find(|span| span.name == name).unwrap_or_else(|| panic!("no span `{name}` in {sent:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn spans_of_a_request_arrive_with_their_parents() {
    let supervisor = Supervisor::new();
    let (endpoint, mut received) = collector(&supervisor);
    let tracing = Tracing::to(&endpoint, "berth-gateway").unwrap();

    let request = tracing.server_span(
        "infer",
        &headers(&[("traceparent", PARENT), ("tracestate", "a=b")]),
        Duration::from_secs(1),
    );
    request.set("berth.service", "spam");
    let attempt = request.client_span("attempt");
    let mut onward = headers(&[("traceparent", PARENT)]);
    attempt.inject(&mut onward);
    let ended = UNIX_EPOCH + Duration::from_secs(1_000);
    attempt.server_timing(&headers(&[("server-timing", "queue;dur=1,compute;dur=20")]), ended);
    attempt.answered(StatusCode::SERVICE_UNAVAILABLE);
    request.answered(StatusCode::OK);
    assert_eq!(request.trace_id().as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    drop((attempt, request));
    tracing.shutdown().await;

    let sent = received.recv().await.unwrap();
    let resource = &sent.resource.as_ref().unwrap().attributes;
    let service = resource.iter().find(|attribute| attribute.key == "service.name").unwrap();
    let name = service.value.clone().unwrap().value.unwrap();
    assert!(matches!(name, any_value::Value::StringValue(name) if name == "berth-gateway"));

    let request = by_name(&sent, "infer");
    let (attempt, queue, compute) = (by_name(&sent, "attempt"), by_name(&sent, "queue"), by_name(&sent, "compute"));
    assert_eq!(hex_of(&request.parent_span_id), "b7ad6b7169203331");
    assert!(request.end_time_unix_nano - request.start_time_unix_nano >= 1_000_000_000, "it began a second ago");
    assert_eq!((request.kind(), attempt.kind()), (span::SpanKind::Server, span::SpanKind::Client));
    assert_eq!(attempt.parent_span_id, request.span_id);
    assert_eq!((&queue.parent_span_id, &compute.parent_span_id), (&attempt.span_id, &attempt.span_id));
    assert_eq!((compute.end_time_unix_nano, compute.start_time_unix_nano), (1_000_000_000_000, 999_980_000_000));
    assert_eq!((queue.end_time_unix_nano, queue.start_time_unix_nano), (999_980_000_000, 999_979_000_000));
    assert_eq!(attempt.status.as_ref().unwrap().code(), status::StatusCode::Error);
    assert!(request.attributes.iter().any(|attribute| attribute.key == "berth.service"));
    let expected = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", hex_of(&attempt.span_id));
    assert_eq!(
        (onward["traceparent"].to_str().unwrap(), onward["tracestate"].to_str().unwrap()),
        (expected.as_str(), "a=b")
    );
    supervisor.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_without_context_begins_a_trace() {
    let supervisor = Supervisor::new();
    let (endpoint, mut received) = collector(&supervisor);
    let tracing = Tracing::to(&endpoint, "berth-gateway").unwrap();
    for wrong in ["", "00-zz-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
        drop(tracing.server_span("GET /v2", &headers(&[("traceparent", wrong)]), Duration::ZERO));
    }
    tracing.shutdown().await;
    let sent = received.recv().await.unwrap();
    let spans: Vec<&SentSpan> = sent.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty() && span.trace_id.len() == 16));
    supervisor.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_its_caller_does_not_trace_is_not_sent() {
    let supervisor = Supervisor::new();
    let (endpoint, mut received) = collector(&supervisor);
    let tracing = Tracing::to(&endpoint, "berth-gateway").unwrap();
    let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let span = tracing.server_span("GET /v2", &headers(&[("traceparent", unsampled)]), Duration::ZERO);
    assert!(!span.is_on());
    let mut onward = HeaderMap::new();
    span.inject(&mut onward);
    assert!(onward["traceparent"].to_str().unwrap().ends_with("-00"));
    drop(span);
    tracing.shutdown().await;
    assert!(received.try_recv().is_err());
    supervisor.stop();
}

#[tokio::test]
async fn without_a_collector_nothing_is_made_and_headers_pass() {
    let tracing = Tracing::off();
    let span = tracing.server_span("GET /v2", &headers(&[("traceparent", PARENT)]), Duration::ZERO);
    let attempt = span.client_span("attempt");
    let mut onward = headers(&[("traceparent", PARENT)]);
    attempt.inject(&mut onward);
    attempt.set("a", 1_i64);
    attempt.fail("b");
    attempt.answered(StatusCode::BAD_GATEWAY);
    attempt.server_timing(&headers(&[("server-timing", "queue;dur=1")]), UNIX_EPOCH);
    assert_eq!((onward["traceparent"].to_str().unwrap(), span.trace_id(), tracing.is_on()), (PARENT, None, false));
    tracing.shutdown().await;
}

#[test]
fn the_environment_says_whether_and_where() {
    let wanted = |set: &[(&str, &str)]| {
        let found = |name: &str| set.iter().find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned());
        super::wanted(found).map_err(|error| error.to_string())
    };
    let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a");
    assert_eq!(wanted(&[]), Ok(None));
    assert_eq!(wanted(&[all]), Ok(Some("http://a".to_owned())));
    assert_eq!(wanted(&[all, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b")]), Ok(Some("http://b".to_owned())));
    assert_eq!(wanted(&[all, ("OTEL_SDK_DISABLED", "True")]), Ok(None));
    assert_eq!(wanted(&[all, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
    assert_eq!(wanted(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), Ok(Some("http://a".to_owned())));
    let error = wanted(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]).unwrap_err();
    assert!(error.contains("`http/protobuf`") && error.contains("grpc"), "{error}");
    // Without a collector nothing else matters.
    assert_eq!(wanted(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]), Ok(None));
}

#[tokio::test]
async fn a_wrong_endpoint_is_an_error() {
    let error = Tracing::to("http://not an address", "berth-gateway").unwrap_err();
    assert!(error.to_string().contains("OTEL_EXPORTER_OTLP_"), "{error}");
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
