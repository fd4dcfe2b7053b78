//! The invariants of every plan, checked before it is applied.

use std::collections::{BTreeMap, BTreeSet};

use resources::{
    id::{ReplicaId, Revision, ServiceName},
    snapshot::RouteService,
    status::RevisionTraffic,
};

use crate::{
    fall_back::TOOK_OVER_MS,
    index::Index,
    input::{DesiredRevision, DesiredService, Input, ObservedReplica, Phase},
    judge::{RolloutState, Verdict},
    output::{Action, Plan},
    pressure::may_go,
    service::{LEAVE_MS_MAX, SILENT_MS_MAX, count, is_stuck, processes_max},
    traffic::wanted_percent,
};

/// Says which invariants `plan` breaks; empty for a good plan.
pub fn check(input: &Input, plan: &Plan) -> Vec<String> {
    let mut checker = Checker::new(input, plan);
    checker.ids_are_unique();
    checker.acts_once_on_what_is_there();
    checker.starts_what_is_wanted();
    checker.keeps_within_bounds();
    checker.routes_all_that_answers_and_nothing_else();
    checker.shares_out_all_the_traffic();
    checker.rolls_out_step_by_step();
    checker.falls_back_only_from_what_does_not_stay();
    checker.mirrors_only_to_what_answers_nobody();
    checker.stops_only_what_gets_no_requests();
    checker.never_takes_the_last_one();
    checker.evicts_the_least_important();
    checker.keeps_the_old_until_the_new_is_complete();
    checker.bounds_processes();
    checker.removes_only_what_is_gone();
    checker.broken
}

struct Checker<'a> {
    input: &'a Input,
    plan: &'a Plan,
    replicas: Index<'a>,
    by_id: BTreeMap<&'a ReplicaId, &'a ObservedReplica>,
    services: BTreeMap<&'a ServiceName, &'a DesiredService>,
    routes: BTreeMap<&'a ServiceName, &'a RouteService>,
    acts: Acts<'a>,
    broken: Vec<String>,
}

