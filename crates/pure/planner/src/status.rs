//! Says in conditions and sentences how a service stands.

use std::collections::BTreeSet;

use resources::{
    condition::{Condition, ConditionKind, ConditionStatus},
    id::Revision,
    rollout::{RolloutPhase, RolloutStatus, TestStatus},
    status::{ReplicaPhase, ReplicaStatus, ScaleStatus},
};

use crate::{
    history::{History, backoff_ms},
    input::{DesiredRevision, ObservedReplica, Phase},
    judge::{TESTS, e_value, findings, step},
    service::Scope,
};

/// Lines of a log in a condition: what a person reads at a glance. The rest is in the log.
const LOG_LINES_MAX: usize = 5;
/// How the runtime begins the line that says why it gave up.
const VERDICT: &str = "model failed to load: ";

pub(crate) fn conditions(scope: &Scope<'_>) -> Vec<Condition> {
    let Some(newest) = scope.newest() else { return Vec::new() };
    let predictor = predictor_ready(scope, newest);
    let said = scope.ready(newest.revision).next();
    let mut conditions = vec![
        ready(scope, newest, &predictor),
        predictor,
        rolled_out(scope, newest),
        admitted(newest),
        enforced(scope, newest),
        of_replica(ConditionKind::Optimised, said),
        of_replica(ConditionKind::GoldenVerified, said),
        of_replica(ConditionKind::Batched, said),
    ];
    // Nothing is missing where no replica has said this: it is how the model runs, not whether it does.
    conditions.extend(by_replica(ConditionKind::Parallel, said));
    conditions
}

fn condition(kind: ConditionKind, status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { kind, status, reason: reason.to_owned(), message, last_transition_time: None }
}

fn ready(scope: &Scope<'_>, newest: &DesiredRevision, predictor: &Condition) -> Condition {
    let kind = ConditionKind::Ready;
    if scope.service.deleting {
        return condition(kind, ConditionStatus::False, "Deleting", "the service is being deleted".to_owned());
    }
    let number = newest.revision;
    if scope.is_given_up(newest) {
        return ready_without(scope, newest);
    }
    if scope.is_completed(newest) && scope.ready(number).next().is_some() {
        return condition(kind, ConditionStatus::True, "RevisionReady", shares(scope, number));
    }
    if scope.is_idle(newest) && scope.stable().is_none_or(|stable| scope.is_idle(stable)) {
        return Condition { kind, ..predictor.clone() };
    }
    let older = scope.service.revisions.iter().rev().skip(1);
    let serving = older.map(|desired| desired.revision).find(|revision| scope.ready(*revision).next().is_some());
    if let Some(serving) = serving {
        let message =
            format!("revision {serving} answers requests, revision {number} does not yet: {}", predictor.message);
        return condition(kind, ConditionStatus::False, &predictor.reason, message);
    }
    let status = if predictor.status == ConditionStatus::True { ConditionStatus::False } else { predictor.status };
    Condition { kind, status, ..predictor.clone() }
}

/// Whether the service answers although its newest revision was rolled back.
fn ready_without(scope: &Scope<'_>, newest: &DesiredRevision) -> Condition {
    let (kind, number) = (ConditionKind::Ready, newest.revision);
    let answering = scope.service.revisions.iter().rev().map(|desired| desired.revision);
    match answering.into_iter().find(|revision| scope.ready(*revision).next().is_some()) {
        Some(revision) if revision == number => {
            let message = format!("revision {number} was rolled back and answers requests until the one before does");
            condition(kind, ConditionStatus::True, "RolledBack", message)
        }
        Some(revision) => {
            let message = format!("revision {revision} answers requests, revision {number} was rolled back");
            condition(kind, ConditionStatus::True, "RolledBack", message)
        }
        None => {
            let message = format!("revision {number} was rolled back, and no replica of the one before is ready");
            condition(kind, ConditionStatus::False, "RolledBack", message)
        }
    }
}

