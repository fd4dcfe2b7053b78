//! From windows to numbers of replicas. What it remembers is in memory alone; after a restart what runs stays until it is known
//! what is needed.

use std::collections::{BTreeMap, VecDeque};

use planner::{
    Machine, allowance,
    scale::{Memory, Observed, Policy, Spec, Target, WINDOWS_MAX, Window, decide},
};
use resources::{
    histogram::Histogram,
    id::{ReplicaId, Revision, ServiceName},
    inference_service::{InferenceService, RPS_DEFAULT},
    scaling::{Bounds, Pace},
    status::RevisionTraffic,
    window::{GatewayWindow, ServiceWindow, WINDOW_MS},
};

use crate::{
    db::{ReplicaRow, RevisionRow, ServiceRow},
    observe::{Observation, phase},
    windows::{Windows, find},
};

/// Share of what a replica works on at a time that is filled, Knative's.
const UTILISATION: f64 = 0.7;
/// Starts that the time for the next one is judged by.
const STARTS_MAX: usize = 8;
/// Time from the wish for a replica to its first answer while none was measured, milliseconds.
const START_MS_DEFAULT: u64 = 1_000;
/// Age of the last window, milliseconds, from which on nothing is known of now.
const STALE_MS: u64 = 3 * WINDOW_MS;
/// Parts of windows up to this long, milliseconds, are joined with what follows.
const PART_MS_MAX: u64 = WINDOW_MS * 3 / 4;

/// How many replicas a revision is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) replicas: u32,
    pub(crate) why: String,
}

/// A change of it, for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) service: ServiceName,
    pub(crate) revision: Revision,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) why: String,
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scale {
    pub(crate) wanted: BTreeMap<(ServiceName, Revision), Wanted>,
    /// Requests that wait for a replica, by service.
    pub(crate) held: BTreeMap<ServiceName, u32>,
    pub(crate) changes: Vec<Change>,
}

/// Decides each second for every revision that may scale.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    known: BTreeMap<(ServiceName, Revision), Known>,
    starts: BTreeMap<ServiceName, VecDeque<(ReplicaId, u64)>>,
    /// Replicas that the revisions of a service were to have together.
    totals: BTreeMap<ServiceName, u32>,
    seen_ms: u64,
}

/// What is remembered of a revision.
#[derive(Debug)]
struct Known {
    windows: Vec<Window>,
    /// Milliseconds of the last window that are there; less than all of it while it is a part.
    last_ms: u64,
    memory: Memory,
    /// Percent of the requests that it got.
    percent: u32,
    replicas: u32,
    why: String,
}

/// One service while it is decided upon.
struct Scope<'a> {
    observation: &'a Observation,
    service: &'a ServiceRow,
    bounds: Bounds,
    /// Requests that wait for a replica.
    held: u32,
    news: &'a [std::sync::Arc<GatewayWindow>],
    now_ms: u64,
}

impl Scaler {
    /// Decides by the windows that came since it last did.
    pub(crate) fn decide(&mut self, observation: &Observation, windows: &Windows) -> Scale {
        let news = windows.after(self.seen_ms);
        self.learn_starts(observation);
        let mut scale = Scale::default();
        let last = windows.last().filter(|last| last.end_ms + STALE_MS > observation.now_ms);
        for service in observation.services.iter().filter(|service| !service.deleting) {
            let name = service.name();
            let held = last.as_ref().and_then(|last| find(last, name)).map_or(0, |window| window.held);
            let bounds = Bounds::of(&service.object.spec);
            let now_ms = news.last().map_or(observation.now_ms, |last| last.end_ms);
            let scope = Scope { observation, service, bounds, held, news: &news, now_ms };
            self.decide_service(&scope, &mut scale);
            scale.held.insert(name.clone(), held);
        }
        self.seen_ms = news.last().map_or(self.seen_ms, |last| last.end_ms);
        self.known.retain(|key, _| scale.wanted.contains_key(key));
        self.starts.retain(|name, _| scale.held.contains_key(name));
        self.totals.retain(|name, _| scale.held.contains_key(name));
        scale
    }

    fn decide_service(&mut self, scope: &Scope<'_>, scale: &mut Scale) {
        let name = scope.service.name();
        let shares = shares(scope);
        let mut decided: Vec<(Revision, u32)> = Vec::new();
        for row in scope.revisions() {
            let key = (name.clone(), row.revision);
            if !row.completed || !scope.bounds.scales() {
                let there = if row.completed { 0 } else { scope.rows(row.revision).max(1) };
                let replicas = scope.bounds.clamp(there);
                self.known.remove(&key);
                scale.wanted.insert(key, Wanted { replicas, why: String::new() });
                continue;
            }
            let start_ms = self.start_ms(name);
            let known = self.known.entry(key).or_insert_with(|| Known::begun(scope, row));
            let percent = shares.iter().find(|share| share.revision == row.revision).map_or(0, |share| share.percent);
            let least = known.shifted(scope, percent, self.totals.get(name).copied().unwrap_or(0));
            decided.push((row.revision, if least > 0 { least } else { known.decide(scope, row, (percent, start_ms)) }));
        }
        // Beside one that has replicas another one keeps one: what is to get a share must be there to get it.
        let mut total = 0_u32;
        let none = decided.iter().all(|(_, replicas)| *replicas == 0) && scope.held == 0;
        for (revision, replicas) in decided {
            let key = (name.clone(), revision);
            let Some(known) = self.known.get_mut(&key) else { continue };
            let to = if none { replicas } else { replicas.max(1) };
            let why = known.why.clone();
            if to != known.replicas {
                let (service, from) = (name.clone(), known.replicas);
                scale.changes.push(Change { service, revision, from, to, why: why.clone() });
                known.replicas = to;
            }
            scale.wanted.insert(key, Wanted { replicas: to, why });
            total = total.saturating_add(to);
        }
        self.totals.insert(name.clone(), total);
    }

