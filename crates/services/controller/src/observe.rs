//! From rows and what was seen to the planner's input: pure.

use std::collections::{BTreeMap, BTreeSet};

use planner::{
    DesiredRevision, DesiredService, Exit, Input, Machine, ObservedReplica, Phase, Pressure, allowance,
    judge::{JudgeWindow, OutputWindow},
};
use resources::{id::ServiceName, inference_service::TIMEOUT_SECONDS_DEFAULT, scaling::Bounds};

use crate::{
    db::{ReplicaRow, RevisionRow, ServiceRow},
    orchestrator::{Life, Seen},
    scaler::{Scale, Wanted},
};

/// Everything a pass has looked at.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) now_ms: u64,
    pub(crate) services: Vec<ServiceRow>,
    pub(crate) revisions: Vec<RevisionRow>,
    pub(crate) replicas: Vec<ReplicaRow>,
    /// What was seen of each replica, in their order.
    pub(crate) seen: Vec<Seen>,
    /// Digests of the bundles that are in the store.
    pub(crate) bundles: BTreeSet<String>,
    pub(crate) machine: Machine,
    pub(crate) gateway_acknowledged: u64,
    /// How much memory there is.
    pub(crate) pressure: Option<Pressure>,
    /// What the gateway counted in the last minutes, by service, oldest first.
    pub(crate) windows: BTreeMap<ServiceName, Vec<JudgeWindow>>,
    /// What replicas counted of their answers since the last pass, by service.
    pub(crate) outputs: BTreeMap<ServiceName, Vec<OutputWindow>>,
    /// How many replicas are wanted by the load.
    pub(crate) scale: Scale,
}

impl Observation {
    pub(crate) fn input(&self) -> Input {
        let replicas = self.replicas.iter().zip(&self.seen);
        Input {
            now_ms: self.now_ms,
            services: self.services.iter().map(|service| self.desired(service)).collect(),
            replicas: replicas.map(|(row, seen)| observed(row, seen, self.now_ms)).collect(),
            histories: self.revisions.iter().map(|revision| revision.history.clone()).collect(),
            gateway_acknowledged: self.gateway_acknowledged,
            pressure: self.pressure.clone(),
        }
    }

    fn desired(&self, service: &ServiceRow) -> DesiredService {
        let revisions = self.revisions.iter().filter(|revision| &revision.service == service.name());
        DesiredService {
            name: service.name().clone(),
            revisions: revisions.map(|revision| self.desired_revision(service, revision)).collect(),
            deleting: service.deleting,
            priority: service.object.spec.placement.and_then(|placement| placement.priority).unwrap_or(0),
            canary_percent: service.object.spec.predictor.canary_traffic_percent,
            rollout: service.object.spec.rollout.clone(),
            windows: self.windows.get(service.name()).cloned().unwrap_or_default(),
            outputs: self.outputs.get(service.name()).cloned().unwrap_or_default(),
            shadow_percent: service.object.spec.shadow.map(|shadow| shadow.percent),
            bounds: Bounds::of(&service.object.spec),
            held: self.scale.held.get(service.name()).copied().unwrap_or(0),
            sticky: service.object.spec.traffic.as_ref().and_then(|traffic| traffic.sticky.clone()),
        }
    }

    fn desired_revision(&self, service: &ServiceRow, row: &RevisionRow) -> DesiredRevision {
        let predictor = &row.predictor;
        // The API admitted the quantities; a database from elsewhere that holds others says so in the condition.
        let shortfalls = match allowance(predictor.model.resources.as_ref(), &self.machine) {
            Ok(allowance) => allowance.shortfalls,
            Err(error) => vec![error.to_string()],
        };
        let wanted = self.scale.wanted.get(&(row.service.clone(), row.revision)).cloned();
        let least = || Wanted { replicas: Bounds::of(&service.object.spec).min, why: String::new() };
        let Wanted { replicas, why } = wanted.unwrap_or_else(least);
        DesiredRevision {
            revision: row.revision,
            bundle: row.bundle.clone(),
            bundle_present: self.bundles.contains(&row.bundle.0),
            replicas,
            why,
            timeout_ms: predictor.timeout.unwrap_or(TIMEOUT_SECONDS_DEFAULT).saturating_mul(1000),
            container_concurrency: predictor.container_concurrency,
            shortfalls,
            completed: row.completed,
            promoted: row.promoted,
            promoted_ms: row.promoted_ms,
            rollout: row.rollout.clone(),
            wish: row.wish,
        }
    }
}

fn observed(row: &ReplicaRow, seen: &Seen, now_ms: u64) -> ObservedReplica {
    let answer = seen.answer.clone().unwrap_or_default();
    ObservedReplica {
        id: row.id.clone(),
        service: row.service.clone(),
        revision: row.revision,
        socket: row.socket.clone(),
        pid: match &seen.life {
            Life::Running { process, .. } => Some(process.pid),
            _ => None,
        },
        phase: phase(row, seen, now_ms),
        silent_since_ms: seen.silent_since_ms,
        conditions: answer.conditions,
        missing: answer.missing,
        busy_ms: answer.busy_ms.unwrap_or_default(),
    }
}

