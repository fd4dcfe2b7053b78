//! Says in conditions how a service stands.

use resources::condition::{Condition, ConditionKind, ConditionStatus};

use crate::{
    input::{DesiredRevision, DesiredService, Failures, Input, Phase},
    service::is_complete,
};

pub(crate) fn conditions(input: &Input, service: &DesiredService) -> Vec<Condition> {
    let Some(newest) = service.newest() else { return Vec::new() };
    let predictor = predictor_ready(input, service, newest);
    let mut conditions = vec![ready(input, service, newest, &predictor), predictor, admitted(newest)];
    let said = input
        .replicas_of(&service.name)
        .find(|replica| replica.revision == newest.revision && replica.phase == Phase::Ready);
    conditions.extend(said.into_iter().flat_map(|replica| replica.conditions.iter().cloned()));
    conditions
}

fn condition(kind: ConditionKind, status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { kind, status, reason: reason.to_owned(), message, last_transition_time: None }
}

fn admitted(newest: &DesiredRevision) -> Condition {
    let message = format!("revision {} is {}", newest.revision, newest.bundle);
    condition(ConditionKind::ModelAdmitted, ConditionStatus::True, "Admitted", message)
}

fn ready(input: &Input, service: &DesiredService, newest: &DesiredRevision, predictor: &Condition) -> Condition {
    let kind = ConditionKind::Ready;
    if service.deleting {
        return condition(kind, ConditionStatus::False, "Deleting", "the service is being deleted".to_owned());
    }
    if predictor.status == ConditionStatus::True {
        let message = format!("revision {} answers requests", newest.revision);
        return condition(kind, ConditionStatus::True, "RevisionReady", message);
    }
    if let Some(stable) = service.stable().filter(|stable| input.ready(&service.name, stable.revision) > 0) {
        let message = format!(
            "revision {} answers requests; revision {} does not: {}",
            stable.revision, newest.revision, predictor.message
        );
        return condition(kind, ConditionStatus::False, "PreviousRevisionServes", message);
    }
    Condition { kind, ..predictor.clone() }
}

fn predictor_ready(input: &Input, service: &DesiredService, newest: &DesiredRevision) -> Condition {
    let kind = ConditionKind::PredictorReady;
    let ready = input.ready(&service.name, newest.revision);
    if is_complete(input, &service.name, newest) {
        let message = format!("{ready} of {} replicas of revision {} are ready", newest.min_replicas, newest.revision);
        return condition(kind, ConditionStatus::True, "ReplicasReady", message);
    }
    match input.failures_of(&service.name, newest.revision) {
        Some(failures) if failures.count > 1 => {
            condition(kind, ConditionStatus::False, "CrashLoopBackOff", crash_message(failures))
        }
        _ => {
            let message =
                format!("{ready} of {} replicas of revision {} are ready", newest.min_replicas, newest.revision);
            condition(kind, ConditionStatus::Unknown, "Starting", message)
        }
    }
}

fn crash_message(failures: &Failures) -> String {
    format!(
        "replicas of revision {} ended by themselves {} times in a row: {}",
        failures.revision, failures.count, failures.message
    )
}
