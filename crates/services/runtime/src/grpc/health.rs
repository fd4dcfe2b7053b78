//! The standard gRPC health service over the registry.

use std::{pin::Pin, time::Duration};

use tokio_stream::{Stream, StreamExt, wrappers::IntervalStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server};

use crate::{registry::Registry, rest::SERVER_NAME};

/// How often a watch looks: well below the seconds in which people and probes think.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The service itself, whose health is that of all models.
const INFERENCE_SERVICE: &str = "inference.GRPCInferenceService";

/// Answers for the process (the empty name), the inference service, and each model by its name.
#[derive(Debug)]
pub(super) struct Health {
    registry: Registry,
}

impl Health {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

/// `None` when there is no such service.
fn status(registry: &Registry, service: &str) -> Option<ServingStatus> {
    let ready = match service {
        "" | INFERENCE_SERVICE | SERVER_NAME => registry.ready(),
        model => registry.model(model, None).ok()?.ready() && !registry.draining(),
    };
    Some(if ready { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&self.registry, &request.get_ref().service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Status::not_found("there is no such service here")),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let registry = self.registry.clone();
        let ticks = IntervalStream::new(tokio::time::interval(WATCH_INTERVAL));
        let (mut last, mut over) = (None, false);
        // A drain must not wait for those who only watch: they get the last word and the end of the stream.
        let changes = ticks
            .map_while(move |_| {
                if over {
                    return None;
                }
                over = registry.draining();
                Some(status(&registry, &service).unwrap_or(ServingStatus::ServiceUnknown))
            })
            .filter_map(move |now| (last.replace(now) != Some(now)).then(|| Ok(response(now))));
        Ok(Response::new(Box::pin(changes)))
    }
}
