//! What `berth simulate` prints: a table for people, values for programs.

use planner::simulate::{Change, Outcome, Point, Scenario};
use serde::Serialize;

use crate::table::table;

/// Everything, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    seconds: f64,
    requests: f64,
    objective_ms: f64,
    interval_seconds: f64,
    seed: u64,
    policies: Vec<Policy>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    policy: String,
    /// Shares of intervals.
    intervals_over: f64,
    intervals_over_in_mean: f64,
    replicas_mean: f64,
    replicas_max: u32,
    replica_hours: f64,
    p50_ms: f64,
    p99_ms: f64,
    requests: u64,
    answered: u64,
    late: u64,
    refused: u64,
    timed_out: u64,
    replicas_failed: u64,
    changes: u64,
    decisions: Vec<Decision>,
    intervals: Vec<Interval>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    at_seconds: f64,
    from: u32,
    to: u32,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Interval {
    at_seconds: f64,
    requests_per_second: f64,
    p99_ms: f64,
    replicas: f64,
}

impl Report {
    /// With every decision where they are asked for.
    pub(crate) fn new(scenario: &Scenario, outcomes: &[Outcome], explain: bool) -> Self {
        Self {
            seconds: scenario.trace.seconds(),
            requests: scenario.trace.requests(),
            objective_ms: scenario.objective_ms,
            interval_seconds: scenario.interval_s,
            seed: scenario.seed,
            policies: outcomes.iter().map(|outcome| Policy::new(outcome, explain)).collect(),
        }
    }
}

impl Policy {
    fn new(outcome: &Outcome, explain: bool) -> Self {
        let decisions = outcome.changes.iter().filter(|_| explain).map(Decision::new).collect();
        Self {
            policy: outcome.name.clone(),
            intervals_over: outcome.over,
            intervals_over_in_mean: outcome.over_in_mean,
            replicas_mean: outcome.replicas,
            replicas_max: outcome.replicas_max,
            replica_hours: outcome.replica_hours,
            p50_ms: outcome.p50_ms,
            p99_ms: outcome.p99_ms,
            requests: outcome.requests,
            answered: outcome.answered,
            late: outcome.late,
            refused: outcome.refused,
            timed_out: outcome.timed_out,
            replicas_failed: outcome.failures,
            changes: outcome.changed,
            decisions,
            intervals: outcome.points.iter().map(Interval::new).collect(),
        }
    }
}

impl Decision {
    fn new(change: &Change) -> Self {
        Self { at_seconds: change.at_s, from: change.from, to: change.to, reason: change.reason.clone() }
    }
}

impl Interval {
    fn new(point: &Point) -> Self {
        Self { at_seconds: point.at_s, requests_per_second: point.rate, p99_ms: point.p99_ms, replicas: point.replicas }
    }
}

/// One row for each policy.
pub(crate) fn rows(outcomes: &[Outcome]) -> String {
    let header =
        ["POLICY", "OVER", "REPLICAS", "MOST", "P50", "P99", "LATE", "REFUSED", "TIMED OUT", "HOURS", "CHANGES"];
    let percent = |part: u64, whole: u64| format!("{:.2}%", part as f64 / whole.max(1) as f64 * 100.0);
    let rows = outcomes.iter().map(|outcome| {
        vec![
            outcome.name.clone(),
            format!("{:.1}%", outcome.over * 100.0),
            format!("{:.2}", outcome.replicas),
            outcome.replicas_max.to_string(),
            format!("{:.1} ms", outcome.p50_ms),
            format!("{:.1} ms", outcome.p99_ms),
            percent(outcome.late, outcome.requests),
            percent(outcome.refused, outcome.requests),
            percent(outcome.timed_out, outcome.requests),
            format!("{:.2}", outcome.replica_hours),
            outcome.changed.to_string(),
        ]
    });
    table(&header, rows.collect())
}

/// Every decision of one policy.
pub(crate) fn decisions(outcome: &Outcome) -> String {
    let rows = outcome.changes.iter().map(|change| {
        vec![format!("{:.0} s", change.at_s), format!("{} → {}", change.from, change.to), change.reason.clone()]
    });
    format!("{}:\n{}", outcome.name, table(&["AT", "REPLICAS", "WHY"], rows.collect()))
}
