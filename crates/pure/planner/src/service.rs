//! Decides the replicas of one service.

use std::collections::BTreeSet;

use resources::id::{ReplicaId, Revision, ServiceName};

use crate::{
    history::{Exit, HEALTHY_MS, History},
    index::Index,
    input::{DesiredRevision, DesiredService, Input, ObservedReplica, Phase},
    judge::Judgement,
    output::{Action, Plan, ServicePlan},
    routes, status, traffic,
};

/// Longest time from start to ready: a large model on a cold disk.
pub(crate) const START_MS_MAX: u64 = 300_000;
/// Longest silence of a ready replica. A busy one answers late; one that hangs never does.
pub(crate) const SILENT_MS_MAX: u64 = 60_000;
/// How much longer than a request may take a run may, before its replica counts as stuck: whoever asked has long gone.
pub(crate) const STUCK_MS: u64 = 10_000;
/// Longest wait for the gateway to say that a replica has left its routes. A gateway that is away sends it no requests either.
pub(crate) const LEAVE_MS_MAX: u64 = 10_000;
/// Longest time for a stopping replica: the runtime's own grace and a little.
pub(crate) const STOP_MS_MAX: u64 = 35_000;
/// How soon to look again at a replica that starts: a twentieth of the time that it has taken, so that a small model is found
/// ready at once and a large one is not asked in vain a thousand times.
const START_LOOK_MS_MIN: u64 = 5;
const START_LOOK_MS_MAX: u64 = 100;

/// One service while it is planned.
pub(crate) struct Scope<'a> {
    pub(crate) input: &'a Input,
    pub(crate) service: &'a DesiredService,
    pub(crate) replicas: Vec<&'a ObservedReplica>,
    pub(crate) histories: Vec<History>,
    /// Replicas that this plan takes away; they serve no more.
    pub(crate) gone: BTreeSet<&'a ReplicaId>,
    /// Revisions that this plan finds complete for the first time since they were started.
    pub(crate) completed_now: BTreeSet<Revision>,
    /// Revisions whose replicas this plan gives up.
    pub(crate) retired_now: BTreeSet<Revision>,
    /// The revision that this plan evicts a replica of, and how many it may have from now on.
    pub(crate) capped_now: Option<(Revision, u32)>,
    /// Processes that this plan starts.
    started: usize,
    /// Whether this plan gives the newest revision all the traffic for the first time.
    pub(crate) promoted_now: bool,
    /// Whether this plan takes all the traffic from the newest revision, which had it.
    pub(crate) demoted_now: bool,
    /// How the newest revision's rollout stands after this plan, if there is one.
    pub(crate) judgement: Option<Judgement>,
    report: Vec<String>,
}

/// Plans one service. Beside what is known there is the replica that is to go because memory is short.
pub(crate) fn plan_service<'a>(
    (input, index, victim): (&'a Input, &Index<'a>, Option<&'a ObservedReplica>),
    service: &'a DesiredService,
    plan: &mut Plan,
) {
    let mut scope = Scope::new(input, index, service);
    scope.bury(plan);
    scope.forgive();
    scope.expire(plan);
    scope.evict(victim, plan);
    match service.revisions.last() {
        Some(newest) if !service.deleting => scope.roll_out(newest, plan),
        _ => scope.remove(plan),
    }
    if !service.deleting {
        plan.routes.extend(routes::route(&scope));
    }
    let conditions = status::conditions(&scope);
    let rollout = status::rollout(&scope);
    let (replicas, scale) = (status::replicas(&scope), status::scale(&scope));
    let (latest_ready, latest_rolled_out) = (scope.latest_completed(), scope.latest_promoted());
    let traffic = if service.deleting { Vec::new() } else { scope.traffic() };
    let Scope { histories, report, .. } = scope;
    let known = index.histories(&service.name);
    plan.histories.extend(histories.into_iter().filter(|history| !known.contains(&history)));
    let name = service.name.clone();
    plan.services.push(ServicePlan {
        name,
        conditions,
        latest_ready,
        latest_rolled_out,
        traffic,
        rollout,
        scale,
        replicas,
        report,
    });
}

