//! Limits of every decision: how far one may go at once, and between which numbers.

use super::{Observed, Spec, number::ceiling};

/// What one decision may ask for, by the ready replicas: Knative's rates.
pub(super) fn within_rates(wanted: f64, spec: &Spec, seen: &Observed<'_>) -> f64 {
    let ready = f64::from(seen.ready.max(1));
    let most = (spec.up_rate_max * ready).ceil();
    let least = (ready / spec.down_rate_max).floor();
    wanted.max(least).min(most)
}

/// The number within the bounds of the specification.
pub(super) fn within_spec(wanted: f64, spec: &Spec) -> u32 {
    ceiling(wanted).clamp(spec.min_replicas.min(spec.max_replicas), spec.max_replicas)
}
