//! Knative's pod autoscaler, after its documentation: a stable and a panic window over concurrency or requests per second.

use std::collections::VecDeque;

use super::{
    Decision, Observed, Spec, Target,
    bounds::{within_rates, within_spec},
    number::at_most_u32,
    window::{arrival_rate, concurrency, last},
};

/// It decides every two seconds.
pub(super) const PERIOD_MS: u64 = 2_000;
/// Share of a replica's concurrency that Knative fills, `container-concurrency-target-percentage`.
pub(super) const UTILISATION_DEFAULT: f64 = 0.7;

/// Since when it panics, and what it has asked for meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    panic_since_ms: Option<u64>,
    panic_most: u32,
    recent: VecDeque<(u64, u32)>,
}

impl State {
    /// With more than one replica it begins in panic, so that a restart takes none away.
    pub(super) fn started_with(seen: &Observed<'_>) -> Self {
        let panics = (seen.ready > 1).then_some(seen.now_ms);
        Self { panic_since_ms: panics, panic_most: seen.ready, recent: VecDeque::new() }
    }
}

pub(super) fn decide(spec: &Spec, seen: &Observed<'_>, mut state: State) -> (Decision, State) {
    if seen.windows.is_empty() {
        let replicas = within_spec(f64::from(seen.ready + seen.starting), spec);
        return (Decision { replicas, reason: "nothing was measured yet".to_owned() }, state);
    }
    let stable = wanted(spec, seen, spec.stable_ms);
    let panic = wanted(spec, seen, spec.panic_ms);
    let over = panic / f64::from(seen.ready.max(1)) >= spec.panic_threshold;
    if over {
        state.panic_since_ms = Some(seen.now_ms);
    } else if state.panic_since_ms.is_some_and(|since| since + spec.stable_ms < seen.now_ms) {
        (state.panic_since_ms, state.panic_most) = (None, 0);
    }
    let calm = at_most_u32(within_rates(stable, spec, seen));
    let mut replicas = calm;
    if state.panic_since_ms.is_some() {
        replicas = replicas.max(at_most_u32(within_rates(panic, spec, seen))).max(state.panic_most);
        state.panic_most = replicas;
    }
    if spec.scale_down_delay_ms > 0 {
        replicas = most_of_late(&mut state.recent, seen.now_ms, spec.scale_down_delay_ms, replicas);
    }
    let mode = if state.panic_since_ms.is_some() { "in panic" } else { "calm" };
    let reason = format!("{mode}: the stable window needs {stable}, the panic window {panic}");
    (Decision { replicas: within_spec(f64::from(replicas), spec), reason }, state)
}

fn wanted(spec: &Spec, seen: &Observed<'_>, span_ms: u64) -> f64 {
    let windows = last(seen.windows, seen.now_ms, span_ms);
    let (value, target) = match spec.target {
        Target::RequestsPerSecond(target) => (arrival_rate(windows), target),
        Target::Concurrency(target) => (concurrency(windows), target),
        // Knative has no such target: it takes its share of the concurrency.
        Target::P99Ms(_) => (concurrency(windows), f64::from(spec.concurrency) * UTILISATION_DEFAULT),
    };
    (value / target.max(f64::MIN_POSITIVE)).ceil()
}

/// The highest number of the last `span_ms`, this one among them.
pub(super) fn most_of_late(recent: &mut VecDeque<(u64, u32)>, now_ms: u64, span_ms: u64, number: u32) -> u32 {
    while recent.back().is_some_and(|(_, before)| *before <= number) {
        recent.pop_back();
    }
    recent.push_back((now_ms, number));
    while recent.front().is_some_and(|(at, _)| at + span_ms < now_ms) {
        recent.pop_front();
    }
    recent.front().map_or(number, |(_, most)| *most)
}
