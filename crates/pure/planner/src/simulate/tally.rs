//! What a simulation found: intervals over the objective, replicas, latencies, and how it went over time.

use resources::histogram::Histogram;

use crate::scale::{at_most_u32, whole};

/// Changes that are kept with their reasons; more are counted.
const CHANGES_MAX: usize = 10_000;
/// Intervals that are kept: a year of minutes, and more.
pub(super) const INTERVALS_MAX: f64 = 1e6;
/// Share of an interval's requests that may be late.
const LATE_MAX: f64 = 0.01;

/// One interval of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// When it began, seconds.
    pub at_s: f64,
    /// Requests per second that came.
    pub rate: f64,
    /// 99th percentile of the answers given in it, milliseconds.
    pub p99_ms: f64,
    /// Replicas in the mean, those that start or leave among them.
    pub replicas: f64,
}

/// A change of the number of replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When, seconds.
    pub at_s: f64,
    /// From how many.
    pub from: u32,
    /// To how many.
    pub to: u32,
    /// Why.
    pub reason: String,
}

/// What a simulation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The contender's name.
    pub name: String,
    /// Requests that came.
    pub requests: u64,
    /// Answers.
    pub answered: u64,
    /// Requests that found the queue full.
    pub refused: u64,
    /// Requests that waited until their time was over.
    pub timed_out: u64,
    /// Requests that were answered after the objective, refused or timed out.
    pub late: u64,
    /// Share of intervals in which more than one in a hundred requests was late.
    pub over: f64,
    /// Share of intervals whose mean response time was over the objective; a request without an answer counts its wait.
    pub over_in_mean: f64,
    /// Replicas in the mean.
    pub replicas: f64,
    /// Most replicas at once.
    pub replicas_max: u32,
    /// Replicas times hours.
    pub replica_hours: f64,
    /// Replicas that failed.
    pub failures: u64,
    /// Median and 99th percentile of all answers, milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// How often another number of replicas was asked for.
    pub changed: u64,
    /// The first of these changes.
    pub changes: Vec<Change>,
    /// Every interval.
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    requests: u32,
    late: u32,
    total_ms: f64,
    replica_ms: f64,
    p99_ms: f64,
}

/// Counts while a simulation goes.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    interval_ms: f64,
    objective_ms: f64,
    intervals: Vec<Interval>,
    all: Histogram,
    now: Histogram,
    closed: usize,
    pub requests: u64,
    pub refused: u64,
    pub timed_out: u64,
    pub failures: u64,
    pub replicas_max: u32,
    changed: u64,
    changes: Vec<Change>,
}

impl Tally {
    pub(super) fn new(seconds: f64, interval_s: f64, objective_ms: f64) -> Self {
        let count = whole((seconds / interval_s).ceil().clamp(1.0, INTERVALS_MAX));
        Self {
            interval_ms: interval_s * 1000.0,
            objective_ms,
            intervals: vec![Interval::default(); usize::try_from(count).unwrap_or(1)],
            all: Histogram::default(),
            now: Histogram::default(),
            closed: 0,
            requests: 0,
            refused: 0,
            timed_out: 0,
            failures: 0,
            replicas_max: 0,
            changed: 0,
            changes: Vec::new(),
        }
    }

    fn at(&mut self, ms: f64) -> Option<&mut Interval> {
        let number = usize::try_from(whole(ms / self.interval_ms)).unwrap_or(usize::MAX);
        self.intervals.get_mut(number)
    }

    pub(super) fn came(&mut self, ms: f64) {
        self.requests += 1;
        if let Some(interval) = self.at(ms) {
            interval.requests += 1;
        }
    }

    /// A request of `came_ms` got its answer after `latency_ms`.
    pub(super) fn answered(&mut self, came_ms: f64, latency_ms: f64) {
        self.close(came_ms + latency_ms);
        self.all.record(latency_ms);
        self.now.record(latency_ms);
        let late = latency_ms > self.objective_ms;
        if let Some(interval) = self.at(came_ms) {
            interval.late += u32::from(late);
            interval.total_ms += latency_ms;
        }
    }

    /// A request of `came_ms` got none after `waited_ms`.
    pub(super) fn lost(&mut self, came_ms: f64, waited_ms: f64) {
        if let Some(interval) = self.at(came_ms) {
            interval.late += 1;
            interval.total_ms += waited_ms;
        }
    }

    /// `replicas` were there between two times, which lie in one interval.
    pub(super) fn cost(&mut self, from_ms: f64, to_ms: f64, replicas: u32) {
        self.replicas_max = self.replicas_max.max(replicas);
        if let Some(interval) = self.at(from_ms) {
            interval.replica_ms += (to_ms - from_ms) * f64::from(replicas);
        }
    }

    pub(super) fn change(&mut self, at_ms: f64, from: u32, to: u32, reason: String) {
        self.changed += 1;
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(Change { at_s: at_ms / 1000.0, from, to, reason });
        }
    }

    /// Ends the intervals before a time.
    fn close(&mut self, now_ms: f64) {
        let current = usize::try_from(whole(now_ms / self.interval_ms)).unwrap_or(usize::MAX);
        if current <= self.closed {
            return;
        }
        if let Some(interval) = self.intervals.get_mut(self.closed) {
            interval.p99_ms = self.now.quantile(0.99).unwrap_or_default();
        }
        self.now = Histogram::default();
        self.closed = current;
    }

    pub(super) fn outcome(mut self, name: &str, seconds: f64) -> Outcome {
        self.close(f64::INFINITY);
        let count = self.intervals.len() as f64;
        let (mut late, mut over, mut over_in_mean, mut replica_ms) = (0, 0.0, 0.0, 0.0);
        let mut points = Vec::with_capacity(self.intervals.len());
        for (number, interval) in (0_u32..).zip(&self.intervals) {
            let from_s = f64::from(number) * self.interval_ms / 1000.0;
            let length_s = (self.interval_ms / 1000.0).min(seconds - from_s).max(f64::MIN_POSITIVE);
            let requests = f64::from(interval.requests);
            late += u64::from(interval.late);
            over += f64::from(u8::from(f64::from(interval.late) > requests * LATE_MAX));
            over_in_mean += f64::from(u8::from(interval.total_ms > requests * self.objective_ms));
            replica_ms += interval.replica_ms;
            points.push(Point {
                at_s: from_s,
                rate: requests / length_s,
                p99_ms: interval.p99_ms,
                replicas: interval.replica_ms / 1000.0 / length_s,
            });
        }
        Outcome {
            name: name.to_owned(),
            requests: self.requests,
            answered: self.all.count(),
            refused: self.refused,
            timed_out: self.timed_out,
            late,
            over: over / count,
            over_in_mean: over_in_mean / count,
            replicas: replica_ms / 1000.0 / seconds,
            replicas_max: at_most_u32(f64::from(self.replicas_max)),
            replica_hours: replica_ms / 3_600_000.0,
            failures: self.failures,
            p50_ms: self.all.quantile(0.5).unwrap_or_default(),
            p99_ms: self.all.quantile(0.99).unwrap_or_default(),
            changed: self.changed,
            changes: self.changes,
            points,
        }
    }
}