/// Replicas whose service is gone: left over from a crash.
pub(crate) fn plan_strays(input: &Input, plan: &mut Plan) {
    let services: BTreeSet<&ServiceName> = input.services.iter().map(|service| &service.name).collect();
    let stray = |replica: &&ObservedReplica| !services.contains(&replica.service);
    for replica in input.replicas.iter().filter(stray) {
        let (id, why) = (replica.id.clone(), "its service is gone".to_owned());
        match replica.phase {
            Phase::Gone | Phase::Exited(_) => plan.actions.push(Action::Forget { replica: id }),
            Phase::Stopping { since_ms } if input.now_ms >= since_ms + STOP_MS_MAX => {
                plan.actions.push(Action::Kill { replica: id, why, failed: false });
            }
            Phase::Stopping { since_ms } => plan.wake_at(since_ms + STOP_MS_MAX),
            _ => plan.actions.push(Action::Stop { replica: id, why }),
        }
    }
}

impl<'a> Scope<'a> {
    fn new(input: &'a Input, index: &Index<'a>, service: &'a DesiredService) -> Self {
        let replicas = index.replicas(&service.name).to_vec();
        let histories = index.histories(&service.name).iter().copied().cloned().collect();
        Self {
            input,
            service,
            replicas,
            histories,
            gone: BTreeSet::new(),
            completed_now: BTreeSet::new(),
            retired_now: BTreeSet::new(),
            capped_now: None,
            started: 0,
            promoted_now: false,
            demoted_now: false,
            judgement: None,
            report: Vec::new(),
        }
    }

