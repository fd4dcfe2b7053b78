//! What a pass has to write down: statuses that changed, and what happened in words. Pure.

use planner::{
    Action, Plan, ServicePlan,
    judge::{RolloutState, Verdict},
};
use resources::{
    condition::{Condition, ConditionKind},
    event::Severity,
    id::{ReplicaId, Revision, ServiceName},
    manifest::kserve,
    status::{InferenceServiceStatus, RevisionTraffic},
};

use crate::{
    db::{ProcessId, ReplicaRow, ServiceRow, status_of},
    observe::Observation,
    orchestrator::{Life, Seen, logs},
    scaler::Change,
};

/// The condition's reason that is an event of its own.
const CRASH_LOOP: &str = "CrashLoopBackOff";

/// What a pass has to write down.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) adopted: Vec<(ReplicaId, ProcessId)>,
    pub(super) ready: Vec<(ReplicaId, u64)>,
    pub(super) statuses: Vec<(ServiceName, InferenceServiceStatus)>,
    pub(super) events: Vec<Said>,
    /// Whether the plan itself has something to keep.
    decided: bool,
}

/// An event to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) severity: Severity,
    pub(super) service: String,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        let Self { adopted, ready, statuses, events, decided } = self;
        adopted.is_empty() && ready.is_empty() && statuses.is_empty() && events.is_empty() && !decided
    }

    fn say(&mut self, severity: Severity, service: &ServiceName, reason: &'static str, message: String) {
        self.events.push(Said { severity, service: service.to_string(), reason, message });
    }
}

pub(super) fn news(observation: &Observation, plan: &Plan, url: &str) -> News {
    let keeps = |action: &Action| match action {
        Action::Forget { .. } | Action::Complete { .. } | Action::Promote { .. } | Action::Demote { .. } => true,
        Action::Retire { .. } | Action::Rollout { .. } | Action::Remove { .. } => true,
        Action::Start { .. } | Action::Leave { .. } | Action::Stop { .. } | Action::Kill { .. } => false,
    };
    let decided = !plan.histories.is_empty() || plan.actions.iter().any(keeps);
    let mut news = News { decided, ..News::default() };
    for (row, seen) in observation.replicas.iter().zip(&observation.seen) {
        seen_now(&mut news, row, seen, observation.now_ms);
    }
    for change in &observation.scale.changes {
        scaled_now(&mut news, change);
    }
    if let Some(eviction) = &plan.evicted {
        let message = format!("{}: {}", eviction.replica, eviction.why);
        news.say(Severity::Warning, &eviction.service, "Evicted", message);
    }
    for action in &plan.actions {
        decided_now(&mut news, observation, action);
    }
    for service in &observation.services {
        let planned = plan.services.iter().find(|planned| &planned.name == service.name());
        let removed = plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Remove { service: name } if name == service.name()));
        if let Some(planned) = planned.filter(|_| !removed) {
            status_now(&mut news, observation, service, planned, url);
        }
    }
    news
}

fn seen_now(news: &mut News, row: &ReplicaRow, seen: &Seen, now_ms: u64) {
    let id = &row.id;
    match &seen.life {
        Life::Running { process, adopted } => {
            if *adopted {
                let message = format!("{id}, process {}, started by an earlier controller", process.pid);
                news.say(Severity::Normal, &row.service, "ReplicaAdopted", message);
                news.adopted.push((id.clone(), *process));
            }
            let ready = seen.answer.as_ref().is_some_and(|answer| answer.ready);
            if ready && row.ready_ms.is_none() && row.stopping_ms.is_none() && row.leaving.is_none() {
                let message = format!("{id} of revision {} answers requests", row.revision);
                news.say(Severity::Normal, &row.service, "ReplicaReady", message);
                news.ready.push((id.clone(), now_ms));
            }
        }
        Life::Ended { how, log_tail, .. } => {
            let asked = row.stopping_ms.is_some() || row.leaving.is_some();
            if asked {
                news.say(Severity::Normal, &row.service, "ReplicaStopped", format!("{id}: {} ({how})", row.why));
            } else {
                let mut message = format!("{id} ended by itself: {how}");
                // What a process says last when it gives up is a sentence of its own, not a line of its log.
                if let Some(last) = log_tail.lines().last().filter(|last| last.contains(": ") && !logs::is_record(last))
                {
                    message.push_str(": ");
                    message.push_str(last);
                }
                news.say(Severity::Warning, &row.service, "ReplicaExited", message);
            }
        }
        Life::Lost => {
            let message = format!("{id} was gone when the controller came back");
            news.say(Severity::Warning, &row.service, "ReplicaExited", message);
        }
    }
}

