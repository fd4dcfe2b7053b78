//! Decides the replicas of one service.

use resources::id::{ReplicaId, ServiceName};

use crate::{
    backoff::backoff_ms,
    input::{DesiredRevision, DesiredService, Input, ObservedReplica, Phase},
    output::{Action, Plan, Report, ServicePlan},
    status,
};

/// Longest time from start to ready: a large model on a cold disk.
pub(crate) const START_MS_MAX: u64 = 300_000;
/// Longest wait for the gateway to acknowledge that a replica has left the routes. A gateway that is away cannot send it
/// requests either.
pub(crate) const LEAVE_MS_MAX: u64 = 5_000;
/// Time beyond a request's own time-out that a stopping replica gets.
const STOP_MS_SPARE: u64 = 5_000;
/// Longest time for a stopping replica.
pub(crate) const STOP_MS_MAX: u64 = 60_000;

pub(crate) fn plan_service(input: &Input, service: &DesiredService, plan: &mut Plan) {
    let mut report = Report::new();
    end_of_life(input, service, plan, &mut report);
    match service.newest() {
        Some(newest) if !service.deleting => {
            keep(input, service, newest, (plan, &mut report));
            if let Some(stable) = service.stable() {
                keep_stable(input, service, newest, stable, (plan, &mut report));
            }
            retire(input, service, newest, plan, &mut report);
        }
        _ => remove(input, service, plan, &mut report),
    }
    let ready_revision = service
        .newest()
        .filter(|newest| !service.deleting && is_complete(input, &service.name, newest))
        .map(|newest| newest.revision);
    let conditions = status::conditions(input, service);
    plan.services.push(ServicePlan { name: service.name.clone(), conditions, ready_revision, report });
}

/// Replicas whose service is gone: left over from a crash.
pub(crate) fn plan_strays(input: &Input, plan: &mut Plan) {
    let known = |replica: &&ObservedReplica| !input.services.iter().any(|service| service.name == replica.service);
    for replica in input.replicas.iter().filter(known) {
        let why = "its service is gone";
        match replica.phase {
            Phase::Exited { .. } => plan.actions.push(Action::Forget { replica: replica.id.clone() }),
            Phase::Stopping { since_ms } if input.now_ms >= since_ms + STOP_MS_MAX => kill(plan, replica, why),
            Phase::Stopping { since_ms } => plan.wake_at(since_ms + STOP_MS_MAX),
            _ => plan.actions.push(Action::Stop { replica: replica.id.clone(), why: why.to_owned() }),
        }
    }
}

/// What happens to replicas whatever their revision: the dead are forgotten, the leaving stop, the stuck are killed.
fn end_of_life(input: &Input, service: &DesiredService, plan: &mut Plan, report: &mut Report) {
    for replica in input.replicas_of(&service.name) {
        match &replica.phase {
            Phase::Exited { .. } => plan.actions.push(Action::Forget { replica: replica.id.clone() }),
            Phase::Leaving { since_ms, generation } => {
                let acknowledged = input.gateway_acknowledged >= *generation;
                if acknowledged || input.now_ms >= since_ms + LEAVE_MS_MAX {
                    let why = if acknowledged {
                        "no gateway sends it requests"
                    } else {
                        "the gateway did not answer in time"
                    };
                    plan.actions.push(Action::Stop { replica: replica.id.clone(), why: why.to_owned() });
                    report.push(format!("stopping {}: {why}", replica.id));
                } else {
                    plan.wake_at(since_ms + LEAVE_MS_MAX);
                    report.push(format!("waiting for the gateway to take {} out of its routes", replica.id));
                }
            }
            Phase::Stopping { since_ms } => {
                let limit = since_ms + stop_ms(service, replica);
                if input.now_ms >= limit {
                    kill(plan, replica, "it did not stop in its grace period");
                } else {
                    plan.wake_at(limit);
                    report.push(format!("waiting for {} to finish its requests", replica.id));
                }
            }
            Phase::Starting { since_ms } if input.now_ms >= since_ms + START_MS_MAX => {
                kill(plan, replica, "it was not ready in time");
                report.push(format!("killing {}: not ready after {} s", replica.id, START_MS_MAX / 1000));
            }
            Phase::Starting { since_ms } => plan.wake_at(since_ms + START_MS_MAX),
            Phase::Ready => {}
        }
    }
}

fn stop_ms(service: &DesiredService, replica: &ObservedReplica) -> u64 {
    let of_replica = |revision: &&DesiredRevision| revision.revision == replica.revision;
    let timeout_ms = service.revisions.iter().find(of_replica).map_or(0, |revision| revision.timeout_ms);
    (timeout_ms + STOP_MS_SPARE).min(STOP_MS_MAX)
}

fn kill(plan: &mut Plan, replica: &ObservedReplica, why: &str) {
    plan.actions.push(Action::Kill { replica: replica.id.clone(), why: why.to_owned() });
}

