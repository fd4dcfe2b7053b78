//! The Open Inference Protocol over gRPC, with health and reflection.

use axum::{Router, http::HeaderValue, response::Response};
use bytes::Bytes;
use inference::{InferError, InferRequest};
use prost::Message;
use tonic::{codec::CompressionEncoding, server::NamedService};
use tonic_health::pb::health_server::HealthServer;

use crate::{registry::Registry, rest::Limits};
use health::Health;
use proto::grpc_inference_service_server::GrpcInferenceServiceServer;
use service::Service;

pub(crate) mod codec;
mod convert;
mod health;
mod paced;
pub(crate) mod scan;
mod service;
mod status;

/// Types generated from `api/proto/open_inference.proto`.
pub mod proto {
    #![expect(clippy::too_many_lines, reason = "generated code")]
    #![expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated code")]

    tonic::include_proto!("inference");

    /// The descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/open_inference.binpb"));
}

/// Reads an encoded `ModelInferRequest` as a call does: its parts counted, decoded, its contents checked.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_request(encoded: Bytes) -> Result<InferRequest, InferError> {
    let message = decode_request(encoded)?;
    convert::request(message).map(|(request, _)| request)
}

/// Decodes a `ModelInferRequest` after counting its parts.
///
/// # Errors
///
/// [`InferError::TooLarge`] for more parts than a request may have, else [`InferError::InvalidInput`].
pub fn decode_request(encoded: Bytes) -> Result<proto::ModelInferRequest, InferError> {
    scan::infer_request(&encoded).map_err(InferError::TooLarge)?;
    proto::ModelInferRequest::decode(encoded).map_err(|error| InferError::InvalidInput(error.to_string()))
}

/// Encodes a request, as a client does.
pub fn encode_request(message: &proto::ModelInferRequest) -> Vec<u8> {
    message.encode_to_vec()
}

/// The gRPC services as a router without a fallback, to be merged with [`crate::rest::router`].
///
/// # Errors
///
/// The descriptors for reflection cannot be read, which a test rules out.
pub fn routes(registry: Registry, limits: Limits) -> Result<Router, tonic_reflection::server::Error> {
    let bytes_max = limits.body_bytes_max;
    let inference = GrpcInferenceServiceServer::new(Service::new(registry.clone(), limits))
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        // Used only for answers to compressed requests: see `Service`.
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Deflate);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = Router::new()
        .route_service(&path_of(&inference), inference)
        .layer(axum::middleware::map_response(too_large_is_exhausted))
        .layer(axum::middleware::map_request(paced::paced));
    let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let health = HealthServer::new(Health::new(registry));
    Ok(router
        .route_service(&path_of(&health), health)
        .route_service(&path_of(&v1), v1)
        .route_service(&path_of(&v1alpha), v1alpha))
}

fn path_of<S: NamedService>(_: &S) -> String {
    format!("/{}/{{*method}}", S::NAME)
}

/// tonic refuses a message over the limit as `OUT_OF_RANGE`; everyone else says `RESOURCE_EXHAUSTED`, which is also what this
/// service says of everything too large. Nothing else here uses `OUT_OF_RANGE`.
async fn too_large_is_exhausted(mut response: Response) -> Response {
    const OUT_OF_RANGE: &[u8] = b"11";
    let headers = response.headers_mut();
    if let Some(status) = headers.get_mut(tonic::Status::GRPC_STATUS)
        && status.as_bytes() == OUT_OF_RANGE
    {
        *status = HeaderValue::from_static("8");
    }
    response
}

#[cfg(test)]
mod tests;