/// Who answers how many of the requests, in words.
fn shares(scope: &Scope<'_>, newest: Revision) -> String {
    match scope.traffic().as_slice() {
        [one, other] if one.percent == 0 && scope.service.shadow_percent.is_some() => {
            let mirrored = scope.service.shadow_percent.unwrap_or(0);
            format!(
                "revision {newest} is mirrored {mirrored} % of the requests, revision {} answers them",
                other.revision
            )
        }
        [one, other] if one.percent == 0 => {
            format!("revision {newest} is ready and gets no requests, revision {} answers them", other.revision)
        }
        [one] if one.revision != newest => {
            format!("revision {newest} is ready and gets no requests, revision {} is to answer them", one.revision)
        }
        [one, other] => format!(
            "revision {newest} answers {} % of the requests, revision {} the others",
            one.percent, other.revision
        ),
        _ => format!("revision {newest} answers requests"),
    }
}

/// Whether the newest revision gets all the traffic.
fn rolled_out(scope: &Scope<'_>, newest: &DesiredRevision) -> Condition {
    let kind = ConditionKind::RolledOut;
    let number = newest.revision;
    if scope.stable().is_none() && scope.is_promoted(newest) {
        let message = format!("revision {number} gets all requests");
        return condition(kind, ConditionStatus::True, "AllTraffic", message);
    }
    if let Some(judgement) =
        scope.judgement.as_ref().filter(|_| scope.is_completed(newest) || scope.is_given_up(newest))
    {
        let reason = match judgement.phase {
            RolloutPhase::Judging => "Judging",
            RolloutPhase::Paused => "Paused",
            RolloutPhase::Held => "Held",
            RolloutPhase::Promoted => "Promoting",
            RolloutPhase::RolledBack => "RolledBack",
            RolloutPhase::Aborted => "Aborted",
        };
        return condition(kind, ConditionStatus::False, reason, judgement.why.clone());
    }
    if !scope.is_completed(newest) {
        let message = format!("revision {number} gets no requests before it is ready");
        return condition(kind, ConditionStatus::False, "NotReady", message);
    }
    if let Some(mirrored) = scope.service.shadow_percent {
        let message = format!(
            "`shadow` mirrors {mirrored} % of the requests to revision {number}, which answers none: remove it to give revision {number} all"
        );
        return condition(kind, ConditionStatus::False, "Shadow", message);
    }
    let percent = scope.wanted_percent();
    let message = format!(
        "`canaryTrafficPercent` gives revision {number} {percent} % of the requests: remove it, or set it to 100, to give it all"
    );
    condition(kind, ConditionStatus::False, "Canary", message)
}

fn predictor_ready(scope: &Scope<'_>, newest: &DesiredRevision) -> Condition {
    let kind = ConditionKind::PredictorReady;
    let (number, wanted) = (newest.revision, scope.goal(newest));
    let ready = scope.ready(number).count();
    let counted = format!("{ready} of {wanted} replicas of revision {number} are ready");
    if scope.service.deleting {
        return condition(kind, ConditionStatus::False, "Deleting", counted);
    }
    if scope.is_idle(newest) && !scope.is_given_up(newest) {
        let message =
            format!("revision {number} has no replicas while nothing asks for it: the next request starts one");
        return condition(kind, ConditionStatus::True, "ScaledToZero", message);
    }
    if let Some(why) = scope.held_down(newest).filter(|_| !scope.is_given_up(newest)) {
        let message = format!("{ready} of {} replicas of revision {number} are ready: {why}", scope.wanted(newest));
        return condition(kind, ConditionStatus::False, "Evicted", message);
    }
    if scope.is_complete(newest) && !scope.is_given_up(newest) {
        return condition(kind, ConditionStatus::True, "ReplicasReady", counted);
    }
    if scope.is_given_up(newest) {
        let message = format!("revision {number} was rolled back and its replicas are given up");
        return condition(kind, ConditionStatus::False, "RolledBack", message);
    }
    if !newest.bundle_present {
        let message = format!("the model {} is not in the store any more: deploy it again", newest.bundle);
        return condition(kind, ConditionStatus::False, "BundleMissing", message);
    }
    match scope.history(number) {
        Some(history) if history.loops() => {
            let way_back = scope.way_back(newest).map_or(String::new(), |way| format!("; {way}"));
            let message = format!("{counted}{way_back}; {}", crashed(history));
            condition(kind, ConditionStatus::False, "CrashLoopBackOff", message)
        }
        Some(history) if history.streak > 0 => {
            condition(kind, ConditionStatus::False, "ReplicaExited", format!("{counted}; {}", crashed(history)))
        }
        _ => condition(kind, ConditionStatus::False, "Starting", counted),
    }
}

