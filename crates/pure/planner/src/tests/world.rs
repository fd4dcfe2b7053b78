//! A platform in memory that plans are applied to.

use std::{collections::BTreeMap, path::PathBuf};

use resources::{
    condition::{Condition, ConditionKind, ConditionStatus},
    histogram::Histogram,
    id::{BundleDigest, ReplicaId, Revision, ServiceName},
    scaling::Bounds,
    snapshot::RouteService,
    window::RevisionWindow,
};

use crate::judge::JudgeWindow;
use crate::{
    Action, DesiredRevision, DesiredService, Exit, Input, ObservedReplica, Phase, Plan, Pressure, check, plan,
};

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) input: Input,
    pub(crate) generation: u64,
    pub(crate) routes: Vec<RouteService>,
    started: BTreeMap<String, u64>,
    born: usize,
}

impl World {
    /// Plans, checks and applies.
    pub(crate) fn pass(&mut self) -> Plan {
        let plan = plan(&self.input);
        assert_eq!(check(&self.input, &plan), Vec::<String>::new(), "{:#?}\n{plan:#?}", self.input);
        self.apply(&plan);
        for service in &mut self.input.services {
            service.outputs.clear();
        }
        plan
    }

    fn apply(&mut self, plan: &Plan) {
        if self.routes != plan.routes {
            self.generation += 1;
            self.routes.clone_from(&plan.routes);
        }
        for history in &plan.histories {
            let same =
                |known: &&mut crate::History| known.service == history.service && known.revision == history.revision;
            match self.input.histories.iter_mut().find(same) {
                Some(known) => known.clone_from(history),
                None => self.input.histories.push(history.clone()),
            }
        }
        for action in &plan.actions {
            self.act(action);
        }
        if let (Some(pressure), Some(eviction)) = (&mut self.input.pressure, &plan.evicted) {
            pressure.evicted(eviction, self.input.now_ms);
        }
    }

    fn act(&mut self, action: &Action) {
        let now_ms = self.input.now_ms;
        match action {
            Action::Start { service, revision } => {
                let born = char::from(b'a' + u8::try_from(self.born % 26).unwrap());
                let id = ReplicaId(format!("{service}-{revision}-{born}{}", self.born / 26));
                self.born += 1;
                self.started.insert(id.0.clone(), now_ms);
                self.input.replicas.push(ObservedReplica {
                    socket: PathBuf::from(format!("/run/{id}.sock")),
                    id,
                    service: service.clone(),
                    revision: *revision,
                    pid: None,
                    phase: Phase::Starting { since_ms: now_ms },
                    silent_since_ms: None,
                    busy_ms: 0,
                    conditions: Vec::new(),
                    missing: Vec::new(),
                });
            }
            Action::Leave { replica, .. } => {
                let generation = self.generation;
                self.replica(&replica.0).phase = Phase::Leaving { since_ms: now_ms, generation };
            }
            Action::Stop { replica, .. } => self.replica(&replica.0).phase = Phase::Stopping { since_ms: now_ms },
            Action::Kill { replica, failed, why } => {
                if *failed {
                    self.exit(&replica.0, why, "");
                } else {
                    self.replica(&replica.0).phase = Phase::Gone;
                }
            }
            Action::Forget { replica } => self.input.replicas.retain(|known| &known.id != replica),
            Action::Complete { service, revision } => self.revision(service, *revision).completed = true,
            Action::Rollout { service, revision, state } => {
                self.revision(service, *revision).rollout = Some((**state).clone());
            }
            Action::Promote { service, revision } => {
                let desired = self.revision(service, *revision);
                (desired.promoted, desired.promoted_ms) = (true, Some(now_ms));
            }
            Action::Demote { service, revision } => {
                let desired = self.revision(service, *revision);
                (desired.promoted, desired.promoted_ms) = (false, None);
            }
            Action::Retire { service, revision } => self.revision(service, *revision).completed = false,
            Action::Remove { service } => {
                self.input.services.retain(|known| &known.name != service);
                self.input.histories.retain(|history| &history.service != service);
            }
        }
    }

    fn revision(&mut self, name: &ServiceName, revision: Revision) -> &mut DesiredRevision {
        let service = self.input.services.iter_mut().find(|known| &known.name == name).unwrap();
        service.revisions.iter_mut().find(|known| known.revision == revision).unwrap()
    }

