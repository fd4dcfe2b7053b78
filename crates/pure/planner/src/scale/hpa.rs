//! Kubernetes' horizontal pod autoscaler on CPU utilisation, after its documentation, with its default behaviour.

use std::collections::VecDeque;

use super::{
    Decision, Observed, Spec,
    bounds::within_spec,
    kpa::most_of_late,
    number::ceiling,
    window::{last, utilisation},
};

/// `--horizontal-pod-autoscaler-sync-period`; utilisation is that of the same span.
pub(super) const PERIOD_MS: u64 = 15_000;
/// `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;
/// `scaleDown.stabilizationWindowSeconds`.
const STABILIZATION_MS: u64 = 300_000;
/// `scaleUp.policies`: in one period at most four more or twice as many, whichever is more.
const PODS_MORE_MAX: u32 = 4;

/// What it recommended of late.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    recent: VecDeque<(u64, u32)>,
}

pub(super) fn decide(spec: &Spec, seen: &Observed<'_>, mut state: State) -> (Decision, State) {
    let current = seen.ready + seen.starting;
    let busy = utilisation(last(seen.windows, seen.now_ms, PERIOD_MS), spec.concurrency);
    let recommended = within_spec(f64::from(recommend(spec, seen, busy)), spec);
    let held = most_of_late(&mut state.recent, seen.now_ms, STABILIZATION_MS, recommended);
    // Down only as far as the highest recommendation of late; up no further than the policies let it.
    let most = (current + PODS_MORE_MAX).max(current.saturating_mul(2));
    let replicas = if recommended >= current { recommended.min(most) } else { held.min(current) };
    let reason = format!(
        "{:.0}% of the CPU is used where {:.0}% should be: {recommended} recommended, {held} within five minutes",
        busy * 100.0,
        spec.utilisation * 100.0
    );
    (Decision { replicas: within_spec(f64::from(replicas), spec), reason }, state)
}

fn recommend(spec: &Spec, seen: &Observed<'_>, busy: f64) -> u32 {
    let current = seen.ready + seen.starting;
    let ratio = busy / spec.utilisation;
    if seen.ready == 0 || (ratio - 1.0).abs() <= TOLERANCE {
        return current;
    }
    if ratio < 1.0 {
        return ceiling(ratio * f64::from(seen.ready));
    }
    // Replicas that are not ready count as idle, so that they are not asked for twice.
    let careful = ratio * f64::from(seen.ready) / f64::from(current);
    if careful <= 1.0 + TOLERANCE { current } else { ceiling(careful * f64::from(current)) }
}
