//! Berth's policy: as many replicas as the load one start-up time ahead needs, and more at once when requests wait.

use std::collections::VecDeque;

use resources::{histogram::Histogram, window::WINDOW_MS};

use super::{
    Decision, Observed, Spec, Target,
    bounds::{within_rates, within_spec},
    forecast::{Ahead, Forecast, Model},
    kpa::most_of_late,
    level::{Level, level},
    number::{at_most_u32, ceiling},
    queueing::{Load, Need, Work, replicas_for},
    window::{concurrency, last, mean},
};

/// Milliseconds for which fewer replicas must have been enough, unless a specification says otherwise.
pub const SCALE_DOWN_DELAY_MS: u64 = 30_000;
/// Requests whose service times are remembered; past it the older weigh half.
const SERVED_MAX: u64 = 20_000;
/// Requests before the measured service time is believed.
const SERVED_MIN: u64 = 20;
/// Seconds in which requests that wait are to be worked off.
const DRAIN_S: f64 = 2.0;
/// Milliseconds that replicas for such requests stay at least: less, and they would come and go with each burst.
const DRAIN_HOLD_MS: u64 = 10_000;
/// Standard deviations of the forecast that are provided for.
const DEVIATIONS: f64 = 1.0;
/// How much the correction moves at once, up and down, and how far.
const CORRECTION_UP: f64 = 0.05;
const CORRECTION_DOWN: f64 = 0.01;
const CORRECTION_MAX: f64 = 2.0;
const CORRECTION_MIN: f64 = 0.85;
/// How many times the load must fit into fewer replicas before there are fewer.
const HYSTERESIS: f64 = 1.05;
/// Milliseconds between two corrections: what one did must show before the next.
const CORRECTION_MS: u64 = 10_000;

/// What it remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    learned_until_ms: u64,
    service: Histogram,
    forecast: Forecast,
    needed: VecDeque<(u64, u32)>,
    drained: VecDeque<(u64, u32)>,
    panic_since_ms: Option<u64>,
    panic_most: u32,
    correction: f64,
    corrected_at_ms: u64,
    enough_since_ms: u64,
    busy_at_ms: u64,
    last: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            learned_until_ms: 0,
            service: Histogram::default(),
            forecast: Forecast::default(),
            needed: VecDeque::new(),
            drained: VecDeque::new(),
            panic_since_ms: None,
            panic_most: 0,
            correction: 1.0,
            corrected_at_ms: 0,
            enough_since_ms: 0,
            busy_at_ms: 0,
            last: 0,
        }
    }
}

impl State {
    /// So many replicas run, and what for is not known.
    pub(super) fn begun(now_ms: u64, replicas: u32) -> Self {
        Self { needed: VecDeque::from([(now_ms, replicas)]), busy_at_ms: now_ms, last: replicas, ..Self::default() }
    }
}

/// The parts of a decision, for its sentence.
struct Parts {
    level: Level,
    ahead: Ahead,
    rate: f64,
    work: Option<Work>,
    need: Need,
    drain: u32,
}

pub(super) fn decide(spec: &Spec, seen: &Observed<'_>, state: &mut State) -> Decision {
    learn(seen, state);
    let level = level(seen.windows, seen.now_ms, spec.panic_ms);
    let ahead = state.forecast.ahead(&level, seen.now_ms, seen.start_ms + WINDOW_MS);
    if level.now > 0.0 || seen.held > 0 {
        state.busy_at_ms = seen.now_ms;
    }
    if seen.now_ms.saturating_sub(state.busy_at_ms) >= spec.stable_ms {
        // However wrong the guesses were lately: what does not come needs nothing.
        state.needed.clear();
        let reason = format!("no request for {} s", spec.stable_ms / 1000);
        return Decision { replicas: spec.min_replicas.min(spec.max_replicas), reason };
    }
    let work = work(state);
    correct(spec, seen, work, state);
    let rate = (level.now.max(ahead.rate) * state.correction) + DEVIATIONS * ahead.deviation;
    let mut need = need(spec, seen, rate, &level, work);
    if need.replicas < state.last {
        // A load on the edge of two numbers must not have replicas come and go.
        let careful = self::need(spec, seen, rate * HYSTERESIS, &level, work);
        need.replicas = careful.replicas.min(state.last).max(need.replicas);
    }
    state.last = need.replicas;
    let drain = draining(spec, seen, &level, work);
    let parts = Parts { level, ahead, rate, work, need, drain };
    let replicas = held(spec, seen, state, &parts);
    if seen.ready < need.replicas {
        state.enough_since_ms = seen.now_ms;
    }
    Decision { replicas, reason: reason(spec, seen, state, &parts, replicas) }
}