fn scaled_now(news: &mut News, change: &Change) {
    let Change { service, revision, from, to, why } = change;
    let reason = if to > from { "ScaledUp" } else { "ScaledDown" };
    let message = format!("revision {revision} goes from {from} to {to} replicas: {why}");
    news.say(Severity::Normal, service, reason, message);
}

fn decided_now(news: &mut News, observation: &Observation, action: &Action) {
    let service_of =
        |id: &ReplicaId| observation.replicas.iter().find(|row| &row.id == id).map(|row| row.service.clone());
    match action {
        Action::Kill { replica, why, .. } => {
            if let Some(service) = service_of(replica) {
                news.say(Severity::Warning, &service, "ReplicaKilled", format!("{replica}: {why}"));
            }
        }
        Action::Leave { replica, why } => {
            if let Some(service) = service_of(replica) {
                news.say(Severity::Normal, &service, "ReplicaDraining", format!("{replica}: {why}"));
            }
        }
        Action::Complete { service, revision } => {
            let message = format!("revision {revision} has all its replicas ready");
            news.say(Severity::Normal, service, "RevisionReady", message);
        }
        Action::Promote { service, revision } => {
            let message = format!("revision {revision} gets all requests");
            news.say(Severity::Normal, service, "RevisionRolledOut", message);
        }
        Action::Rollout { service, revision, state } => {
            let row = observation.revisions.iter().find(|row| &row.service == service && row.revision == *revision);
            rollout_now(news, service, *revision, (row.and_then(|row| row.rollout.as_ref()), state));
        }
        Action::Remove { service } => {
            news.say(Severity::Normal, service, "Deleted", "its replicas have stopped and it is gone".to_owned());
        }
        Action::Start { .. } | Action::Stop { .. } | Action::Forget { .. } | Action::Retire { .. } => {}
        // How its rollout stands says it.
        Action::Demote { .. } => {}
    }
}

/// Says that a rollout has begun, gone on by a step, or ended.
fn rollout_now(
    news: &mut News,
    service: &ServiceName,
    revision: Revision,
    (before, after): (Option<&RolloutState>, &RolloutState),
) {
    let verdict = before.and_then(|before| before.verdict.as_ref());
    let (severity, reason, message) = match &after.verdict {
        Some(now) if verdict != Some(now) => match now {
            Verdict::Promoted { why } => {
                (Severity::Normal, "RolloutPromoted", format!("revision {revision} is promoted: {why}"))
            }
            Verdict::RolledBack { why } => {
                (Severity::Warning, "RolledBack", format!("revision {revision} was rolled back: {why}"))
            }
            Verdict::Aborted => {
                (Severity::Normal, "RolloutAborted", format!("a person has aborted revision {revision}"))
            }
        },
        Some(_) => return,
        None => match before {
            None => (Severity::Normal, "RolloutStarted", format!("revision {revision} is judged step by step")),
            Some(before) if before.step != after.step => {
                let message = format!("revision {revision} goes on to step {}: no harm was found", after.step + 1);
                (Severity::Normal, "RolloutStep", message)
            }
            Some(_) => return,
        },
    };
    news.say(severity, service, reason, message);
}

