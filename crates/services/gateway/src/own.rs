//! What the gateway answers by itself: health, readiness, metadata of the server, reflection.

use std::{convert::Infallible, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use resources::access::KeyRecord;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service as _;

use crate::{body::DownBody, headers, index, table::Table};

/// Name of the server in its metadata.
const NAME: &str = "berth";
/// Extensions of the protocol that every runtime behind the gateway speaks.
const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "classification", "statistics"];
/// The service that health is asked about by name.
const SERVICE: &str = "inference.GRPCInferenceService";
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/open_inference.bin"));

/// `{"live":true}` and the like: status and body say the same, since the protocol's texts disagree on which counts.
pub(crate) fn health(name: &str, yes: bool) -> Response<DownBody> {
    let mut response = json(format!("{{\"{name}\":{yes}}}"));
    if !yes {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// `GET /v2`.
pub(crate) fn metadata() -> Response<DownBody> {
    let version = env!("CARGO_PKG_VERSION");
    json(serde_json::json!({ "name": NAME, "version": version, "extensions": EXTENSIONS }).to_string())
}

/// JSON text.
pub(crate) fn json(text: impl Into<Bytes>) -> Response<DownBody> {
    let mut response = Response::new(DownBody::full(text.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, headers::JSON);
    response
}

/// Plain text.
pub(crate) fn text(text: String, content_type: &'static str) -> Response<DownBody> {
    let mut response = Response::new(DownBody::full(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// `ServerLive`, `ServerReady` and `ModelReady`, whose answers are one bool in field 1.
pub(crate) fn grpc_flag(yes: bool) -> Response<DownBody> {
    grpc(if yes { &[0x08, 0x01] } else { &[] })
}

/// `ServerMetadata`: name 1, version 2, extensions 3.
pub(crate) fn grpc_metadata() -> Response<DownBody> {
    let mut message = Vec::new();
    let fields = [(0x0a, NAME), (0x12, env!("CARGO_PKG_VERSION"))];
    for (key, text) in fields.into_iter().chain(EXTENSIONS.map(|extension| (0x1a, extension))) {
        // All are constants shorter than 128 bytes, so that their lengths are one byte.
        message.extend([key, u8::try_from(text.len()).unwrap_or(0)]);
        message.extend_from_slice(text.as_bytes());
    }
    grpc(&message)
}

/// A message and status 0.
pub(crate) fn grpc(message: &[u8]) -> Response<DownBody> {
    let len = u32::try_from(message.len()).unwrap_or(0);
    let mut data = vec![0];
    data.extend(len.to_be_bytes());
    data.extend_from_slice(message);
    let trailers = HeaderMap::from_iter([(headers::GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut response = Response::new(DownBody::with_trailers(Bytes::from(data), trailers));
    response.headers_mut().insert(header::CONTENT_TYPE, headers::GRPC);
    response
}

/// Whether every service that `key` may read is ready. What it may not read it does not learn about.
pub(crate) fn is_ready_for(table: &Table, key: &KeyRecord) -> bool {
    table.generation > 0 && index::seen(table, key).iter().all(|service| service.is_ready())
}

/// The gRPC services that the gateway has of its own.
#[derive(Clone)]
pub(crate) struct Services {
    routes: Routes,
    health: HealthReporter,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Services")
    }
}

impl Services {
    /// Health and reflection.
    pub(crate) fn new() -> Result<Self, tonic_reflection::server::Error> {
        let (health, server) = tonic_health::server::health_reporter();
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut routes = Routes::builder();
        routes.add_service(server).add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
        Ok(Self { routes: routes.routes().prepare(), health })
    }

    /// Says whether the gateway has a configuration to serve.
    pub(crate) async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in ["", SERVICE] {
            self.health.set_service_status(name, status).await;
        }
    }

    /// Answers a call; its answer ends when the gateway stops.
    pub(crate) async fn call(&self, request: Request<Incoming>, stop: CancellationToken) -> Response<DownBody> {
        let answered: Result<_, Infallible> = self.routes.clone().call(request).await;
        let Ok(response) = answered;
        response.map(|body| DownBody::boxed(body, stop))
    }
}
