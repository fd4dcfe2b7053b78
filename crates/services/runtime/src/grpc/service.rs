//! The methods of `inference.GRPCInferenceService`.

use inference::InferError;
use tonic::{
    Request, Response, Status,
    codec::SingleMessageCompressionOverride,
    metadata::{MetadataMap, MetadataValue},
};

use super::{codec::NO_CHANGE, convert, proto, proto::grpc_inference_service_server::GrpcInferenceService, status};
use crate::{
    registry::Registry,
    rest::{self, Limits, REQUEST_ID_HEADER, SERVER_NAME, SERVER_VERSION, SERVICE_HEADER, SHADOW_HEADER},
    statistics::Statistics,
};

/// Of a model's name in logs: the longest that the runtime itself takes.
const LOGGED_CHARS_MAX: usize = 128;

/// The models over gRPC.
#[derive(Debug)]
pub(super) struct Service {
    registry: Registry,
    limits: Limits,
}

impl Service {
    pub(super) fn new(registry: Registry, limits: Limits) -> Self {
        Self { registry, limits }
    }

    async fn infer(
        &self,
        metadata: &MetadataMap,
        message: proto::ModelInferRequest,
    ) -> Result<Response<proto::ModelInferResponse>, InferError> {
        let (name, version) = (message.model_name.as_str(), version(&message.model_version));
        let model = rest::find(&self.registry, name, version, service(metadata))?;
        let counting = model.counters().begin();
        let read = status::deadline(metadata).and_then(|deadline| {
            rest::admit(&self.registry, &model)?;
            Ok((deadline, convert::request(message)?))
        });
        let (deadline, (request, contents)) = match read {
            Ok(read) => read,
            Err(error) => {
                counting.failed(&error);
                return Err(error);
            }
        };
        counting.handed_over();
        let answer = rest::run(&model, request, deadline).await?;
        tracing::debug!(
            model = model.name(),
            request_id = metadata.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok()),
            shadow = metadata.contains_key(SHADOW_HEADER),
            queue_us = answer.timings.queue.as_micros(),
            compute_us = answer.timings.compute.as_micros(),
            "inference answered"
        );
        let message = convert::response(answer.response, contents)?;
        let (size, size_max) = (prost::Message::encoded_len(&message), self.limits.body_bytes_max);
        if size > size_max {
            return Err(InferError::TooLarge(format!(
                "the answer has {size} bytes, more than {size_max}: send fewer rows at a time"
            )));
        }
        let mut response = Response::new(message);
        let queue = answer.timings.queue.as_secs_f64() * 1e3;
        let compute = answer.timings.compute.as_secs_f64() * 1e3;
        if let Ok(value) = MetadataValue::try_from(format!("queue;dur={queue:.3},compute;dur={compute:.3}")) {
            response.metadata_mut().insert("server-timing", value);
        }
        // Clients of most languages say that they could read compressed answers; who compresses its request wants them.
        let compressed = metadata.get("grpc-encoding").is_some_and(|coding| coding != "identity");
        if !compressed {
            response.extensions_mut().insert(SingleMessageCompressionOverride::Disable);
        }
        Ok(response)
    }
}

fn service(metadata: &MetadataMap) -> Option<&[u8]> {
    metadata.get(SERVICE_HEADER).map(MetadataValue::as_encoded_bytes)
}

fn version(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(
        &self,
        _: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        Ok(Response::new(proto::ServerReadyResponse { ready: self.registry.ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        let message = request.get_ref();
        let service = service(request.metadata());
        let model =
            rest::find(&self.registry, &message.name, version(&message.version), service).map_err(status::of)?;
        let ready = model.ready() && !self.registry.draining();
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Ok(Response::new(proto::ServerMetadataResponse {
            name: SERVER_NAME.to_owned(),
            version: SERVER_VERSION.to_owned(),
            extensions: rest::EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<proto::ModelMetadataResponse>, Status> {
        let message = request.get_ref();
        let service = service(request.metadata());
        let model =
            rest::find(&self.registry, &message.name, version(&message.version), service).map_err(status::of)?;
        if !model.ready() {
            return Err(status::of(rest::loading(&model)));
        }
        Ok(Response::new(convert::metadata(model.metadata())))
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Result<Response<proto::ModelInferResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let name: String = message.model_name.chars().take(LOGGED_CHARS_MAX).collect();
        self.infer(&metadata, message).await.map_err(|error| {
            let request_id = metadata.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok());
            rest::log_refusal(&name, request_id, &error);
            status::of(error)
        })
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Result<Response<proto::ModelStatisticsResponse>, Status> {
        let message = request.get_ref();
        let service = service(request.metadata());
        let models = if message.name.is_empty() {
            self.registry.models()
        } else {
            let version = version(&message.version);
            vec![rest::find(&self.registry, &message.name, version, service).map_err(status::of)?]
        };
        let model_stats = models.iter().map(|model| convert::statistics(Statistics::of(model))).collect();
        Ok(Response::new(proto::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Result<Response<proto::RepositoryIndexResponse>, Status> {
        let ready_alone = request.get_ref().ready;
        let models = self.registry.models();
        let wanted = models.iter().filter(|model| model.ready() || !ready_alone);
        Ok(Response::new(proto::RepositoryIndexResponse {
            models: wanted.map(|model| convert::index(model)).collect(),
        }))
    }

    async fn repository_model_load(
        &self,
        _: Request<proto::RepositoryModelLoadRequest>,
    ) -> Result<Response<proto::RepositoryModelLoadResponse>, Status> {
        Err(Status::unimplemented(NO_CHANGE))
    }

    async fn repository_model_unload(
        &self,
        _: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Result<Response<proto::RepositoryModelUnloadResponse>, Status> {
        Err(Status::unimplemented(NO_CHANGE))
    }
}
