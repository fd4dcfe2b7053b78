//! What is seen of one replica. Requests only add; the sweep alone reads, turns the windows and ejects.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{Ejection, IN_A_ROW, RAMP, SAMPLES_MIN, Standing, Told, ramp};

/// Part of a new latency in the mean. That is of logarithms, the geometric mean: one answer that takes a thousand times as long moves
/// it by half, and four of sixteen do what a slow replica does.
const WEIGHT: f64 = 1.0 / 16.0;

/// Counters of one replica. Two requests at once may lose one of their latencies, which a mean survives.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    in_a_row: AtomicU32,
    answered: AtomicU32,
    failed: AtomicU32,
    answered_before: AtomicU32,
    failed_before: AtomicU32,
    samples: AtomicU32,
    /// Bits of the mean logarithm of latencies in microseconds.
    latency_ln: AtomicU64,
    ejections: AtomicU32,
    /// Milliseconds, on the replica's own clock, until which it is out; zero when it never was.
    out_until_ms: AtomicU64,
    /// Whether its return is still to be told.
    returns: AtomicBool,
}

impl Meter {
    /// Notes an answer and the time until it began, where that was the replica's own. Whether the replica has now failed often enough
    /// in a row to be looked at.
    pub(crate) fn note(&self, told: Told, took: Option<Duration>) -> bool {
        self.answered.fetch_add(1, Relaxed);
        if told == Told::Fault {
            self.failed.fetch_add(1, Relaxed);
            return self.in_a_row.fetch_add(1, Relaxed).saturating_add(1) >= IN_A_ROW;
        }
        if self.in_a_row.load(Relaxed) > 0 {
            self.in_a_row.store(0, Relaxed);
        }
        let Some(took) = took else { return false };
        let ln = (took.as_secs_f64() * 1e6).max(1.0).ln();
        let samples = self.samples.load(Relaxed);
        let before = if samples == 0 { ln } else { f64::from_bits(self.latency_ln.load(Relaxed)) };
        self.latency_ln.store((before + (ln - before) * WEIGHT).to_bits(), Relaxed);
        if samples < SAMPLES_MIN {
            self.samples.store(samples + 1, Relaxed);
        }
        false
    }

    /// Whether it is out.
    pub(crate) fn is_out(&self, now_ms: u64) -> bool {
        self.out_until_ms.load(Relaxed) > now_ms
    }

    /// Whether it takes a request that drew `draw` of a thousand: one that has just come back takes few.
    pub(crate) fn takes(&self, now_ms: u64, draw: impl Fn() -> u64) -> bool {
        match self.out_until_ms.load(Relaxed) {
            0 => true,
            until_ms if until_ms > now_ms => false,
            until_ms => {
                let back = Duration::from_millis(now_ms - until_ms);
                back >= RAMP || draw() < ramp(back)
            }
        }
    }

    /// How it stands beside its siblings.
    pub(super) fn standing(&self, now_ms: u64) -> Standing {
        let until_ms = self.out_until_ms.load(Relaxed);
        let both = |one: &AtomicU32, before: &AtomicU32| one.load(Relaxed).saturating_add(before.load(Relaxed));
        Standing {
            out: Duration::from_millis(until_ms.saturating_sub(now_ms)),
            ejections: self.ejections.load(Relaxed),
            back: Duration::from_millis(now_ms.saturating_sub(until_ms)),
            in_a_row: self.in_a_row.load(Relaxed),
            answered: both(&self.answered, &self.answered_before),
            failed: both(&self.failed, &self.failed_before),
            samples: self.samples.load(Relaxed),
            latency_us: f64::from_bits(self.latency_ln.load(Relaxed)).exp(),
        }
    }

    /// Begins the next window.
    pub(super) fn turn(&self) {
        self.answered_before.store(self.answered.swap(0, Relaxed), Relaxed);
        self.failed_before.store(self.failed.swap(0, Relaxed), Relaxed);
    }

    /// Takes it out.
    pub(super) fn eject(&self, now_ms: u64, ejection: &Ejection) {
        let ms = u64::try_from(ejection.time.as_millis()).unwrap_or(u64::MAX);
        self.ejections.store(ejection.ejections, Relaxed);
        self.out_until_ms.store(now_ms.saturating_add(ms), Relaxed);
        self.returns.store(true, Relaxed);
        self.clear();
    }

    /// Takes it back before its time.
    pub(super) fn readmit(&self, now_ms: u64) {
        self.out_until_ms.store(now_ms.max(1), Relaxed);
    }

    /// Forgets what was seen: answers to requests from before an ejection say nothing of after it.
    pub(super) fn clear(&self) {
        for counter in
            [&self.in_a_row, &self.answered, &self.failed, &self.answered_before, &self.failed_before, &self.samples]
        {
            counter.store(0, Relaxed);
        }
    }

    /// Whether it has come back since this was last asked.
    pub(super) fn has_returned(&self, now_ms: u64) -> bool {
        !self.is_out(now_ms) && self.returns.swap(false, Relaxed)
    }
}
