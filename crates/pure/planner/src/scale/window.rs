//! One second of a service, and means over several.

use resources::histogram::Histogram;

/// Windows that a decision looks at, at most: ten minutes, ten times Knative's stable window.
pub const WINDOWS_MAX: usize = 600;

/// One second of one service, as its gateway saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// When it began, milliseconds.
    pub start_ms: u64,
    /// Requests that came.
    pub arrivals: u32,
    /// Requests at replicas, in the mean.
    pub in_service: f64,
    /// Requests that waited for a replica, in the mean.
    pub held: f64,
    /// Replicas that answered, in the mean.
    pub ready: f64,
    /// Time of answered requests from their coming to their answer.
    pub latency: Histogram,
    /// The part of it at a replica.
    pub service: Histogram,
}

/// The windows that began in the last `span_ms`.
pub(super) fn last(windows: &[Window], now_ms: u64, span_ms: u64) -> &[Window] {
    let from = now_ms.saturating_sub(span_ms);
    let first = windows.partition_point(|window| window.start_ms < from);
    windows.get(first..).unwrap_or_default()
}

/// The mean of something over windows; 0 without any.
pub(super) fn mean(windows: &[Window], of: impl Fn(&Window) -> f64) -> f64 {
    if windows.is_empty() {
        return 0.0;
    }
    windows.iter().map(of).sum::<f64>() / windows.len() as f64
}

/// Requests that came per second.
pub(super) fn arrival_rate(windows: &[Window]) -> f64 {
    mean(windows, |window| f64::from(window.arrivals))
}

/// Requests at replicas and waiting for one, in the mean.
pub(super) fn concurrency(windows: &[Window]) -> f64 {
    mean(windows, |window| window.in_service + window.held)
}

/// Share of the capacity of ready replicas that was busy.
pub(super) fn utilisation(windows: &[Window], concurrency: u32) -> f64 {
    let ready = mean(windows, |window| window.ready) * f64::from(concurrency);
    if ready > 0.0 { mean(windows, |window| window.in_service) / ready } else { 0.0 }
}
