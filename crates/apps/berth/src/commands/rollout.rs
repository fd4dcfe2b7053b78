//! `berth rollout`: how the traffic is shared out, and who gets it next.

use resources::{
    condition::{Condition, ConditionKind},
    id::{Revision, ServiceName},
    inference_service::{InferenceService, Shadow},
    status::{InferenceServiceStatus, ReplicaPhase, RevisionTraffic},
};
use serde::Serialize;

use super::{
    deploy::ask,
    shadow::{self, Agreement},
};
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
}

pub(super) async fn rollout(context: &Context, rollout: Rollout) -> Result<(), Failure> {
    match rollout {
        Rollout::Status(OneService { name }) => status(context, &name).await,
        Rollout::Promote(OneService { name }) => shift(context, &name, None).await,
        Rollout::Abort(OneService { name }) => shift(context, &name, Some(0)).await,
    }
}

async fn status(context: &Context, name: &str) -> Result<(), Failure> {
    let service = context.client.service(name).await?;
    let status = service.status.clone().unwrap_or_default();
    let rolled_out = wait::condition(&status, ConditionKind::RolledOut).cloned();
    let agreement = shadow::agreement(context, &service).await;
    if !context.out.is_for_people() {
        return context.out.value(&Report {
            name: service.metadata.name,
            latest_created_revision: status.latest_created_revision,
            latest_rolledout_revision: status.latest_rolled_out_revision,
            traffic: status.traffic,
            shadow: service.spec.shadow,
            agreement,
            rolled_out,
        });
    }
    let message = rolled_out.map_or_else(|| "nothing is known yet".to_owned(), |condition| condition.message);
    context.out.text(&format!("{name}: {message}"))?;
    if service.spec.shadow.is_some() {
        context.out.text(&format!("{name}: {}", shadow::words(&service, agreement.as_ref())))?;
    }
    context.out.text(&table(&["REVISION", "TRAFFIC", "READY"], rows(&status)))
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
