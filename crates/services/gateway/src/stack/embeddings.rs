//! `POST /v1/embeddings`: the one path whose service is named in its body.

use std::sync::Arc;

use http::{Response, header, request::Parts};
use hyper::body::Incoming;
use inference::embeddings::BODY_BYTES_MAX;
use resources::access::Action;

use super::{Asked, FIRST_MESSAGE_TIME, Gateway, Target, admit_to, authenticate, call, find};
use crate::{
    body::{self, DownBody, Payload, Reading},
    deadline,
    error::{Kind, Protocol, Refusal},
    exchange::Shares,
    headers, named, proxy,
    route::ModelRoute,
    table::Table,
};

impl Gateway {
    pub(super) async fn embeddings(
        &self,
        asked: &Asked,
        mut head: Parts,
        body: &mut Option<Incoming>,
        table: Arc<Table>,
    ) -> Result<Response<DownBody>, Refusal> {
        let asked_for = head.headers.get(headers::TIMEOUT_MS).map(|value| deadline::milliseconds(value.as_bytes()));
        let asked_for = asked_for.transpose().map_err(|error| Refusal::new(Kind::Malformed, error.to_string()))?;
        if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let text = "the model is named in the body, which is not read when it is compressed: send it as it is";
            return Err(Refusal::new(Kind::Malformed, text));
        }
        self.check_declared(body.as_ref())?;
        let gateway = self.admit()?;
        let first = asked.started + asked_for.unwrap_or(FIRST_MESSAGE_TIME).min(FIRST_MESSAGE_TIME);
        let bytes_max = self.limits.body_bytes_max.min(BODY_BYTES_MAX);
        let reading = Reading { bytes_max, held_max: bytes_max, grpc: false, budget: &self.held_bytes };
        let payload = body::read_by(first, body, reading).await?;
        let (service, aim) = {
            let Payload::Whole(held) = &payload else {
                let text = "the gateway holds as many bodies as it can: ask again later";
                return Err(Refusal::new(Kind::Overloaded, text));
            };
            let name = named::model(&held.window(bytes_max));
            let name = name.map_err(|error| Refusal::new(Kind::Malformed, error.to_string()))?;
            // The key is looked up again, in the configuration that also names the service.
            let key = authenticate(&table, &head.headers)?;
            let route = ModelRoute { service: &name, version: None, action: Action::Infer, ready: false };
            find(&table, key, route, &head.headers)?
        };
        drop(table);
        let deadline = asked.started + asked_for.map_or(service.timeout, |time| time.min(service.timeout));
        let shares = Shares { gateway: Some(gateway), service: Some(admit_to(&service)?), replica: None };
        let span = self.span(asked, &head, &service);
        proxy::prepare(&mut head, Protocol::Rest, &service, &asked.identity);
        self.forward(call(asked, head, payload, Target { service, aim, infers: true, deadline, shares, span })).await
    }
}
