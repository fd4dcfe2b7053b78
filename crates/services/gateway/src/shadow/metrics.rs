//! What is counted of shadows. None of it is in the metrics of clients' requests.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use resources::id::Revision;

use super::Outcome;

/// From what rounding changes to scores that are not probabilities.
const DISTANCE_BUCKETS: [f64; 12] = [0.0, 1e-6, 1e-4, 1e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];
/// What stands for distances that are not finite, so that the sum stays a number.
const DISTANCE_MAX: f64 = 1e9;
/// Seconds; those of clients' requests.
const DURATION_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    service: String,
    revision: String,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    service: String,
    revision: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    service: String,
    revision: String,
    answer: &'static str,
}

/// The metrics of all shadows.
#[derive(Clone)]
pub(crate) struct Families {
    requests: Family<OutcomeLabels, Counter>,
    distance: Family<TargetLabels, Histogram, fn() -> Histogram>,
    duration: Family<AnswerLabels, Histogram, fn() -> Histogram>,
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Families")
    }
}

impl Default for Families {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            distance: Family::new_with_constructor(|| Histogram::new(DISTANCE_BUCKETS)),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
        }
    }
}

impl Families {
    /// Makes them part of `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests drawn to be mirrored, by what became of them";
        registry.register("shadow_requests", help, self.requests.clone());
        let help = "Largest difference between two numbers of an answer and of its shadow";
        registry.register("shadow_score_distance", help, self.distance.clone());
        let help = "Time until the head of an answer and of its shadow, of those that have both";
        registry.register("shadow_duration_seconds", help, self.duration.clone());
    }

    /// The metrics of one shadow.
    pub(crate) fn of(&self, service: &str, revision: Revision) -> ShadowMetrics {
        let target = TargetLabels { service: service.to_owned(), revision: revision.to_string() };
        let answer = |answer| self.duration.get_or_create_owned(&target.answer(answer));
        ShadowMetrics {
            distance: self.distance.get_or_create_owned(&target),
            primary: answer(ANSWERS[0]),
            mirrored: answer(ANSWERS[1]),
            counted: Mutex::new(Some(BTreeSet::new())),
            families: self.clone(),
            target,
        }
    }
}

const ANSWERS: [&str; 2] = ["primary", "mirrored"];

impl TargetLabels {
    fn answer(&self, answer: &'static str) -> AnswerLabels {
        AnswerLabels { service: self.service.clone(), revision: self.revision.clone(), answer }
    }

    fn outcome(&self, (outcome, reason): (&'static str, &'static str)) -> OutcomeLabels {
        OutcomeLabels { service: self.service.clone(), revision: self.revision.clone(), outcome, reason }
    }
}

/// The metrics of one shadow.
#[derive(Debug)]
pub(crate) struct ShadowMetrics {
    target: TargetLabels,
    distance: Histogram,
    primary: Histogram,
    mirrored: Histogram,
    families: Families,
    /// Outcomes counted so far, to be forgotten with the shadow; nothing once it is. There are about twenty.
    counted: Mutex<Option<BTreeSet<(&'static str, &'static str)>>>,
}

impl ShadowMetrics {
    /// Counts what became of a request. A copy that outlives its shadow is not counted: nothing would forget it.
    pub(crate) fn count(&self, outcome: Outcome) {
        let labels = outcome.labels();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = counted.as_mut() {
            counted.insert(labels);
            self.families.requests.get_or_create(&self.target.outcome(labels)).inc();
        }
    }

    /// Counts a comparison and how far apart the answers were.
    pub(super) fn compared(&self, outcome: Outcome, distance: Option<f64>) {
        self.count(outcome);
        if let Some(distance) = distance {
            self.distance.observe(distance.min(DISTANCE_MAX));
        }
    }

    /// Notes the times until both answers began.
    pub(super) fn took(&self, primary: Duration, mirrored: Duration) {
        self.primary.observe(primary.as_secs_f64());
        self.mirrored.observe(mirrored.as_secs_f64());
    }

    /// Forgets a shadow that is gone.
    pub(crate) fn forget(&self) {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner).take();
        for labels in counted.into_iter().flatten() {
            self.families.requests.remove(&self.target.outcome(labels));
        }
        self.families.distance.remove(&self.target);
        for answer in ANSWERS {
            self.families.duration.remove(&self.target.answer(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_shadow_that_goes_leaves_no_series() {
        let (families, mut registry) = (Families::default(), Registry::default());
        families.register(&mut registry);
        let empty = text(&registry);
        let metrics = families.of("spam", Revision(2));
        metrics.compared(Outcome::Agreed, Some(f64::INFINITY));
        metrics.count(Outcome::Dropped("busy"));
        metrics.took(Duration::from_millis(1), Duration::from_millis(2));
        let full = text(&registry);
        let labels = "service=\"spam\",revision=\"2\"";
        assert!(
            full.contains(&format!("shadow_requests_total{{{labels},outcome=\"dropped\",reason=\"busy\"}} 1")),
            "{full}"
        );
        assert!(full.contains(&format!("shadow_score_distance_sum{{{labels}}} 1000000000")), "{full}");
        metrics.forget();
        metrics.count(Outcome::Agreed);
        assert_eq!(text(&registry), empty);
    }
}