/// The actions of a plan by what they are about.
#[derive(Default)]
struct Acts<'a> {
    /// Replicas that leave, stop or are killed.
    taken: BTreeSet<&'a ReplicaId>,
    leaving: BTreeSet<&'a ReplicaId>,
    started: BTreeMap<(&'a ServiceName, Revision), usize>,
    completed: BTreeSet<(&'a ServiceName, Revision)>,
    retired: BTreeSet<(&'a ServiceName, Revision)>,
    demoted: BTreeSet<(&'a ServiceName, Revision)>,
    rollouts: BTreeMap<&'a ServiceName, &'a RolloutState>,
}

impl<'a> Acts<'a> {
    fn of(plan: &'a Plan) -> Self {
        let mut acts = Self::default();
        for action in &plan.actions {
            match action {
                Action::Leave { replica, .. } => {
                    acts.leaving.insert(replica);
                    acts.taken.insert(replica);
                }
                Action::Stop { replica, .. } | Action::Kill { replica, .. } => drop(acts.taken.insert(replica)),
                Action::Start { service, revision } => *acts.started.entry((service, *revision)).or_default() += 1,
                Action::Complete { service, revision } => drop(acts.completed.insert((service, *revision))),
                Action::Retire { service, revision } => drop(acts.retired.insert((service, *revision))),
                Action::Demote { service, revision } => drop(acts.demoted.insert((service, *revision))),
                Action::Rollout { service, state, .. } => drop(acts.rollouts.insert(service, state.as_ref())),
                Action::Forget { .. } | Action::Promote { .. } | Action::Remove { .. } => {}
            }
        }
        acts
    }

    /// Replicas of a revision that are started.
    fn starts(&self, service: &ServiceName, revision: Revision) -> usize {
        self.started.get(&(service, revision)).copied().unwrap_or_default()
    }
}

impl<'a> Checker<'a> {
    fn new(input: &'a Input, plan: &'a Plan) -> Self {
        Self {
            input,
            plan,
            replicas: Index::new(input),
            by_id: input.replicas.iter().map(|replica| (&replica.id, replica)).collect(),
            services: input.services.iter().map(|service| (&service.name, service)).collect(),
            routes: plan.routes.iter().map(|route| (&route.name, route)).collect(),
            acts: Acts::of(plan),
            broken: Vec::new(),
        }
    }

    fn say(&mut self, what: String) {
        self.broken.push(what);
    }

    fn find(&self, id: &ReplicaId) -> Option<&'a ObservedReplica> {
        self.by_id.get(id).copied()
    }

    fn desired(&self, replica: &ObservedReplica) -> Option<&'a DesiredService> {
        self.services.get(&replica.service).copied()
    }

    fn route(&self, service: &DesiredService) -> Option<&'a RouteService> {
        self.routes.get(&service.name).copied()
    }

    /// Replicas of a service that are ready and stay.
    fn staying(&self, service: &DesiredService) -> impl Iterator<Item = &'a ObservedReplica> {
        let replicas = self.replicas.replicas(&service.name).iter().copied();
        replicas.filter(|replica| replica.is_ready() && !self.acts.taken.contains(&replica.id))
    }

    fn ids_are_unique(&mut self) {
        let mut ids = BTreeSet::new();
        for replica in &self.input.replicas {
            if !ids.insert(&replica.id) {
                self.say(format!("two replicas are called {}", replica.id));
            }
        }
        for pair in self.plan.routes.windows(2) {
            if let [before, after] = pair
                && before.name >= after.name
            {
                self.say(format!("the routes of {} and {} are out of order", before.name, after.name));
            }
        }
    }

    fn acts_once_on_what_is_there(&mut self) {
        let mut seen = BTreeSet::new();
        for action in &self.plan.actions {
            let Some(id) = action.replica() else { continue };
            if !seen.insert(id) {
                self.say(format!("{id} is acted on twice"));
            }
            let Some(replica) = self.find(id) else {
                self.say(format!("{id} is acted on and not there"));
                continue;
            };
            if matches!(action, Action::Forget { .. }) == replica.is_alive() {
                self.say(format!("{id} is forgotten while it lives, or acted on after its end"));
            }
        }
    }

    fn starts_what_is_wanted(&mut self) {
        for action in &self.plan.actions {
            let Action::Start { service, revision } = action else { continue };
            let desired = self.services.get(service);
            let wanted = desired.filter(|desired| !desired.deleting).and_then(|desired| desired.find(*revision));
            if !wanted.is_some_and(|desired| desired.bundle_present && (desired.replicas > 0 || !desired.completed)) {
                self.say(format!("revision {revision} of {service} is started and not wanted"));
            }
        }
    }

    /// No revision that is kept is asked to have fewer or more replicas than the service may have, none where something waits.
    fn keeps_within_bounds(&mut self) {
        for service in self.input.services.iter().filter(|service| !service.deleting) {
            let (name, bounds) = (&service.name, service.bounds);
            for desired in &service.revisions {
                let (revision, replicas) = (desired.revision, desired.replicas);
                if bounds.clamp(replicas) != replicas {
                    self.say(format!("revision {revision} of {name} is to have {replicas} replicas, out of bounds"));
                }
                let mine = self.replicas.replicas(name).iter().filter(|replica| replica.revision == revision);
                let staying = mine.filter(|replica| replica.is_active() && !self.acts.taken.contains(&replica.id));
                let (started, there) = (self.acts.starts(name, revision), staying.count());
                if started > 0 && started + there > count(bounds.max) {
                    self.say(format!("revision {revision} of {name} would have {} replicas", started + there));
                }
            }
            let newest = service.revisions.last().filter(|newest| newest.replicas == 0);
            if newest.is_some() && service.held > 0 && service.revisions.iter().all(|desired| desired.replicas == 0) {
                self.say(format!("{} requests wait for {name}, which is to have no replicas", service.held));
            }
        }
    }

    fn routes_all_that_answers_and_nothing_else(&mut self) {
        for service in &self.input.services {
            let Some(route) = self.route(service) else {
                if !service.deleting && !service.revisions.is_empty() {
                    self.say(format!("{} has no route", service.name));
                }
                continue;
            };
            if service.deleting {
                self.say(format!("{} is being deleted and has a route", service.name));
            }
            if route.default_revision.is_none_or(|default| !route.revisions.iter().any(|each| each.revision == default))
            {
                self.say(format!("the default revision of {} is not among its revisions", service.name));
            }
            let routed: BTreeMap<&ReplicaId, Revision> = route
                .revisions
                .iter()
                .flat_map(|each| each.endpoints.iter().map(move |endpoint| (&endpoint.replica, each.revision)))
                .collect();
            let staying: BTreeMap<&ReplicaId, Revision> =
                self.staying(service).map(|replica| (&replica.id, replica.revision)).collect();
            for (id, revision) in &routed {
                if staying.get(id) != Some(revision) {
                    self.say(format!("{id} is routed as revision {revision} and does not answer as that"));
                }
            }
            let left_out: Vec<String> = staying
                .iter()
                .filter(|(id, revision)| !routed.contains_key(*id) && self.is_completed(service, **revision))
                .map(|(id, _)| format!("{id} answers and is not routed"))
                .collect();
            self.broken.extend(left_out);
            // One that is to get nothing answers nobody: requests wait for the other.
            if routed.is_empty() && !staying.is_empty() && self.wanted(service) != 0 {
                self.say(format!("replicas of {} answer and none is routed", service.name));
            }
        }
    }

    /// Whether a revision has been complete, after this plan.
    fn is_completed(&self, service: &DesiredService, number: Revision) -> bool {
        let this = (&service.name, number);
        let before = service.find(number).is_some_and(|desired| desired.completed);
        (before || self.acts.completed.contains(&this)) && !self.acts.retired.contains(&this)
    }

    /// How the rollout of the newest revision stands after this plan.
    fn rollout(&self, service: &'a DesiredService) -> Option<&'a RolloutState> {
        let before = || service.revisions.last().and_then(|newest| newest.rollout.as_ref());
        self.acts.rollouts.get(&service.name).copied().or_else(before)
    }

    fn wanted(&self, service: &'a DesiredService) -> u32 {
        let promoted = service.revisions.last().is_some_and(|newest| self.is_promoted(service, newest));
        wanted_percent(service, self.rollout(service), promoted)
    }

    /// Whether a revision had all the traffic, and this plan does not take it back.
    fn is_promoted(&self, service: &DesiredService, desired: &DesiredRevision) -> bool {
        desired.promoted && !self.acts.demoted.contains(&(&service.name, desired.revision))
    }

    /// All requests are taken back from a revision that had them only soon after, for good, where none of its replicas answers and
    /// one before it, which had them too, can be started.
    fn falls_back_only_from_what_does_not_stay(&mut self) {
        for (name, revision) in self.acts.demoted.clone() {
            let sound = self.services.get(name).is_some_and(|service| {
                let mut newest_first = service.revisions.iter().rev();
                let newest = newest_first.next().filter(|newest| newest.revision == revision && newest.promoted);
                let soon = newest
                    .and_then(|newest| newest.promoted_ms)
                    .is_some_and(|since_ms| self.input.now_ms <= since_ms + TOOK_OVER_MS);
                let before = newest_first.find(|desired| desired.promoted).is_some_and(|before| before.bundle_present);
                let verdict = self.acts.rollouts.get(name).and_then(|state| state.verdict.as_ref());
                let may = service.rollout.as_ref().is_some_and(resources::rollout::Rollout::rolls_back)
                    && matches!(verdict, Some(Verdict::RolledBack { .. }));
                soon && before && may && !self.staying(service).any(|replica| replica.revision == revision)
            });
            if !sound {
                self.say(format!("revision {revision} of {name} is taken all requests from without need"));
            }
        }
    }

    /// What was rolled back is neither started nor promoted, and no step is left out.
    fn rolls_out_step_by_step(&mut self) {
        for service in self.input.services.iter().filter(|service| service.rollout.is_some()) {
            let Some(newest) = service.revisions.last() else { continue };
            let state = self.rollout(service);
            let back = matches!(state.and_then(|state| state.verdict.as_ref()), Some(Verdict::RolledBack { .. }));
            let acts = |action: &&Action| match action {
                Action::Start { service: name, revision } | Action::Promote { service: name, revision } => {
                    name == &service.name && *revision == newest.revision
                }
                _ => false,
            };
            let judged = service.revisions.iter().rev().skip(1).any(|desired| desired.promoted)
                && !self.is_promoted(service, newest);
            if back && judged && self.plan.actions.iter().any(|action| acts(&action)) {
                self.say(format!("revision {} of {} was rolled back and goes on", newest.revision, service.name));
            }
            let (before, after) =
                (newest.rollout.as_ref().map_or(0, |state| state.step), state.map_or(0, |state| state.step));
            if after > before + 1 || after < before {
                self.say(format!("the rollout of {} goes from step {before} to {after}", service.name));
            }
        }
    }

    /// A split gives out 100 percent, to revisions that have been complete and answer, and to no more than two.
    fn shares_out_all_the_traffic(&mut self) {
        for service in &self.input.services {
            let Some(route) = self.route(service).filter(|route| !route.split.is_empty()) else { continue };
            let (name, sum) = (&service.name, route.split.iter().map(|share| share.percent).sum::<u32>());
            if sum != 100 || route.split.len() > 2 {
                self.say(format!("{} shares of {name} give out {sum} percent", route.split.len()));
            }
            for share in &route.split {
                let answers = route
                    .revisions
                    .iter()
                    .any(|routed| routed.revision == share.revision && !routed.endpoints.is_empty());
                let eligible = service.revisions.last().is_some_and(|newest| newest.revision == share.revision)
                    || service.find(share.revision).is_some_and(|desired| desired.promoted);
                if !answers || !eligible || !self.is_completed(service, share.revision) {
                    self.say(format!("revision {} of {name} gets a share and cannot answer", share.revision));
                }
            }
            if Some(self.wanted(service)) != route.split.first().map(|newest| newest.percent) {
                self.say(format!("the newest revision of {name} does not get the share that is asked for"));
            }
        }
    }

    /// Copies of requests go to the newest revision alone, as many as asked for, and while it answers nobody and another one does.
    fn mirrors_only_to_what_answers_nobody(&mut self) {
        for service in &self.input.services {
            let Some((route, shadow)) = self.route(service).and_then(|route| Some((route, route.shadow?))) else {
                continue;
            };
            let newest = service.revisions.last().is_some_and(|newest| newest.revision == shadow.revision);
            let share = |share: &RevisionTraffic| (share.revision == shadow.revision) == (share.percent == 0);
            let aside = route.split.len() == 2 && route.split.iter().all(share);
            if !newest || !aside || service.shadow_percent != Some(shadow.percent) {
                let (name, revision) = (&service.name, shadow.revision);
                self.say(format!("revision {revision} of {name} is mirrored requests and may not be"));
            }
        }
    }

    fn stops_only_what_gets_no_requests(&mut self) {
        for action in &self.plan.actions {
            let Action::Stop { replica: id, .. } = action else { continue };
            let Some(replica) = self.find(id) else { continue };
            let stray = self.desired(replica).is_none();
            let allowed = match replica.phase {
                Phase::Leaving { since_ms, generation } => {
                    self.input.gateway_acknowledged >= generation || self.input.now_ms >= since_ms + LEAVE_MS_MAX
                }
                Phase::Starting { .. } => true,
                _ => stray,
            };
            if !allowed && !stray {
                self.say(format!("{id} is stopped while a gateway may send it requests"));
            }
        }
    }

    fn never_takes_the_last_one(&mut self) {
        for service in self.input.services.iter().filter(|service| !service.deleting) {
            let ready = self.replicas.replicas(&service.name).iter().filter(|replica| replica.is_ready());
            let hung = |replica: &&&ObservedReplica| {
                replica.silent_since_ms.is_some_and(|since_ms| self.input.now_ms >= since_ms + SILENT_MS_MAX)
                    || is_stuck(service, replica)
            };
            let answering = ready.clone().filter(|replica| !hung(replica)).count();
            let idle = service.bounds.min == 0 && service.held == 0;
            let serves_none =
                |newest: &DesiredRevision| self.is_completed(service, newest.revision) && newest.replicas == 0;
            // What answers is to have no replicas, or it is replaced by what is to have none.
            let mut revisions = ready.clone().filter_map(|replica| service.find(replica.revision));
            let none =
                service.revisions.last().is_some_and(serves_none) || revisions.all(|desired| desired.replicas == 0);
            let evicted = self.plan.evicted.as_ref().is_some_and(|eviction| eviction.service == service.name);
            let wanted = !(idle && none || evicted);
            if wanted && answering > 0 && self.staying(service).next().is_none() {
                self.say(format!("every replica of {} that answers would leave", service.name));
            }
        }
    }

    /// Replicas that a revision may have at most, before this plan.
    fn at_most(&self, service: &DesiredService, revision: Revision) -> Option<u32> {
        self.input.pressure.as_ref()?.at_most.get(&(service.name.clone(), revision)).copied()
    }

    fn is_evicted(&self, id: &ReplicaId) -> bool {
        self.plan.evicted.as_ref().is_some_and(|eviction| &eviction.replica == id)
    }

    /// When memory is short, and not too soon after the last time, one replica goes: none of a less important service could, and
    /// it is the last one of its revision only where a more important service has any. No revision starts more than it may have.
    fn evicts_the_least_important(&mut self) {
        for service in &self.input.services {
            for desired in &service.revisions {
                let started = self.acts.starts(&service.name, desired.revision);
                let mine = self.replicas.replicas(&service.name).iter().filter(|one| one.revision == desired.revision);
                let staying = mine.filter(|one| one.is_active() && !self.acts.taken.contains(&one.id)).count();
                let most = self.at_most(service, desired.revision).map_or(usize::MAX, count);
                if started > 0 && started + staying > most {
                    self.say(format!(
                        "revision {} of {} is started beyond what memory has room for",
                        desired.revision, service.name
                    ));
                }
            }
        }
        let Some(eviction) = &self.plan.evicted else { return };
        let evicts = self.input.pressure.as_ref().is_some_and(|pressure| pressure.evicts(self.input.now_ms));
        let victim = self.find(&eviction.replica).filter(|victim| victim.is_active());
        let Some((victim, service)) =
            victim.and_then(|victim| Some((victim, self.desired(victim)?))).filter(|_| evicts)
        else {
            return self.say(format!("{} is evicted without need", eviction.replica));
        };
        let index = &self.replicas;
        let less = self.input.services.iter().filter(|other| other.priority < service.priority && !other.deleting);
        let mut could = less.flat_map(|other| index.replicas(&other.name).iter().map(move |replica| (other, replica)));
        let passed_over =
            could.any(|(other, replica)| replica.is_active() && may_go(self.input, index, other, replica));
        if passed_over || !may_go(self.input, index, service, victim) || !self.acts.taken.contains(&victim.id) {
            self.say(format!("{} is evicted before its turn", eviction.replica));
        }
    }

    fn keeps_the_old_until_the_new_is_complete(&mut self) {
        for service in self.input.services.iter().filter(|service| !service.deleting) {
            let shares = self.wanted(service) < 100;
            let Some(newest) = service.revisions.last().filter(|newest| shares || !newest.promoted) else { continue };
            // One that has been complete may go on with fewer; one that shares does not replace the other.
            let replaces = self.is_completed(service, newest.revision) && !shares;
            let complete = replaces
                || !shares
                    && self.staying(service).filter(|replica| replica.revision == newest.revision).count()
                        >= count(newest.replicas.max(1));
            let fallback = service.revisions.iter().rev().skip(1).find(|desired| desired.promoted);
            let Some(fallback) = fallback.filter(|_| !complete) else { continue };
            let staying = self.staying(service).filter(|replica| replica.revision == fallback.revision).count();
            let leaving = self.replicas.replicas(&service.name).iter().any(|replica| {
                replica.revision == fallback.revision
                    && self.acts.leaving.contains(&replica.id)
                    && !self.is_evicted(&replica.id)
                    && !is_stuck(service, replica)
            });
            let most = self.at_most(service, fallback.revision).unwrap_or(u32::MAX);
            if leaving && staying < count(fallback.replicas.min(most)) {
                self.say(format!(
                    "revision {} of {} is given up before revision {} is complete",
                    fallback.revision, service.name, newest.revision
                ));
            }
        }
    }

    fn bounds_processes(&mut self) {
        for service in &self.input.services {
            let starts = service.revisions.iter().map(|desired| self.acts.starts(&service.name, desired.revision));
            let started: usize = starts.sum();
            let replicas = self.replicas.replicas(&service.name);
            let total = started + replicas.iter().filter(|replica| replica.is_alive()).count();
            let bound = processes_max(service, replicas);
            if started > 0 && total > bound {
                self.say(format!("{} would have {total} processes, more than {bound}", service.name));
            }
        }
    }

    fn removes_only_what_is_gone(&mut self) {
        for action in &self.plan.actions {
            let Action::Remove { service: name } = action else { continue };
            let deleting = self.services.get(name).is_some_and(|service| service.deleting);
            let left = self.replicas.replicas(name).iter().any(|replica| replica.is_alive());
            if !deleting || left {
                self.say(format!("{name} is removed while it is wanted or has replicas"));
            }
        }
    }
}
