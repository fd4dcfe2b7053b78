//! What was measured: exact latencies, percentiles, failures by kind.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::Window;

/// Latencies kept: half an hour at ten thousand a second, 72 MB.
const SAMPLES_MAX: usize = 18_000_000;

/// Latencies and failures of one connection or of all.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    latencies_us: Vec<u32>,
    failures: BTreeMap<String, u64>,
}

/// The report, printed as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    requests: usize,
    requests_per_second: f64,
    seconds: f64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    mean_us: f64,
    p50_us: u32,
    p90_us: u32,
    p99_us: u32,
    p999_us: u32,
    max_us: u32,
}

impl Samples {
    /// Counts a request that was answered well, if it ended inside the window.
    pub(crate) fn success(&mut self, window: Window, started: std::time::Instant) {
        let now = std::time::Instant::now();
        if now >= window.counts_from && now <= window.ends && self.latencies_us.len() < SAMPLES_MAX {
            self.latencies_us.push(u32::try_from((now - started).as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Counts a request that was not. Failures count in the warm-up too: they are never right.
    pub(crate) fn failure(&mut self, kind: String) {
        *self.failures.entry(kind).or_default() += 1;
    }

    /// Adds another connection's samples.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
    }

    /// Sorts and sums up.
    pub(crate) fn report(mut self, window: Duration) -> Report {
        self.latencies_us.sort_unstable();
        let requests = self.latencies_us.len();
        let count = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
        let sum: f64 = self.latencies_us.iter().map(|us| f64::from(*us)).sum();
        let seconds = window.as_secs_f64();
        Report {
            requests,
            requests_per_second: count / seconds,
            seconds,
            failed: self.failures.values().sum(),
            mean_us: sum / count.max(1.0),
            p50_us: self.percentile(500),
            p90_us: self.percentile(900),
            p99_us: self.percentile(990),
            p999_us: self.percentile(999),
            max_us: self.percentile(1000),
            failures: self.failures,
        }
    }

    /// Nearest rank: the smallest latency that `per_mille` of the requests did not pass.
    fn percentile(&self, per_mille: usize) -> u32 {
        let rank = (self.latencies_us.len() * per_mille).div_ceil(1000);
        self.latencies_us.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples = Samples { latencies_us: (1..=200).collect(), ..Samples::default() };
        assert_eq!(samples.percentile(500), 100);
        assert_eq!(samples.percentile(990), 198);
        assert_eq!(samples.percentile(1000), 200);
        assert_eq!(Samples::default().percentile(990), 0);
    }
}