    /// Notes how long replicas took that became ready.
    fn learn_starts(&mut self, observation: &Observation) {
        for row in &observation.replicas {
            let Some(ready_ms) = row.ready_ms else { continue };
            let starts = self.starts.entry(row.service.clone()).or_default();
            if starts.iter().any(|(known, _)| known == &row.id) {
                continue;
            }
            starts.push_back((row.id.clone(), ready_ms.saturating_sub(row.created_ms)));
            if starts.len() > STARTS_MAX {
                starts.pop_front();
            }
        }
    }

    fn start_ms(&self, name: &ServiceName) -> u64 {
        let starts = self.starts.get(name).into_iter().flatten();
        let (count, sum) = starts.fold((0_u64, 0_u64), |(count, sum), (_, ms)| (count + 1, sum.saturating_add(*ms)));
        sum.checked_div(count).unwrap_or(START_MS_DEFAULT)
    }
}

impl Known {
    /// What runs is what was needed, as far as is known.
    fn begun(scope: &Scope<'_>, row: &RevisionRow) -> Self {
        let replicas = scope.bounds.clamp(scope.rows(row.revision));
        let memory = Memory::begun(scope.now_ms, replicas);
        let why = "nothing was measured yet: as many as there were".to_owned();
        Self { windows: Vec::new(), last_ms: WINDOW_MS, memory, percent: 0, replicas, why }
    }

    /// What a revision needs at least that has come to a larger share of the requests: it cannot wait until it sees them.
    fn shifted(&mut self, scope: &Scope<'_>, percent: u32, total: u32) -> u32 {
        let before = std::mem::replace(&mut self.percent, percent);
        let share = scope.bounds.clamp(share_of(total, percent));
        if before == 0 || percent <= before || share <= self.replicas {
            return 0;
        }
        self.memory = Memory::begun(scope.now_ms, share);
        self.why = format!("it gets {percent} % of the requests, {before} % before");
        share
    }

    /// How many replicas there should be; as before while nothing new was measured.
    fn decide(&mut self, scope: &Scope<'_>, row: &RevisionRow, (percent, start_ms): (u32, u64)) -> u32 {
        let (ready, starting) = scope.count(row.revision);
        for window in scope.news {
            self.take(window, scope.service.name(), row.revision, (percent, ready));
        }
        if scope.news.is_empty() {
            return scope.bounds.clamp(self.replicas);
        }
        let spec = spec(&scope.service.object, scope.bounds, &scope.observation.machine);
        let held = share_of(scope.held, percent);
        let seen = Observed { now_ms: scope.now_ms, windows: &self.windows, ready, starting, held, start_ms };
        let (decision, memory) = decide(Policy::Berth, &spec, &seen, std::mem::take(&mut self.memory));
        self.memory = memory;
        // The sentence stays until the number changes, so that a status does too.
        if decision.replicas != self.replicas {
            self.why = decision.reason;
        }
        decision.replicas
    }

    /// Takes in what the gateway counted, as windows of one second.
    fn take(&mut self, window: &GatewayWindow, name: &ServiceName, revision: Revision, (percent, ready): (u32, u32)) {
        let ready = f64::from(ready);
        let one = of_revision(window, name, revision, percent);
        let start_ms = window.end_ms.saturating_sub(window.span_ms);
        if self.last_ms <= PART_MS_MAX
            && let Some(last) = self.windows.last_mut()
        {
            let (before, new) = (self.last_ms as f64, window.span_ms as f64);
            let joined = |a: f64, b: f64| (a * before + b * new) / (before + new);
            last.arrivals = last.arrivals.saturating_add(one.arrivals);
            last.in_service = joined(last.in_service, one.in_service);
            last.held = joined(last.held, one.held);
            last.ready = ready;
            last.latency.merge(&one.latency);
            last.service.merge(&one.service);
            self.last_ms = self.last_ms.saturating_add(window.span_ms);
            return;
        }
        // A gateway that was held up tells of several seconds at once.
        let seconds = ((window.span_ms + WINDOW_MS / 2) / WINDOW_MS).max(1);
        let seconds_u32 = u32::try_from(seconds).unwrap_or(1);
        for second in 0..seconds {
            let first = second == 0;
            let histogram = |histogram: &Histogram| if first { histogram.clone() } else { Histogram::default() };
            let rest = if first { one.arrivals % seconds_u32 } else { 0 };
            self.windows.push(Window {
                start_ms: start_ms + second * WINDOW_MS,
                arrivals: one.arrivals / seconds_u32 + rest,
                in_service: one.in_service,
                held: one.held,
                ready,
                latency: histogram(&one.latency),
                service: histogram(&one.service),
            });
        }
        self.last_ms = window.span_ms;
        let surplus = self.windows.len().saturating_sub(WINDOWS_MAX);
        self.windows.drain(..surplus);
    }
}

