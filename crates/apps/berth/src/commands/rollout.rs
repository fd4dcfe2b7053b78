//! `berth rollout`: how the traffic is shared out, and who gets it next.

use resources::{
    condition::{Condition, ConditionKind, ConditionStatus},
    id::{Revision, ServiceName},
    inference_service::{InferenceService, Shadow},
    rollout::{RolloutPhase, RolloutStatus, TestStatus, Wish},
    status::{InferenceServiceStatus, ReplicaPhase, RevisionTraffic},
};
use serde::Serialize;

use super::{
    deploy::ask,
    shadow::{self, Agreement},
};
use crate::failure::Exit;
use crate::{
    cli::{OneService, Rollout},
    context::Context,
    failure::Failure,
    table::table,
    wait,
};

/// What `berth rollout status -o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    name: ServiceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_created_revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_rolledout_revision: Option<Revision>,
    traffic: Vec<RevisionTraffic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Shadow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<Agreement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rolled_out: Option<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<RolloutStatus>,
}

pub(super) async fn rollout(context: &Context, rollout: Rollout) -> Result<(), Failure> {
    match rollout {
        Rollout::Status(crate::cli::RolloutStatus { name, watch: false }) => {
            show(context, &context.client.service(&name).await?).await
        }
        Rollout::Status(crate::cli::RolloutStatus { name, watch: true }) => watch(context, &name).await,
        Rollout::Promote(OneService { name }) => steer(context, &name, Some(Wish::Promote)).await,
        Rollout::Abort(OneService { name }) => steer(context, &name, Some(Wish::Abort)).await,
        Rollout::Pause(OneService { name }) => steer(context, &name, Some(Wish::Pause)).await,
        Rollout::Resume(OneService { name }) => steer(context, &name, None).await,
    }
}

/// Says what is wanted where the rollout is judged, and shifts the traffic where it is not.
async fn steer(context: &Context, name: &str, wish: Option<Wish>) -> Result<(), Failure> {
    let judged = context.client.service(name).await?.spec.rollout.is_some();
    match wish {
        Some(Wish::Promote) if !judged => return shift(context, name, None).await,
        Some(Wish::Abort) if !judged => return shift(context, name, Some(0)).await,
        _ => {}
    }
    let service = context.client.steer(name, wish).await?;
    if !context.out.is_for_people() {
        return context.out.value(&service);
    }
    let what = match wish {
        Some(Wish::Promote) => "is to get all requests",
        Some(Wish::Abort) => "is to get no requests",
        Some(Wish::Pause) => "keeps its share until `berth rollout resume`, or until it is found harmful",
        None => "goes on by itself",
    };
    context.out.text(&format!("{name}: the newest revision {what}"))
}

/// Shows every change until the rollout has ended.
async fn watch(context: &Context, name: &str) -> Result<(), Failure> {
    let mut progress = context.progress();
    let mut said = String::new();
    let done = |service: Option<&InferenceService>, _: &mut crate::progress::Progress| {
        let Some(service) = service else {
            return Err(Failure::new(Exit::NotFound, format!("`{name}` was deleted meanwhile")));
        };
        let status = service.status.clone().unwrap_or_default();
        let message = message(&status);
        if said != message {
            said.clone_from(&message);
            match context.out.is_for_people() {
                true => context.out.text(&format!("{name}: {message}"))?,
                false => context.out.item(&report(service))?,
            }
        }
        if status.observed_generation < service.metadata.generation.unwrap_or(0) {
            return Ok(false);
        }
        match status.rollout.as_ref().map(|rollout| rollout.phase) {
            Some(RolloutPhase::RolledBack) => {
                Err(Failure::failed(format!("the newest revision of `{name}` was rolled back")))
            }
            Some(RolloutPhase::Aborted) => Ok(true),
            _ => Ok(wait::condition(&status, ConditionKind::RolledOut)
                .is_some_and(|condition| condition.status == ConditionStatus::True)),
        }
    };
    wait::follow(&context.client, name, &mut progress, done).await
}