/// How the last replica ended, with the verdict first and then the last lines of its log.
fn crashed(history: &History) -> String {
    let Some((id, exit)) = &history.last else { return String::new() };
    let mut text = format!("{id} ended by itself ({}), failure {} in a row", exit.how, history.streak);
    let wait_s = backoff_ms(history.streak) / 1000;
    if wait_s > 0 {
        text.push_str(&format!("; {wait_s} s between that and the next start"));
    }
    let lines = headline(&exit.log_tail);
    if !lines.is_empty() {
        text.push_str("; its log ended:\n");
        text.push_str(&lines);
    }
    text
}

/// The runtime's verdict when there is one, then the last lines.
fn headline(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let verdict = lines.iter().rev().find(|line| line.starts_with(VERDICT)).copied();
    let rest = lines.iter().copied().filter(|line| Some(*line) != verdict);
    let rest: Vec<&str> = rest.collect();
    let skip = rest.len().saturating_sub(LOG_LINES_MAX - usize::from(verdict.is_some()));
    verdict.into_iter().chain(rest.into_iter().skip(skip)).collect::<Vec<_>>().join("\n")
}

pub(crate) fn waits(history: &History) -> String {
    format!(
        "revision {} starts again {} s after its last replica ended: that was failure {} in a row",
        history.revision,
        backoff_ms(history.streak) / 1000,
        history.streak
    )
}

fn admitted(newest: &DesiredRevision) -> Condition {
    let kind = ConditionKind::ModelAdmitted;
    let (number, bundle) = (newest.revision, &newest.bundle);
    if newest.bundle_present {
        condition(kind, ConditionStatus::True, "Admitted", format!("revision {number} is {bundle}"))
    } else {
        condition(kind, ConditionStatus::False, "BundleMissing", format!("{bundle} is not in the store any more"))
    }
}

/// Every limit and sandbox rule, of the machine and of each replica.
fn enforced(scope: &Scope<'_>, newest: &DesiredRevision) -> Condition {
    let kind = ConditionKind::Enforced;
    let ready: Vec<&ObservedReplica> = scope.ready(newest.revision).collect();
    let mut missing: BTreeSet<&str> = newest.shortfalls.iter().map(String::as_str).collect();
    missing.extend(ready.iter().flat_map(|replica| replica.missing.iter().map(String::as_str)));
    if !missing.is_empty() {
        let missing = missing.into_iter().collect::<Vec<_>>().join("; ");
        return condition(kind, ConditionStatus::False, "NotEverything", format!("not in force: {missing}"));
    }
    if ready.is_empty() {
        return condition(kind, ConditionStatus::Unknown, "NoReplica", "no replica is ready to ask".to_owned());
    }
    let message = "every limit and sandbox rule is in force".to_owned();
    condition(kind, ConditionStatus::True, "AllInForce", message)
}

/// What the first ready replica of the newest revision says.
fn of_replica(kind: ConditionKind, replica: Option<&ObservedReplica>) -> Condition {
    let unknown = || condition(kind, ConditionStatus::Unknown, "NoReplica", "no replica has said so yet".to_owned());
    by_replica(kind, replica).unwrap_or_else(unknown)
}