    /// Sets the share of the newest revision of a service.
    pub(crate) fn canary(&mut self, name: &str, percent: Option<u32>) {
        for service in self.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
            service.canary_percent = percent;
        }
    }

    pub(crate) fn service(&mut self, name: &str) -> &mut DesiredService {
        self.input.services.iter_mut().find(|service| service.name.as_str() == name).unwrap()
    }

    /// A person decides over the rollout of a service.
    pub(crate) fn by_hand(&mut self, name: &str) {
        let rollout = self.service(name).rollout.as_mut().unwrap();
        (rollout.auto_promote, rollout.auto_rollback) = (Some(false), Some(false));
    }

    /// A second of a gateway: revision, requests, errors among them, milliseconds of each.
    pub(crate) fn window(&mut self, name: &str, counted: &[(u64, u32, u32, f64)]) {
        let end_ms = self.input.now_ms;
        let window = |(revision, answered, errors, ms): &(u64, u32, u32, f64)| {
            let mut service = Histogram::default();
            (0..*answered).for_each(|_| service.record(*ms));
            let latency = service.clone();
            RevisionWindow {
                revision: Revision(*revision),
                answered: *answered,
                errors: *errors,
                busy_ms: 0,
                latency,
                service,
            }
        };
        let revisions = counted.iter().map(window).collect();
        self.service(name).windows.push(JudgeWindow { end_ms, revisions });
    }

    /// The controller starts anew: what is kept goes through its text, windows are gone.
    pub(crate) fn restart(&mut self) {
        for service in &mut self.input.services {
            service.windows.clear();
            for state in service.revisions.iter_mut().filter_map(|desired| desired.rollout.as_mut()) {
                *state = serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap();
            }
        }
    }

    /// Sets how much is mirrored to the newest revision of a service.
    pub(crate) fn shadow(&mut self, name: &str, percent: Option<u32>) {
        for service in self.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
            service.shadow_percent = percent;
            service.rollout = service.rollout.take().filter(|_| percent.is_none());
        }
    }

    /// Sets the bounds of a service.
    pub(crate) fn bounds(&mut self, name: &str, min: u32, max: u32) {
        for service in self.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
            service.bounds = Bounds { min, max };
            for desired in &mut service.revisions {
                desired.replicas = service.bounds.clamp(desired.replicas);
            }
        }
    }

    /// Sets how many replicas the newest revision of a service is to have, and why.
    pub(crate) fn scale(&mut self, name: &str, replicas: u32, why: &str) {
        for service in self.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
            if let Some(newest) = service.revisions.last_mut() {
                newest.replicas = replicas;
                why.clone_into(&mut newest.why);
            }
        }
    }

    /// So many percent of the memory are available.
    pub(crate) fn pressure(&mut self, percent: u64) {
        let before = self.input.pressure.take();
        let (available, total) = ((percent << 30) / 5, 20 << 30);
        self.input.pressure = Some(Pressure::seen(before.as_ref(), available, total, self.input.now_ms));
    }

    /// Sets how many requests wait for a service.
    pub(crate) fn held(&mut self, name: &str, held: u32) {
        for service in self.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
            service.held = held;
        }
    }

    pub(crate) fn replica(&mut self, id: &str) -> &mut ObservedReplica {
        let found = self.input.replicas.iter_mut().find(|replica| replica.id.0 == id);
        found.unwrap_or_else(|| panic!("no replica {id}"))
    }

    /// A new service, or a new revision of one.
    pub(crate) fn deploy(&mut self, name: &str, min_replicas: u32) {
        let name = ServiceName::parse(name).unwrap();
        let known = self.input.services.iter().position(|service| service.name == name);
        let at = known.unwrap_or_else(|| {
            self.input.services.push(DesiredService {
                name,
                revisions: Vec::new(),
                priority: 0,
                deleting: false,
                canary_percent: None,
                shadow_percent: None,
                sticky: None,
                rollout: None,
                windows: Vec::new(),
                outputs: Vec::new(),
                bounds: Bounds { min: min_replicas, max: min_replicas.max(1) },
                held: 0,
            });
            self.input.services.len() - 1
        });
        let service = &mut self.input.services[at];
        let Bounds { min, max } = service.bounds;
        service.bounds = Bounds { min: min.min(min_replicas), max: max.max(min_replicas) };
        let revision = Revision(service.revisions.last().map_or(1, |last| last.revision.0 + 1));
        service.revisions.push(DesiredRevision {
            revision,
            bundle: BundleDigest(format!("sha256:{revision}")),
            bundle_present: true,
            replicas: min_replicas,
            why: String::new(),
            timeout_ms: 60_000,
            container_concurrency: None,
            shortfalls: Vec::new(),
            completed: false,
            promoted: false,
            promoted_ms: None,
            rollout: None,
            wish: None,
        });
    }

    pub(crate) fn ready(&mut self, id: &str) {
        let since_ms = self.input.now_ms;
        let replica = self.replica(id);
        replica.phase = Phase::Ready { since_ms };
        let message = "the model runs with every optimisation".to_owned();
        let (kind, status, reason) = (ConditionKind::Optimised, ConditionStatus::True, "AllOptimisations".to_owned());
        replica.conditions = vec![Condition { kind, status, reason, message, last_transition_time: None }];
    }

    pub(crate) fn exit(&mut self, id: &str, how: &str, log: &str) {
        let at_ms = self.input.now_ms;
        let replica = self.replica(id);
        let ready_for_ms = if let Phase::Ready { since_ms } = replica.phase { Some(at_ms - since_ms) } else { None };
        let started_ms = self.started.get(id).copied().unwrap_or(0);
        let replica = self.replica(id);
        let exit = Exit { started_ms, at_ms, how: how.to_owned(), ready_for_ms, log_tail: log.to_owned() };
        let asked = matches!(replica.phase, Phase::Stopping { .. } | Phase::Leaving { .. });
        replica.phase = if asked { Phase::Gone } else { Phase::Exited(exit) };
    }
}