/// Says that the shares are others than before, where more than one revision has been there.
fn traffic_now(news: &mut News, name: &ServiceName, before: &[RevisionTraffic], after: &[RevisionTraffic]) {
    if before == after || before.len().max(after.len()) < 2 {
        return;
    }
    let shares: Vec<String> =
        after.iter().map(|share| format!("{} % to revision {}", share.percent, share.revision)).collect();
    let message = if shares.is_empty() { "no revision answers".to_owned() } else { shares.join(", ") };
    news.say(Severity::Normal, name, "TrafficShifted", message);
}

fn status_now(news: &mut News, observation: &Observation, service: &ServiceRow, planned: &ServicePlan, url: &str) {
    let before = status_of(&service.object);
    // Whatever is planned, the manifest asked for it.
    let mut conditions = planned.conditions.clone();
    conditions.extend(kserve::condition(&service.object.metadata.annotations));
    let newest = observation.revisions.iter().rev().find(|revision| &revision.service == service.name());
    let after = InferenceServiceStatus {
        observed_generation: service.generation(),
        url: Some(format!("{url}/v2/models/{}", service.name())),
        conditions: merge(&before.conditions, &conditions, observation.now_ms),
        latest_ready_revision: planned.latest_ready,
        latest_created_revision: newest.map(|revision| revision.revision),
        latest_rolled_out_revision: planned.latest_rolled_out,
        traffic: planned.traffic.clone(),
        rollout: planned.rollout.clone(),
        bundle: newest.map(|revision| revision.bundle.clone()),
        scale: Some(planned.scale.clone()),
        replicas: planned.replicas.clone(),
        plan: planned.report.clone(),
    };
    if after == before {
        return;
    }
    traffic_now(news, service.name(), &before.traffic, &after.traffic);
    let looping = |status: &InferenceServiceStatus| {
        let predictor = status.conditions.iter().find(|condition| condition.kind == ConditionKind::PredictorReady);
        predictor.filter(|condition| condition.reason == CRASH_LOOP).map(|condition| condition.message.clone())
    };
    if let Some(message) = looping(&after).filter(|_| looping(&before).is_none()) {
        news.say(Severity::Warning, service.name(), CRASH_LOOP, message);
    }
    news.statuses.push((service.name().clone(), after));
}

/// The new conditions, each with the time at which its status last changed.
fn merge(before: &[Condition], after: &[Condition], now_ms: u64) -> Vec<Condition> {
    let merged = after.iter().map(|condition| {
        let known = before.iter().find(|known| known.kind == condition.kind && known.status == condition.status);
        let since = known.and_then(|known| known.last_transition_time.clone());
        let last_transition_time = Some(since.unwrap_or_else(|| daemon::time::rfc3339(now_ms)));
        Condition { last_transition_time, ..condition.clone() }
    });
    merged.collect()
}

#[cfg(test)]
mod tests {
    use resources::condition::ConditionStatus;

    use super::*;

    fn condition(status: ConditionStatus, message: &str) -> Condition {
        let (kind, reason) = (ConditionKind::Ready, "R".to_owned());
        Condition { kind, status, reason, message: message.to_owned(), last_transition_time: None }
    }

    #[test]
    fn the_transition_time_changes_with_the_status_alone() {
        let first = merge(&[], &[condition(ConditionStatus::False, "a")], 1_000);
        assert_eq!(first[0].last_transition_time.as_deref(), Some("1970-01-01T00:00:01.000Z"));
        let second = merge(&first, &[condition(ConditionStatus::False, "b")], 2_000);
        assert_eq!(second[0].message, "b");
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        let third = merge(&second, &[condition(ConditionStatus::True, "b")], 3_000);
        assert_eq!(third[0].last_transition_time.as_deref(), Some("1970-01-01T00:00:03.000Z"));
    }
}