    pub(crate) fn newest(&self) -> Option<&'a DesiredRevision> {
        self.service.revisions.last()
    }

    pub(crate) fn history(&self, revision: Revision) -> Option<&History> {
        self.histories.iter().find(|history| history.revision == revision)
    }

    /// Replicas of a revision that serve or are on their way to, after this plan.
    pub(crate) fn active(&self, revision: Revision) -> impl Iterator<Item = &'a ObservedReplica> {
        let mine = move |replica: &&&ObservedReplica| replica.revision == revision && replica.is_active();
        self.replicas.iter().filter(mine).filter(|replica| !self.gone.contains(&replica.id)).copied()
    }

    pub(crate) fn ready(&self, revision: Revision) -> impl Iterator<Item = &'a ObservedReplica> {
        self.active(revision).filter(|replica| replica.is_ready())
    }

    pub(crate) fn is_complete(&self, desired: &DesiredRevision) -> bool {
        let goal = self.goal(desired);
        // One that may have none because memory is short is not complete for that.
        (goal > 0 || desired.replicas == 0) && self.ready(desired.revision).count() >= count(goal)
    }

    /// Replicas that a revision is to have and may have.
    pub(crate) fn goal(&self, desired: &DesiredRevision) -> u32 {
        self.wanted(desired).min(self.at_most(desired.revision).unwrap_or(u32::MAX))
    }

    /// Replicas that a revision is to have. One that is not complete has to show that it starts; it begins with its share of as many
    /// as the other one has, the one that it replaces or is to be shifted back from, so that it can take over what that one answers.
    pub(crate) fn wanted(&self, desired: &DesiredRevision) -> u32 {
        if self.is_completed(desired) {
            return desired.replicas;
        }
        let is_newest = self.newest().is_some_and(|newest| newest.revision == desired.revision);
        let percent = self.wanted_percent();
        let (other, percent) =
            if is_newest { (self.predecessor(), percent) } else { (self.newest(), traffic::ALL - percent) };
        let share = other.map_or(0, |other| other.replicas.saturating_mul(percent).div_ceil(traffic::ALL));
        desired.replicas.max(share.min(self.service.bounds.max)).max(1)
    }

    /// Whether a revision that has been complete has no replicas because nothing asks for it.
    pub(crate) fn is_idle(&self, desired: &DesiredRevision) -> bool {
        self.is_completed(desired) && desired.replicas == 0 && self.active(desired.revision).next().is_none()
    }

    pub(crate) fn is_promoted(&self, desired: &DesiredRevision) -> bool {
        let newest = self.newest().is_some_and(|newest| newest.revision == desired.revision);
        self.has_had_all(desired) || (newest && self.promoted_now)
    }

    pub(crate) fn latest_promoted(&self) -> Option<Revision> {
        self.service.revisions.iter().rev().find(|desired| self.is_promoted(desired)).map(|desired| desired.revision)
    }

    pub(crate) fn latest_completed(&self) -> Option<Revision> {
        self.service.revisions.iter().rev().find(|desired| self.is_completed(desired)).map(|desired| desired.revision)
    }

    pub(crate) fn say(&mut self, sentence: String) {
        self.report.push(sentence);
    }

    /// Forgets processes that have ended; the ends that nobody asked for count.
    fn bury(&mut self, plan: &mut Plan) {
        for replica in self.replicas.clone() {
            match &replica.phase {
                Phase::Gone => {}
                Phase::Exited(exit) => {
                    self.count_exit(replica, exit);
                    self.report.push(format!("{} ended by itself: {}", replica.id, exit.how));
                }
                _ => continue,
            }
            plan.actions.push(Action::Forget { replica: replica.id.clone() });
        }
    }

    fn count_exit(&mut self, replica: &ObservedReplica, exit: &Exit) {
        if let Some(history) = self.histories.iter_mut().find(|history| history.revision == replica.revision) {
            history.count(&replica.id, exit);
            return;
        }
        let mut history = History::new(self.service.name.clone(), replica.revision);
        history.count(&replica.id, exit);
        self.histories.push(history);
    }

    /// A revision whose replicas have all been healthy for long starts again from no failures.
    fn forgive(&mut self) {
        for desired in &self.service.revisions {
            let healthy = |replica: &&ObservedReplica| match replica.phase {
                Phase::Ready { since_ms } => self.input.now_ms >= since_ms + HEALTHY_MS,
                _ => false,
            };
            let all = self.active(desired.revision).filter(healthy).count() >= count(self.goal(desired).max(1));
            if all {
                for history in self.histories.iter_mut().filter(|history| history.revision == desired.revision) {
                    history.streak = 0;
                }
            }
        }
    }

    /// Ends what has had its time, whatever its revision.
    fn expire(&mut self, plan: &mut Plan) {
        for replica in self.replicas.clone() {
            let now_ms = self.input.now_ms;
            match replica.phase {
                Phase::Starting { since_ms } if now_ms >= since_ms + START_MS_MAX => {
                    self.kill(replica, &format!("it was not ready after {} s", START_MS_MAX / 1000), true, plan);
                }
                Phase::Starting { since_ms } => {
                    let look_ms = (now_ms.saturating_sub(since_ms) / 20).clamp(START_LOOK_MS_MIN, START_LOOK_MS_MAX);
                    plan.wake_at((now_ms + look_ms).min(since_ms + START_MS_MAX));
                }
                Phase::Ready { .. } => match replica.silent_since_ms {
                    Some(since_ms) if now_ms >= since_ms + SILENT_MS_MAX => {
                        self.kill(replica, &format!("it did not answer for {} s", SILENT_MS_MAX / 1000), true, plan);
                    }
                    Some(since_ms) => plan.wake_at(since_ms + SILENT_MS_MAX),
                    None if is_stuck(self.service, replica) => {
                        let why = format!("it has been at one run for {} s", replica.busy_ms / 1000);
                        self.leave(replica, &why, plan);
                    }
                    None => {}
                },
                Phase::Leaving { since_ms, generation } => self.let_go(replica, since_ms, generation, plan),
                Phase::Stopping { since_ms } if now_ms >= since_ms + STOP_MS_MAX => {
                    self.kill(replica, &format!("it did not stop within {} s", STOP_MS_MAX / 1000), false, plan);
                }
                Phase::Stopping { since_ms } => {
                    plan.wake_at(since_ms + STOP_MS_MAX);
                    self.report.push(format!("waiting for {} to stop", replica.id));
                }
                Phase::Gone | Phase::Exited(_) => {}
            }
        }
    }

    /// A replica that has left the routes stops once no gateway sends it requests.
    fn let_go(&mut self, replica: &'a ObservedReplica, since_ms: u64, generation: u64, plan: &mut Plan) {
        if self.input.gateway_acknowledged >= generation {
            self.stop(replica, "the gateway sends it no more requests", plan);
        } else if self.input.now_ms >= since_ms + LEAVE_MS_MAX {
            self.stop(replica, "the gateway did not answer in time", plan);
        } else {
            plan.wake_at(since_ms + LEAVE_MS_MAX);
            self.report.push(format!("waiting for the gateway to take {} out of its routes", replica.id));
        }
    }

    fn roll_out(&mut self, newest: &'a DesiredRevision, plan: &mut Plan) {
        self.settle_traffic(newest, plan);
        let stable = self.stable();
        self.retire(newest, stable, plan);
        self.say_traffic(newest);
        if let Some(stable) = stable {
            if !self.is_completed(newest) && !self.is_given_up(newest) {
                self.report.push(format!(
                    "revision {} serves until revision {} is ready with {}",
                    stable.revision,
                    newest.revision,
                    replicas(count(self.goal(newest)))
                ));
            }
            self.keep(stable, plan);
        }
        if self.is_given_up(newest) { self.give_up(newest, plan) } else { self.keep(newest, plan) }
    }

    /// Lets the replicas of a revision that was rolled back go, once the one before answers.
    fn give_up(&mut self, newest: &'a DesiredRevision, plan: &mut Plan) {
        let answers =
            |stable: &DesiredRevision| self.is_completed(stable) && self.ready(stable.revision).next().is_some();
        let answers = self.predecessor().is_some_and(answers);
        let none_left = self.ready(newest.revision).next().is_none();
        // One that has no replicas because nothing asks for it is started by the next request.
        if answers || none_left && self.predecessor().is_some_and(|stable| self.is_idle(stable)) {
            self.retire_traffic(newest.revision, plan);
        }
        let why = format!("revision {} was rolled back", newest.revision);
        for replica in self.active(newest.revision).collect::<Vec<_>>() {
            if !replica.is_ready() {
                self.stop(replica, &why, plan);
            } else if answers {
                self.leave(replica, &why, plan);
            } else {
                self.report.push(format!("keeping {} although {why}: no other replica answers", replica.id));
            }
        }
    }

    /// Revisions that are neither the newest nor the one that still serves go; the last replica that answers stays until
    /// another one does.
    fn retire(&mut self, newest: &'a DesiredRevision, stable: Option<&'a DesiredRevision>, plan: &mut Plan) {
        let kept = |revision: Revision| {
            revision == newest.revision || stable.is_some_and(|stable| stable.revision == revision)
        };
        let serves = |desired: &'a DesiredRevision| self.ready(desired.revision).next().is_some();
        let answers = serves(newest) && (stable.is_none() || self.is_completed(newest))
            || stable.is_some_and(serves)
            || self.is_idle(newest);
        for desired in self.service.revisions.iter().filter(|desired| !kept(desired.revision) && answers) {
            self.retire_traffic(desired.revision, plan);
        }
        for replica in self.replicas.clone() {
            if kept(replica.revision) || !replica.is_active() || self.gone.contains(&replica.id) {
                continue;
            }
            let why = format!("revision {} replaces revision {}", newest.revision, replica.revision);
            if !replica.is_ready() {
                self.stop(replica, &why, plan);
            } else if answers {
                self.leave(replica, &why, plan);
            } else {
                self.report.push(format!("keeping {} although it is old: no other replica answers", replica.id));
            }
        }
    }

    /// Brings a revision to its number of replicas.
    fn keep(&mut self, desired: &'a DesiredRevision, plan: &mut Plan) {
        if let Some(why) = self.held_down(desired) {
            self.say(why);
        }
        let active: Vec<_> = self.active(desired.revision).collect();
        let wanted = count(self.goal(desired));
        let starting = active.iter().filter(|replica| !replica.is_ready()).count();
        if active.len() > wanted {
            let reason = if desired.why.is_empty() { String::new() } else { format!(": {}", desired.why) };
            let why = format!("revision {} wants {}{reason}", desired.revision, replicas(wanted));
            for replica in surplus(active.clone(), wanted) {
                if replica.is_ready() { self.leave(replica, &why, plan) } else { self.stop(replica, &why, plan) }
            }
        } else if active.len() < wanted {
            self.start(desired, wanted - active.len(), starting, plan);
        }
        if starting > 0 {
            let revision = desired.revision;
            self.report.push(format!("waiting for {} of revision {revision} to become ready", replicas(starting)));
        }
    }

    fn start(&mut self, desired: &DesiredRevision, missing: usize, starting: usize, plan: &mut Plan) {
        let revision = desired.revision;
        if !desired.bundle_present {
            self.report.push(format!("revision {revision} cannot start: its model is not in the store"));
            return;
        }
        let mut number = missing;
        if let Some(history) = self.history(revision) {
            let next_ms = history.next_start_ms();
            if self.input.now_ms < next_ms {
                plan.wake_at(next_ms);
                self.report.push(status::waits(history));
                return;
            }
            if history.loops() {
                // One at a time shows as well that it works again, and costs less when it does not.
                number = 1_usize.saturating_sub(starting);
            }
        }
        number = self.room_in_memory(revision, number);
        let room = self.room();
        if number > room {
            self.report
                .push(format!("revision {revision} waits with {} starts until others have stopped", number - room));
            number = room;
        }
        self.started += number;
        for _ in 0..number {
            plan.actions.push(Action::Start { service: self.service.name.clone(), revision });
        }
        if number > 0 {
            let wanted = self.goal(desired);
            let started = replicas(number);
            let reason = if desired.why.is_empty() { String::new() } else { format!(": {}", desired.why) };
            self.report.push(format!("starting {started} of revision {revision}, which wants {wanted}{reason}"));
            plan.wake_at(self.input.now_ms + START_LOOK_MS_MIN);
        }
    }

    /// How many more processes the service may have: twice its replicas and one, however many changes come at once.
    fn room(&self) -> usize {
        let alive = self.replicas.iter().filter(|replica| replica.is_alive()).count();
        processes_max(self.service, &self.replicas).saturating_sub(alive + self.started)
    }

    fn remove(&mut self, plan: &mut Plan) {
        for replica in self.replicas.clone() {
            if self.gone.contains(&replica.id) {
                continue;
            }
            let why = "its service is being deleted";
            match replica.phase {
                Phase::Starting { .. } => self.stop(replica, why, plan),
                Phase::Ready { .. } => self.leave(replica, why, plan),
                _ => {}
            }
        }
        let left = self.replicas.iter().filter(|replica| replica.is_alive()).count();
        if left == 0 {
            plan.actions.push(Action::Remove { service: self.service.name.clone() });
        } else {
            self.report.push(format!("deleting: waiting for {} to stop", replicas(left)));
        }
    }

    pub(crate) fn leave(&mut self, replica: &'a ObservedReplica, why: &str, plan: &mut Plan) {
        self.gone.insert(&replica.id);
        self.report.push(format!("taking {} out of the routes: {why}", replica.id));
        plan.actions.push(Action::Leave { replica: replica.id.clone(), why: why.to_owned() });
    }

    pub(crate) fn stop(&mut self, replica: &'a ObservedReplica, why: &str, plan: &mut Plan) {
        self.gone.insert(&replica.id);
        self.report.push(format!("stopping {}: {why}", replica.id));
        plan.actions.push(Action::Stop { replica: replica.id.clone(), why: why.to_owned() });
    }

    fn kill(&mut self, replica: &'a ObservedReplica, why: &str, failed: bool, plan: &mut Plan) {
        self.gone.insert(&replica.id);
        self.report.push(format!("killing {}: {why}", replica.id));
        plan.actions.push(Action::Kill { replica: replica.id.clone(), why: why.to_owned(), failed });
    }
}