fn by_replica(kind: ConditionKind, replica: Option<&ObservedReplica>) -> Option<Condition> {
    let said = replica?.conditions.iter().find(|condition| condition.kind == kind)?;
    Some(Condition { last_transition_time: None, ..said.clone() })
}

/// How the newest revision's rollout stands.
pub(crate) fn rollout(scope: &Scope<'_>) -> Option<RolloutStatus> {
    let (rollout, judgement) = (scope.service.rollout.as_ref()?, scope.judgement.as_ref()?);
    let (state, limits) = (&judgement.state, rollout.limits());
    let test = |finding: &crate::judge::Finding| TestStatus {
        name: finding.question.name().to_owned(),
        evidence: e_value(finding.log_e),
        needed: TESTS / limits.false_rollback_rate,
        stable: finding.stable,
        canary: finding.canary,
    };
    let seen = &state.evidence.seen;
    Some(RolloutStatus {
        revision: scope.newest()?.revision,
        stable: scope.predecessor()?.revision,
        phase: judgement.phase,
        step: u32::try_from(step(state, rollout) + 1).unwrap_or(u32::MAX),
        steps: u32::try_from(rollout.steps.len()).unwrap_or(u32::MAX),
        step_requests: state.step_requests,
        requests: seen.canary.answered,
        stable_requests: seen.stable.answered,
        tests: findings(&state.evidence, &limits).iter().map(test).collect(),
        message: judgement.why.clone(),
    })
}

/// How many replicas the newest revision is to have, has ready, and why.
pub(crate) fn scale(scope: &Scope<'_>) -> ScaleStatus {
    let Some(newest) = scope.newest() else { return ScaleStatus::default() };
    let ready = u32::try_from(scope.ready(newest.revision).count()).unwrap_or(u32::MAX);
    let desired = if scope.service.deleting { 0 } else { scope.goal(newest) };
    ScaleStatus { desired, ready, reason: newest.why.clone() }
}

/// Replicas in order of their revision; one that ended by itself and waits for its next start is shown by its last life.
pub(crate) fn replicas(scope: &Scope<'_>) -> Vec<ReplicaStatus> {
    let mut replicas: Vec<ReplicaStatus> =
        scope.replicas.iter().filter_map(|replica| replica_status(scope, replica)).collect();
    for history in &scope.histories {
        let wanted = scope.service.find(history.revision).is_some_and(|desired| {
            let newest = scope.newest().is_some_and(|newest| newest.revision == desired.revision);
            newest && !scope.is_given_up(desired)
                || scope.stable().is_some_and(|stable| stable.revision == desired.revision)
        });
        let waits = scope.active(history.revision).next().is_none() && history.streak > 0;
        if let Some((id, exit)) = &history.last
            && wanted
            && waits
        {
            replicas.push(ReplicaStatus {
                id: id.clone(),
                revision: history.revision,
                phase: ReplicaPhase::CrashLoopBackOff,
                pid: None,
                restarts: history.exits,
                message: exit.how.clone(),
            });
        }
    }
    replicas.sort_by(|a, b| a.revision.cmp(&b.revision).then(a.id.cmp(&b.id)));
    replicas
}

fn replica_status(scope: &Scope<'_>, replica: &ObservedReplica) -> Option<ReplicaStatus> {
    let gone = scope.gone.contains(&replica.id);
    let phase = match &replica.phase {
        Phase::Gone | Phase::Exited(_) => return None,
        Phase::Leaving { .. } | Phase::Stopping { .. } => ReplicaPhase::Draining,
        _ if gone => ReplicaPhase::Draining,
        Phase::Starting { .. } => ReplicaPhase::Starting,
        Phase::Ready { .. } => ReplicaPhase::Ready,
    };
    Some(ReplicaStatus {
        id: replica.id.clone(),
        revision: replica.revision,
        phase,
        pid: replica.pid,
        restarts: restarts(scope, replica.revision),
        message: String::new(),
    })
}

fn restarts(scope: &Scope<'_>, revision: Revision) -> u32 {
    scope.history(revision).map_or(0, |history| history.exits)
}
