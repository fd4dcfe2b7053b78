//! The gateway's own door, a Unix socket for the controller and for people on this machine.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::{body::DownBody, own, stack::Gateway};

/// `/livez`, `/metrics` and `/status`.
#[derive(Clone, Debug)]
pub(crate) struct Admin(pub Arc<Gateway>);

impl tower::Service<Request<Incoming>> for Admin {
    type Response = Response<DownBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<DownBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Response<DownBody> {
        match (method, path) {
            (&Method::GET, "/livez") => own::health("live", true),
            (&Method::GET, "/metrics") => {
                own::text(self.0.own_metrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
            }
            (&Method::GET, "/status") => {
                let generation = self.0.tables.load().generation;
                let status = serde_json::json!({ "generation": generation, "ready": generation > 0 });
                own::text(status.to_string(), "application/json")
            }
            _ => {
                let mut response = own::text("{\"error\":\"there is nothing here\"}".to_owned(), "application/json");
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}
