//! The Dynamic Multi-level rule of Taherizadeh and Stankovski (The Computer Journal 62(2), 2019), after the published code of the authors.
//!
//! Memory is taken as below its threshold at all times: a replica of Berth uses as much idle as busy.

use resources::histogram::Histogram;

use super::{
    Decision, Observed, Response, Spec,
    bounds::within_spec,
    window::{Window, arrival_rate, last, utilisation},
};

/// It decides every 30 seconds.
pub(super) const PERIOD_MS: u64 = 30_000;
/// Percent of utilisation that a scale-in leaves free.
const CONSERVATIVE: f64 = 0.05;
/// Intervals after a scale-out in which there is no scale-in.
const QUIET_AFTER_OUT: u8 = 2;

/// Requests per second and replica of the two intervals before, and intervals without a scale-in to come.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    before: f64,
    long_before: f64,
    quiet: u8,
}

impl Default for State {
    fn default() -> Self {
        Self { before: 1.0, long_before: 1.0, quiet: 0 }
    }
}

pub(super) fn decide(spec: &Spec, seen: &Observed<'_>, mut state: State) -> (Decision, State) {
    let windows = last(seen.windows, seen.now_ms, PERIOD_MS);
    let current = (seen.ready + seen.starting).max(1);
    let busy = utilisation(windows, spec.concurrency);
    let rate = arrival_rate(windows) / f64::from(current);
    let late = spec.response.is_none_or(|response| is_late(windows, response));
    let trend = (2.0 * ratio(rate, state.before) + ratio(state.before, state.long_before)) / 3.0;
    let mut replicas = current;
    if busy > spec.utilisation {
        if late {
            let wanted = f64::from(current) * busy * trend / spec.utilisation;
            replicas = super::number::ceiling(wanted).max(current + 1);
            state.quiet = QUIET_AFTER_OUT;
        }
    } else if state.quiet > 0 {
        state.quiet -= 1;
    } else if busy < f64::from(current - 1) * spec.utilisation / f64::from(current) - CONSERVATIVE {
        replicas = current.saturating_sub(1).max(1);
    }
    (state.long_before, state.before) = (state.before, rate);
    let reason = format!(
        "{:.0}% of the CPU is used, the response time is {} its threshold, the load per replica grows {trend:.2} times",
        busy * 100.0,
        if late { "over" } else { "within" }
    );
    (Decision { replicas: within_spec(f64::from(replicas), spec), reason }, state)
}

fn is_late(windows: &[Window], response: Response) -> bool {
    let mut all = Histogram::default();
    windows.iter().for_each(|window| all.merge(&window.latency));
    match response {
        Response::Mean(limit) => all.mean().is_some_and(|mean| mean > limit),
        Response::P99(limit) => all.quantile(0.99).is_some_and(|p99| p99 > limit),
    }
}

/// How many times as much; after an interval without load there is no trend.
fn ratio(now: f64, before: f64) -> f64 {
    if before > 0.0 { now / before } else { 1.0 }
}