pub(crate) fn phase(row: &ReplicaRow, seen: &Seen, now_ms: u64) -> Phase {
    match &seen.life {
        Life::Lost => return Phase::Gone,
        Life::Ended { at_ms, how, log_tail } => return ended(row, *at_ms, how, log_tail),
        Life::Running { .. } => {}
    }
    if let Some(since_ms) = row.stopping_ms {
        return Phase::Stopping { since_ms };
    }
    if let Some((since_ms, generation)) = row.leaving {
        return Phase::Leaving { since_ms, generation };
    }
    let says_ready = seen.answer.as_ref().map(|answer| answer.ready);
    match (row.ready_ms, says_ready) {
        (ready_ms, Some(true)) => Phase::Ready { since_ms: ready_ms.unwrap_or(now_ms) },
        // Silence alone takes nobody out of the routes: a busy machine is silent at times, and one that restarts has not asked yet.
        (Some(since_ms), None) => Phase::Ready { since_ms },
        (Some(_), Some(false)) => Phase::Starting { since_ms: seen.unready_since_ms.unwrap_or(now_ms) },
        (None, _) => Phase::Starting { since_ms: row.created_ms },
    }
}

fn ended(row: &ReplicaRow, at_ms: u64, how: &str, log_tail: &str) -> Phase {
    let asked = row.stopping_ms.is_some() || row.leaving.is_some();
    if asked && !row.failed {
        return Phase::Gone;
    }
    let how = if row.failed { row.why.clone() } else { how.to_owned() };
    let ready_for_ms = row.ready_ms.map(|ready_ms| at_ms.saturating_sub(ready_ms));
    Phase::Exited(Exit { started_ms: row.created_ms, at_ms, how, ready_for_ms, log_tail: log_tail.to_owned() })
}

#[cfg(test)]
mod tests {
    use resources::id::{ReplicaId, Revision, ServiceName};

    use super::*;
    use crate::{db::ProcessId, orchestrator::Answer};

    fn row() -> ReplicaRow {
        ReplicaRow {
            id: ReplicaId("spam-1-x".to_owned()),
            service: ServiceName::parse("spam").unwrap(),
            revision: Revision(1),
            socket: "/run/r-x.sock".into(),
            created_ms: 100,
            process: None,
            ready_ms: None,
            leaving: None,
            stopping_ms: None,
            failed: false,
            why: String::new(),
        }
    }

    fn running(ready: Option<bool>) -> Seen {
        let process = ProcessId { pid: 7, born: 1 };
        let answer = ready.map(|ready| Answer { ready, ..Answer::default() });
        Seen { life: Life::Running { process, adopted: false }, answer, ..Seen::default() }
    }

    fn ended_seen() -> Seen {
        let life = Life::Ended { at_ms: 900, how: "exit code 3".to_owned(), log_tail: "bye".to_owned() };
        Seen { life, ..Seen::default() }
    }

    #[test]
    fn a_replica_is_ready_from_its_first_yes_until_it_says_no() {
        let ready = ReplicaRow { ready_ms: Some(300), ..row() };
        assert_eq!(phase(&row(), &running(None), 500), Phase::Starting { since_ms: 100 });
        assert_eq!(phase(&row(), &running(Some(false)), 500), Phase::Starting { since_ms: 100 });
        assert_eq!(phase(&row(), &running(Some(true)), 500), Phase::Ready { since_ms: 500 });
        assert_eq!(phase(&ready, &running(Some(true)), 500), Phase::Ready { since_ms: 300 });
        assert_eq!(phase(&ready, &running(None), 500), Phase::Ready { since_ms: 300 });
        let unready = Seen { unready_since_ms: Some(450), ..running(Some(false)) };
        assert_eq!(phase(&ready, &unready, 500), Phase::Starting { since_ms: 450 });
    }

    #[test]
    fn an_end_counts_unless_it_was_asked_for() {
        let ready = ReplicaRow { ready_ms: Some(300), ..row() };
        let Phase::Exited(exit) = phase(&ready, &ended_seen(), 1000) else { panic!("it ended by itself") };
        assert_eq!((exit.at_ms, exit.how.as_str(), exit.ready_for_ms), (900, "exit code 3", Some(600)));
        let stopped = ReplicaRow { stopping_ms: Some(800), ..ready.clone() };
        assert_eq!(phase(&stopped, &ended_seen(), 1000), Phase::Gone);
        let killed = ReplicaRow { failed: true, why: "it hung".to_owned(), ..stopped };
        let Phase::Exited(exit) = phase(&killed, &ended_seen(), 1000) else { panic!("it failed") };
        assert_eq!(exit.how, "it hung");
        assert_eq!(phase(&ready, &Seen::default(), 1000), Phase::Gone);
    }
}