impl Scope<'_> {
    fn revisions(&self) -> impl Iterator<Item = &RevisionRow> {
        self.observation.revisions.iter().filter(|row| &row.service == self.service.name())
    }

    fn replicas(&self, revision: Revision) -> impl Iterator<Item = (&ReplicaRow, &crate::orchestrator::Seen)> {
        let all = self.observation.replicas.iter().zip(&self.observation.seen);
        all.filter(move |(row, _)| &row.service == self.service.name() && row.revision == revision)
    }

    /// Replicas that were not asked to go, whatever became of them.
    fn rows(&self, revision: Revision) -> u32 {
        let stays = |(row, _): &(&ReplicaRow, _)| row.leaving.is_none() && row.stopping_ms.is_none();
        u32::try_from(self.replicas(revision).filter(stays).count()).unwrap_or(u32::MAX)
    }

    /// Replicas that answer and that will.
    fn count(&self, revision: Revision) -> (u32, u32) {
        self.replicas(revision).fold((0, 0), |(ready, starting), (row, seen)| {
            match phase(row, seen, self.observation.now_ms) {
                planner::Phase::Ready { .. } => (ready + 1, starting),
                planner::Phase::Starting { .. } => (ready, starting + 1),
                _ => (ready, starting),
            }
        })
    }
}

/// Who gets how much: as the last plan said; while nothing answers, as it will be.
fn shares(scope: &Scope<'_>) -> Vec<RevisionTraffic> {
    let status = scope.service.object.status.as_ref();
    let traffic = status.map(|status| status.traffic.clone()).unwrap_or_default();
    if !traffic.is_empty() {
        return traffic;
    }
    let newest = scope.revisions().filter(|row| row.completed).last().map(|row| row.revision);
    newest.map(|revision| RevisionTraffic { revision, percent: 100 }).into_iter().collect()
}

fn share_of(number: u32, percent: u32) -> u32 {
    let share = (u64::from(number) * u64::from(percent)).div_ceil(100);
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// A revision's part of a window; times are per the window's length.
fn of_revision(window: &GatewayWindow, name: &ServiceName, revision: Revision, percent: u32) -> Window {
    let Some(service) = find(window, name) else { return Window::default() };
    let ServiceWindow { arrivals, refused, held_ms, .. } = service;
    let mine = service.revisions.iter().find(|found| found.revision == revision);
    let span = window.span_ms as f64;
    let arrivals = if percent == 0 {
        mine.map_or(0, |mine| mine.answered)
    } else {
        // What was refused for want of room came as well.
        share_of(arrivals.saturating_add(*refused), percent)
    };
    Window {
        start_ms: 0,
        arrivals,
        in_service: mine.map_or(0.0, |mine| mine.busy_ms as f64 / span),
        held: *held_ms as f64 / span * f64::from(percent) / 100.0,
        ready: 0.0,
        latency: mine.map(|mine| mine.latency.clone()).unwrap_or_default(),
        service: mine.map(|mine| mine.service.clone()).unwrap_or_default(),
    }
}

/// What the policy is asked for.
fn spec(object: &InferenceService, bounds: Bounds, machine: &Machine) -> Spec {
    let predictor = &object.spec.predictor;
    let concurrency = predictor.container_concurrency.unwrap_or_else(|| processors(object, machine));
    // What the API admitted is within its bounds; a database from elsewhere gets the defaults.
    let pace = Pace::of(&object.metadata.annotations).unwrap_or_default();
    let p99_ms = object.spec.slo.and_then(|slo| slo.p99_ms);
    let target = match (predictor.scale_metric.as_deref(), predictor.scale_target, p99_ms) {
        (Some("rps"), target, _) => Target::RequestsPerSecond(f64::from(target.unwrap_or(RPS_DEFAULT))),
        (_, Some(target), _) => Target::Concurrency(f64::from(target)),
        (None, None, Some(p99_ms)) => Target::P99Ms(f64::from(p99_ms)),
        _ => Target::Concurrency(f64::from(concurrency) * UTILISATION),
    };
    Spec {
        min_replicas: bounds.min,
        max_replicas: bounds.max,
        concurrency,
        target,
        stable_ms: pace.window_ms,
        scale_down_delay_ms: pace.scale_down_delay_ms,
        ..Spec::default()
    }
}

/// Requests that a replica without a limit works on at a time: one for each processor that it may compute with.
fn processors(object: &InferenceService, machine: &Machine) -> u32 {
    let allowance = allowance(object.spec.predictor.model.resources.as_ref(), machine).unwrap_or_default();
    let count = allowance.threads.unwrap_or(machine.cpu_milli.div_ceil(1000));
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
