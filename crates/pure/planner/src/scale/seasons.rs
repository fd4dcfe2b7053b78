//! What the load was at each minute of the day: a day that resembles the last one can be known ahead.

use std::collections::BTreeMap;

/// Minutes of a day.
const MINUTES: u64 = 24 * 60;
const MINUTE_MS: u64 = 60_000;
/// Weight of the newest day.
const NEW: f64 = 0.6;
/// What is below this many requests per second counts as this many, so that a quiet night makes no ratio of hundreds.
const FLOOR: f64 = 0.1;
/// A change within one start-up time by more than this is not believed.
const CHANGE_MAX: f64 = 3.0;

/// Requests per second by the minute of the day; at most one number for each minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seasons {
    known: BTreeMap<u64, f64>,
    minute: u64,
    sum: f64,
    count: f64,
}

impl Seasons {
    /// Learns one second.
    pub(super) fn learn(&mut self, at_ms: u64, rate: f64) {
        let minute = at_ms / MINUTE_MS;
        if minute != self.minute {
            if self.count > 0.0 {
                let mean = self.sum / self.count;
                let before = self.known.entry(self.minute % MINUTES).or_insert(mean);
                *before += NEW * (mean - *before);
            }
            (self.minute, self.sum, self.count) = (minute, 0.0, 0.0);
        }
        self.sum += rate;
        self.count += 1.0;
    }

    /// How many times the load of `at_ms` there is at `then_ms`, by earlier days; nothing on the first.
    pub(super) fn change(&self, at_ms: u64, then_ms: u64) -> Option<f64> {
        // The minutes of today are known too; before a whole day is over they say nothing about what follows.
        let (now, then) = (self.at(at_ms)?, self.at(then_ms)?);
        Some((then.max(FLOOR) / now.max(FLOOR)).clamp(1.0 / CHANGE_MAX, CHANGE_MAX))
    }

    /// Between the middles of two minutes.
    fn at(&self, at_ms: u64) -> Option<f64> {
        let shifted = at_ms + MINUTES * MINUTE_MS - MINUTE_MS / 2;
        let (minute, into) = (shifted / MINUTE_MS, shifted % MINUTE_MS);
        let one = self.known.get(&(minute % MINUTES))?;
        let next = self.known.get(&((minute + 1) % MINUTES))?;
        Some(one + (next - one) * into as f64 / MINUTE_MS as f64)
    }
}