fn message(status: &InferenceServiceStatus) -> String {
    wait::condition(status, ConditionKind::RolledOut)
        .map_or_else(|| "nothing is known yet".to_owned(), |condition| condition.message.clone())
}

fn report(service: &InferenceService) -> Report {
    let status = service.status.clone().unwrap_or_default();
    Report {
        name: service.metadata.name.clone(),
        latest_created_revision: status.latest_created_revision,
        latest_rolledout_revision: status.latest_rolled_out_revision,
        rolled_out: wait::condition(&status, ConditionKind::RolledOut).cloned(),
        traffic: status.traffic,
        shadow: service.spec.shadow,
        agreement: None,
        rollout: status.rollout,
    }
}

async fn show(context: &Context, service: &InferenceService) -> Result<(), Failure> {
    let agreement = shadow::agreement(context, service).await;
    if !context.out.is_for_people() {
        return context.out.value(&Report { agreement, ..report(service) });
    }
    let status = service.status.clone().unwrap_or_default();
    context.out.text(&format!("{}: {}", service.metadata.name, message(&status)))?;
    if service.spec.shadow.is_some() {
        let words = shadow::words(service, agreement.as_ref());
        context.out.text(&format!("{}: {words}", service.metadata.name))?;
    }
    context.out.text(&table(&["REVISION", "TRAFFIC", "READY"], rows(&status)))?;
    let Some(rollout) = &status.rollout else { return Ok(()) };
    let rows = rollout.tests.iter().map(test_row).collect();
    context.out.text(&table(&["TEST", "STABLE", "NEW", "EVIDENCE", "NEEDED"], rows))
}

fn test_row(test: &TestStatus) -> Vec<String> {
    let measured = |value: f64| match test.name.as_str() {
        "errors" => format!("{:.2} %", value * 100.0),
        "latency" => format!("{value:.1} ms"),
        _ => format!("{:.0} % moved", value * 100.0),
    };
    let stable = if test.name == "outputs" { "-".to_owned() } else { measured(test.stable) };
    let evidence = format!("{:.2}", test.evidence);
    vec![test.name.clone(), stable, measured(test.canary), evidence, format!("{:.0}", test.needed)]
}

fn rows(status: &InferenceServiceStatus) -> Vec<Vec<String>> {
    let row = |share: &RevisionTraffic| {
        let ready = status
            .replicas
            .iter()
            .filter(|replica| replica.revision == share.revision && replica.phase == ReplicaPhase::Ready);
        vec![share.revision.to_string(), format!("{} %", share.percent), ready.count().to_string()]
    };
    status.traffic.iter().map(row).collect()
}

/// Gives the newest revision a share: everything when there is no `percent`.
async fn shift(context: &Context, name: &str, percent: Option<u32>) -> Result<(), Failure> {
    let name = ServiceName::parse(name).map_err(|error| Failure::usage(error.to_string()))?;
    // The server says in its own words that there is none.
    let now = context.client.service(name.as_str()).await?;
    let wish = |before: Option<&InferenceService>| {
        let mut service = before.unwrap_or(&now).clone();
        service.spec.predictor.canary_traffic_percent = percent;
        service.spec.shadow = None;
        service
    };
    let (service, _) = ask(context, &name, wish).await?;
    if !context.out.is_for_people() {
        return context.out.value(&service);
    }
    let share = percent.map_or_else(|| "all requests".to_owned(), |percent| format!("{percent} % of the requests"));
    context.out.text(&format!("{name}: the newest revision is to get {share}"))
}

/// `100 %`, or `2: 10 %, 1: 90 %`.
pub(super) fn shares(traffic: &[RevisionTraffic]) -> String {
    match traffic {
        [] => "<none>".to_owned(),
        [_] => "100%".to_owned(),
        several => {
            let shares: Vec<String> =
                several.iter().map(|share| format!("{}={}%", share.revision, share.percent)).collect();
            shares.join(",")
        }
    }
}