/// Takes in the windows that are new.
fn learn(seen: &Observed<'_>, state: &mut State) {
    for window in seen.windows.iter().filter(|window| window.start_ms >= state.learned_until_ms) {
        state.service.merge(&window.service);
    }
    state.learned_until_ms = seen.windows.last().map_or(state.learned_until_ms, |window| window.start_ms + 1);
    while state.service.count() > SERVED_MAX {
        state.service.halve();
    }
}

/// The measured work of one request, once there is enough of it.
fn work(state: &State) -> Option<Work> {
    let served = &state.service;
    let mean_ms = served.mean().filter(|_| served.count() >= SERVED_MIN)?;
    Some(Work { mean_ms, slow_ms: served.quantile(0.995)?, variation: served.variation()? })
}

/// Replicas for a rate.
fn need(spec: &Spec, seen: &Observed<'_>, rate: f64, level: &Level, work: Option<Work>) -> Need {
    let need = |replicas: f64| Need { replicas: ceiling(replicas).max(1), late: 0.0, attainable: true };
    let short = last(seen.windows, seen.now_ms, spec.panic_ms);
    match (spec.target, work) {
        (Target::RequestsPerSecond(target), _) => need(rate / target),
        (Target::Concurrency(target), Some(work)) => need(rate * work.mean_ms / 1000.0 / target),
        (Target::Concurrency(target), None) => need(concurrency(short) / target),
        (Target::P99Ms(objective_ms), Some(work)) => {
            let load = Load { rate, dispersion: level.dispersion, concurrency: spec.concurrency };
            replicas_for(load, work, objective_ms, spec.max_replicas)
        }
        // Before anything was measured there is only what is under way.
        (Target::P99Ms(_), None) => need(concurrency(short) / f64::from(spec.concurrency.max(1))),
    }
}

/// Replicas that answer what comes and work off what waits.
fn draining(spec: &Spec, seen: &Observed<'_>, level: &Level, work: Option<Work>) -> u32 {
    let held = f64::from(seen.held);
    let waiting = mean(last(seen.windows, seen.now_ms, WINDOW_MS), |window| window.held);
    // What waits for the blink of an eye is the queue that the objective allows for.
    if held < 1.0 || held < level.now * allowed_s(spec, work) {
        return 0;
    }
    let each = f64::from(spec.concurrency.max(1));
    match work {
        Some(work) => ceiling((level.now + held / DRAIN_S) * work.mean_ms / 1000.0 / each),
        None => ceiling(held.min(waiting + 1.0) / each),
    }
}

/// Seconds that a request may wait.
fn allowed_s(spec: &Spec, work: Option<Work>) -> f64 {
    match (spec.target, work) {
        (Target::P99Ms(objective_ms), Some(work)) => (objective_ms - work.slow_ms).max(0.0) / 1000.0,
        (_, Some(work)) => work.mean_ms / 1000.0,
        (_, None) => 0.0,
    }
}

