//! Answers that are made of the configuration, or of what several replicas say, rather than passed on.

use std::sync::Arc;

use daemon::Supervisor;
use futures_util::{StreamExt as _, stream};
use http::Response;
use hyper::body::Incoming;
use prost::Message as _;
use resources::{access::KeyRecord, id::Revision};
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout};

use crate::{
    body::{self, DownBody},
    contract,
    error::{Kind, Protocol, Refusal},
    index::{self, Wanted},
    inflate::Coding,
    own,
    pool::Upstream,
    proxy,
    stack::{self, FIRST_MESSAGE_TIME, Gateway},
    statistics::{self, Statistics},
    table::{Aim, Service, Table},
};

/// Replicas asked at a time, and the time each has.
const ASKED_AT_ONCE: usize = 8;
const ASKING_TIME: Duration = Duration::from_secs(2);
/// Replicas asked for one answer.
const ASKED_MAX: usize = 256;

/// What to ask a replica.
pub(crate) struct Question {
    /// Whom.
    pub upstream: Arc<Upstream>,
    /// What.
    pub path: String,
    /// The longest answer.
    pub bytes_max: usize,
}

/// Asks replicas, some at a time. Those that do not answer in time are left out; the order is that of the questions.
pub(crate) async fn ask(questions: Vec<Question>, supervisor: &Supervisor) -> Vec<(Arc<Upstream>, String)> {
    let answers = stream::iter(questions.into_iter().take(ASKED_MAX)).map(|question| async move {
        let Question { upstream, path, bytes_max } = question;
        let answer = timeout(ASKING_TIME, proxy::fetch(&upstream, (&path, bytes_max), supervisor)).await.ok().flatten();
        answer.map(|text| (upstream, text))
    });
    answers.buffered(ASKED_AT_ONCE).filter_map(std::future::ready).collect().await
}

impl Gateway {
    /// Reads the whole of a short body.
    async fn short_body(&self, protocol: Protocol, body: &mut Option<Incoming>) -> Result<Vec<u8>, Refusal> {
        let _share = self.admit()?;
        let payload = self.read(protocol, body, Instant::now() + FIRST_MESSAGE_TIME).await?;
        let held = payload.held().map(|held| held.window(index::REQUEST_BYTES_MAX + 1)).unwrap_or_default();
        if !payload.replayable() || held.len() > index::REQUEST_BYTES_MAX {
            return Err(body::too_large(index::REQUEST_BYTES_MAX));
        }
        Ok(held.into_owned())
    }

    /// What a request for the index asks.
    pub(crate) async fn index_wanted(
        &self,
        protocol: Protocol,
        coding: Coding,
        body: &mut Option<Incoming>,
    ) -> Result<Wanted, Refusal> {
        let body = self.short_body(protocol, body).await?;
        let malformed = |text: String| Refusal::new(Kind::Malformed, text);
        match protocol {
            Protocol::Rest => Wanted::read(&body).map_err(malformed),
            Protocol::Grpc => {
                let message = stack::message(&body, coding)?;
                Wanted::decode(message.as_ref())
                    .map_err(|error| malformed(format!("the message cannot be read: {error}")))
            }
        }
    }

    /// The contracts of what `key` may read, as far as it is ready.
    pub(crate) async fn contracts(&self, table: &Table, key: &KeyRecord) -> Result<Value, Refusal> {
        let _share = self.admit()?;
        let questions = index::seen(table, key).into_iter().filter_map(|service| {
            let upstream = Arc::clone(service.target(Aim::default())?.upstreams.first()?);
            let path = format!("/v2/models/{}/openapi.json", service.name);
            Some(Question { upstream, path, bytes_max: contract::SOURCE_BYTES_MAX })
        });
        let answers = ask(questions.collect(), &self.supervisor).await;
        Ok(contract::join(answers.iter().map(|(_, text)| text.as_str())))
    }

    /// Statistics of a service, or of one revision of it, summed over its replicas.
    pub(crate) async fn statistics(
        &self,
        service: &Service,
        revision: Option<Revision>,
    ) -> Result<Statistics, Refusal> {
        let _share = self.admit()?;
        let targets = service.targets().iter().filter(|target| revision.is_none_or(|wanted| target.revision == wanted));
        let questions = targets.flat_map(|target| &target.upstreams).map(|upstream| Question {
            upstream: Arc::clone(upstream),
            path: format!("/v2/models/{}/stats", service.name),
            bytes_max: statistics::SOURCE_BYTES_MAX,
        });
        let answers = ask(questions.collect(), &self.supervisor).await;
        let sum = statistics::sum(answers.iter().map(|(_, text)| text.as_str()));
        if sum.model_stats.is_empty() {
            let text = format!("no replica of `{}` is ready: ask again later", service.name);
            return Err(Refusal::new(Kind::NoReplica, text));
        }
        Ok(sum)
    }
}

/// A message as JSON or as gRPC has it.
pub(crate) fn answer<M: prost::Message + serde::Serialize>(protocol: Protocol, message: &M) -> Response<DownBody> {
    match protocol {
        Protocol::Grpc => own::grpc(&message.encode_to_vec()),
        // Strings and numbers always are JSON.
        Protocol::Rest => own::json(serde_json::to_vec(message).unwrap_or_default()),
    }
}