/// Whether a replica has been at one run for longer than any request waits for its answer.
pub(crate) fn is_stuck(service: &DesiredService, replica: &ObservedReplica) -> bool {
    let desired = service.find(replica.revision);
    desired.is_some_and(|desired| replica.busy_ms >= desired.timeout_ms.saturating_add(STUCK_MS))
}

/// Processes of one service, at most: twice the most replicas that a revision may have, or that one which is there has, and one.
pub(crate) fn processes_max(service: &DesiredService, replicas: &[&ObservedReplica]) -> usize {
    let there = |revision: Revision| replicas.iter().any(|replica| replica.revision == revision && replica.is_alive());
    let newest = service.revisions.last().map(|newest| newest.revision);
    let stable = service.revisions.iter().rev().skip(1).find(|desired| desired.promoted);
    let counts = service.revisions.iter().filter(|desired| {
        Some(desired.revision) == newest
            || stable.is_some_and(|stable| stable.revision == desired.revision)
            || there(desired.revision)
    });
    let most = counts.map(|desired| desired.replicas).max().unwrap_or(0);
    2 * count(most.max(service.bounds.max)) + 1
}

/// The replicas to give up: those that are not ready yet, then the ones with the greatest id.
fn surplus(mut active: Vec<&ObservedReplica>, wanted: usize) -> Vec<&ObservedReplica> {
    active.sort_by(|a, b| b.is_ready().cmp(&a.is_ready()).then(a.id.cmp(&b.id)));
    active.split_off(wanted.min(active.len()))
}

/// A number of replicas in words.
pub(crate) fn replicas(number: usize) -> String {
    if number == 1 { "1 replica".to_owned() } else { format!("{number} replicas") }
}

pub(crate) fn count(replicas: u32) -> usize {
    usize::try_from(replicas).unwrap_or(usize::MAX / 4)
}