/// The measured share of late answers corrects the model, slowly, while there were enough replicas.
fn correct(spec: &Spec, seen: &Observed<'_>, work: Option<Work>, state: &mut State) {
    let Target::P99Ms(objective_ms) = spec.target else { return };
    if work.is_some_and(|work| work.slow_ms >= objective_ms) {
        return;
    }
    let since = state.corrected_at_ms.max(state.enough_since_ms);
    if seen.now_ms < since + CORRECTION_MS {
        return;
    }
    let mut latency = Histogram::default();
    last(seen.windows, seen.now_ms, CORRECTION_MS).iter().for_each(|window| latency.merge(&window.latency));
    let Some(p99) = latency.quantile(0.99).filter(|_| latency.count() >= SERVED_MIN) else { return };
    state.corrected_at_ms = seen.now_ms;
    let step = if p99 > objective_ms {
        CORRECTION_UP
    } else if p99 < objective_ms * 0.8 {
        -CORRECTION_DOWN
    } else {
        0.0
    };
    state.correction = (state.correction + step).clamp(CORRECTION_MIN, CORRECTION_MAX);
}

/// The number after cool-down, panic and bounds.
fn held(spec: &Spec, seen: &Observed<'_>, state: &mut State, parts: &Parts) -> u32 {
    let now = seen.now_ms;
    let wanted = parts.need.replicas.max(parts.drain);
    if f64::from(wanted) / f64::from(seen.ready.max(1)) >= spec.panic_threshold && seen.starting == 0 {
        state.panic_since_ms = Some(now);
    } else if state.panic_since_ms.is_some_and(|since| since + spec.stable_ms < now) {
        (state.panic_since_ms, state.panic_most) = (None, 0);
    }
    if state.panic_since_ms.is_some() {
        state.panic_most = state.panic_most.max(parts.need.replicas);
    }
    let needed = most_of_late(&mut state.needed, now, spec.scale_down_delay_ms, parts.need.replicas);
    let drained = most_of_late(&mut state.drained, now, DRAIN_HOLD_MS.max(2 * seen.start_ms), parts.drain);
    let most = needed.max(drained).max(state.panic_most);
    within_spec(f64::from(at_most_u32(within_rates(f64::from(most), spec, seen))), spec)
}

fn reason(spec: &Spec, seen: &Observed<'_>, state: &State, parts: &Parts, replicas: u32) -> String {
    let Parts { level, ahead, rate, work, need, drain } = parts;
    let source = match ahead.model {
        Model::Reactive => "as now".to_owned(),
        Model::Trend => format!("by the trend, in {:.0} s", seen.start_ms as f64 / 1000.0 + 1.0),
        Model::Season => format!("as on earlier days, in {:.0} s", seen.start_ms as f64 / 1000.0 + 1.0),
    };
    let mut text = format!("{:.1} requests/s, {rate:.1} to provide for {source}", level.now);
    if let Some(work) = work {
        text.push_str(&format!(", {:.1} ms each", work.mean_ms));
    }
    match spec.target {
        Target::P99Ms(objective) if !need.attainable => {
            text.push_str(&format!(": the model alone takes longer than {objective} ms, more replicas do not help"));
        }
        Target::P99Ms(objective) => {
            text.push_str(&format!(": {} keep 99 of 100 within {objective} ms", need.replicas));
        }
        Target::Concurrency(target) => {
            text.push_str(&format!(": {} with {target} under way at each", need.replicas));
        }
        Target::RequestsPerSecond(target) => {
            text.push_str(&format!(": {} with {target} requests/s each", need.replicas));
        }
    }
    if *drain > need.replicas {
        text.push_str(&format!("; {drain} work off {} that wait", seen.held));
    }
    if replicas > need.replicas.max(*drain) && replicas > spec.min_replicas {
        let why = if state.panic_since_ms.is_some() { "a burst was lately" } else { "so many were needed lately" };
        text.push_str(&format!("; {replicas} stay, {why}"));
    } else if replicas < need.replicas {
        text.push_str(&format!("; {replicas} are permitted"));
    }
    text
}
