//! What runs cost as they go, and whether the next one may run on a thread that reads requests.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::placement::{Cost, STUCK_AFTER};

/// The cost of a model, learnt from its runs. Its words are read and written one by one: an update that is lost to another
/// one is made up for by the next run.
#[derive(Debug)]
pub(super) struct Pace {
    measured: Cost,
    run_nanos: AtomicU64,
    epoch: Instant,
    inline_running: AtomicUsize,
    /// When inline runs began to follow each other without a gap, in nanoseconds since `epoch`.
    inline_begun: AtomicU64,
}

/// An inline run, until it is dropped.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a Pace);

impl Pace {
    pub(super) fn new(measured: Cost) -> Self {
        Self {
            measured,
            run_nanos: AtomicU64::new(nanos(measured.run)),
            epoch: Instant::now(),
            inline_running: AtomicUsize::new(0),
            inline_begun: AtomicU64::new(0),
        }
    }

    pub(super) fn cost(&self) -> Cost {
        Cost { run: Duration::from_nanos(self.run_nanos.load(Ordering::Relaxed)), ..self.measured }
    }

    pub(super) fn learn(&self, bytes: usize, took: Duration) {
        self.run_nanos.store(nanos(self.cost().learn(bytes, took).run), Ordering::Relaxed);
    }

    /// A run of several requests takes no less than that of the biggest one alone, which has `bytes`: it shows that a model
    /// is cheap, and never that it is not.
    pub(super) fn learn_joined(&self, bytes: usize, took: Duration) {
        let learnt = self.cost().learn(bytes, took);
        if learnt.run < self.cost().run {
            self.run_nanos.store(nanos(learnt.run), Ordering::Relaxed);
        }
    }

    /// Whether a request may run where it was read: it is small, and no thread is held up by one that was not.
    pub(super) fn inline(&self, bytes: usize) -> bool {
        self.cost().inline(bytes) && !self.is_stuck()
    }

    pub(super) fn begin_inline(&self) -> Running<'_> {
        if self.inline_running.fetch_add(1, Ordering::Relaxed) == 0 {
            self.inline_begun.store(self.now(), Ordering::Relaxed);
        }
        Running(self)
    }

    fn is_stuck(&self) -> bool {
        let running = self.inline_running.load(Ordering::Relaxed) > 0;
        let begun = self.inline_begun.load(Ordering::Relaxed);
        running && self.now().saturating_sub(begun) > nanos(STUCK_AFTER)
    }

    fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.inline_running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(Cost { run: Duration::from_micros(10), bytes: 4, typical: true })
    }

    #[test]
    fn a_thread_that_is_held_up_gets_no_company() {
        let pace = pace();
        assert!(pace.inline(4));
        let first = pace.begin_inline();
        let second = pace.begin_inline();
        while !pace.is_stuck() {
            std::hint::spin_loop();
        }
        drop(second);
        assert!(!pace.inline(4));
        drop(first);
        assert!(pace.inline(4));
    }

    #[test]
    fn a_model_that_turns_out_slow_is_not_run_inline() {
        let pace = pace();
        pace.learn(4, Duration::from_secs(1));
        assert!(!pace.inline(4));
        assert!(pace.cost().run > Duration::from_millis(100));
        let before = pace.cost().run;
        pace.learn_joined(4, Duration::from_secs(2));
        assert_eq!(pace.cost().run, before);
        pace.learn_joined(4, Duration::from_micros(10));
        assert!(pace.cost().run < before);
    }
}
