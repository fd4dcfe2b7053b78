//! How much load there is now, how irregular it is, and where it is going.

use super::window::{Window, arrival_rate, last};

/// Windows that irregularity and slope are taken from.
const TREND_MS: u64 = 30_000;
/// The median of a squared standard normal variable: what makes a median of squares an estimate of their mean.
const MEDIAN_OF_SQUARE: f64 = 0.455;
/// More than this no queue formula means anything.
const DISPERSION_MAX: f64 = 50.0;
/// How many standard deviations a short burst must be above the mean to count as a new level.
const SURE: f64 = 3.0;

/// The load now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    /// Requests per second over the short window.
    pub mean: f64,
    /// Requests per second that there surely are: a jump shows within a second or two, before the mean has followed.
    pub now: f64,
    /// By how many requests per second it grows each second.
    pub slope: f64,
    /// Variance of counts by their mean: 1 for independent arrivals, more for bursts.
    pub dispersion: f64,
    /// Seconds that the mean lags behind.
    pub lag_s: f64,
}

pub(super) fn level(windows: &[Window], now_ms: u64, short_ms: u64) -> Level {
    let short = last(windows, now_ms, short_ms);
    let mean = arrival_rate(short);
    let long = last(windows, now_ms, TREND_MS);
    let dispersion = dispersion(last(windows, now_ms, 2 * TREND_MS));
    let jump = [1.0, 2.0, 3.0].map(|seconds| {
        let rate = arrival_rate(last(windows, now_ms, super::whole(seconds * 1000.0)));
        rate - SURE * (rate * dispersion / seconds).sqrt()
    });
    let slope = slope(long);
    let lag_s = short.len() as f64 / 2.0;
    // What the slope surely adds to a mean that lags behind.
    let count = (long.len() as f64).max(1.0);
    let unsure = (mean * dispersion * 12.0 / (count * count * count)).sqrt();
    let risen = mean + (slope - SURE * unsure).max(0.0) * lag_s;
    let now = jump.into_iter().fold(risen, f64::max);
    Level { mean, now, slope, dispersion, lag_s }
}

/// From differences of neighbours, whose median does not see steps.
fn dispersion(windows: &[Window]) -> f64 {
    let mean = arrival_rate(windows);
    let following = windows.iter().skip(1);
    let mut squares: Vec<f64> = windows
        .iter()
        .zip(following)
        .map(|(one, next)| (f64::from(next.arrivals) - f64::from(one.arrivals)).powi(2) / 2.0)
        .collect();
    squares.sort_by(f64::total_cmp);
    let median = squares.get(squares.len() / 2).copied().unwrap_or_default();
    // Counts so small that most neighbours are equal say nothing about bursts.
    if mean < 1.0 { 1.0 } else { (median / MEDIAN_OF_SQUARE / mean).clamp(1.0, DISPERSION_MAX) }
}

/// Least squares over the windows.
fn slope(windows: &[Window]) -> f64 {
    let count = windows.len() as f64;
    if count < 3.0 {
        return 0.0;
    }
    let (middle, mean) = ((count - 1.0) / 2.0, arrival_rate(windows));
    let mut at = -middle;
    let (mut products, mut squares) = (0.0, 0.0);
    for window in windows {
        products += at * (f64::from(window.arrivals) - mean);
        squares += at * at;
        at += 1.0;
    }
    products / squares
}