/// Replicas of `revision` that live or will: starting or ready.
fn live<'a>(input: &'a Input, service: &ServiceName, revision: &DesiredRevision) -> Vec<&'a ObservedReplica> {
    let wanted = |replica: &&ObservedReplica| {
        let started_late =
            matches!(replica.phase, Phase::Starting { since_ms } if input.now_ms >= since_ms + START_MS_MAX);
        replica.revision == revision.revision
            && matches!(replica.phase, Phase::Starting { .. } | Phase::Ready)
            && !started_late
    };
    input.replicas_of(service).filter(wanted).collect()
}

pub(crate) fn is_complete(input: &Input, service: &ServiceName, revision: &DesiredRevision) -> bool {
    input.ready(service, revision.revision) >= count(revision.min_replicas)
}

/// Keeps `revision` at its number of replicas.
fn keep(input: &Input, service: &DesiredService, revision: &DesiredRevision, (plan, report): (&mut Plan, &mut Report)) {
    let live = live(input, &service.name, revision);
    let wanted = count(revision.min_replicas);
    let starting = live.iter().filter(|replica| replica.phase != Phase::Ready).count();
    if live.len() > wanted {
        let why = format!("{} replicas are wanted", revision.min_replicas);
        for id in excess(&live, live.len() - wanted) {
            leave(plan, report, &id, &why);
        }
    } else if live.len() < wanted {
        start(input, service, revision, wanted - live.len(), (plan, report));
    }
    if starting > 0 {
        report.push(format!(
            "waiting for {starting} of {wanted} replicas of revision {} to become ready",
            revision.revision
        ));
    }
}

/// The replicas to give up first: those that are not ready yet, then the ones with the greatest id.
fn excess(live: &[&ObservedReplica], number: usize) -> Vec<ReplicaId> {
    let mut order: Vec<_> = live.iter().map(|replica| (replica.phase == Phase::Ready, &replica.id)).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(a.1)));
    order.into_iter().take(number).map(|(_, id)| id.clone()).collect()
}

fn start(
    input: &Input,
    service: &DesiredService,
    revision: &DesiredRevision,
    missing: usize,
    (plan, report): (&mut Plan, &mut Report),
) {
    let number = revision.revision;
    if let Some(failures) = input.failures_of(&service.name, number) {
        let next_ms = failures.last_ms.saturating_add(backoff_ms(failures.count));
        if input.now_ms < next_ms {
            plan.wake_at(next_ms);
            let wait_s = (next_ms - input.now_ms).div_ceil(1000);
            report.push(format!(
                "waiting {wait_s} s before starting revision {number} again: it ended by itself {} times in a row",
                failures.count
            ));
            return;
        }
    }
    for _ in 0..missing {
        plan.actions.push(Action::Start { service: service.name.clone(), revision: number });
    }
    report.push(format!("starting {missing} replicas of revision {number}: {} are wanted", revision.min_replicas));
}

/// While the newest revision is not complete, the stable one is kept as it was.
fn keep_stable(
    input: &Input,
    service: &DesiredService,
    newest: &DesiredRevision,
    stable: &DesiredRevision,
    (plan, report): (&mut Plan, &mut Report),
) {
    if is_complete(input, &service.name, newest) {
        return;
    }
    report.push(format!("revision {} serves until revision {} is ready", stable.revision, newest.revision));
    keep(input, service, stable, (plan, report));
}

/// Revisions that are neither the newest nor the stable one that still serves go.
fn retire(input: &Input, service: &DesiredService, newest: &DesiredRevision, plan: &mut Plan, report: &mut Report) {
    let complete = is_complete(input, &service.name, newest);
    let stable = service.stable().filter(|_| !complete).map(|revision| revision.revision);
    for replica in input.replicas_of(&service.name) {
        let kept = replica.revision == newest.revision || Some(replica.revision) == stable;
        if !kept && matches!(replica.phase, Phase::Starting { .. } | Phase::Ready) {
            leave(plan, report, &replica.id, &format!("revision {} took over", newest.revision));
        }
    }
}

fn remove(input: &Input, service: &DesiredService, plan: &mut Plan, report: &mut Report) {
    let mut left = 0;
    for replica in input.replicas_of(&service.name) {
        left += 1;
        if matches!(replica.phase, Phase::Starting { .. } | Phase::Ready) {
            leave(plan, report, &replica.id, "its service is being deleted");
        }
    }
    if left == 0 {
        plan.actions.push(Action::Remove { service: service.name.clone() });
    } else {
        report.push(format!("deleting: waiting for {left} replicas to stop"));
    }
}

fn leave(plan: &mut Plan, report: &mut Report, replica: &ReplicaId, why: &str) {
    plan.actions.push(Action::Leave { replica: replica.clone(), why: why.to_owned() });
    report.push(format!("taking {replica} out of the routes: {why}"));
}

fn count(replicas: u32) -> usize {
    usize::try_from(replicas).unwrap_or(usize::MAX)
}
