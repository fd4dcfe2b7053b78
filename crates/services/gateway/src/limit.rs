//! How much work is let in: decisions over counters, and the counters.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What is in flight and what may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Requests in flight, this one among them.
    pub now: usize,
    /// Requests that may be in flight.
    pub max: usize,
}

impl Load {
    /// Whether the request that was just counted may go on.
    pub(crate) fn admits(self) -> bool {
        self.now <= self.max
    }
}

/// Requests of one service that wait for a replica: half of what a gateway holds unless told otherwise, so that one service
/// without replicas does not shut out the others.
pub(crate) const HELD_MAX: u32 = 512;

/// Requests that one service may have in flight: its concurrency times its replicas. While no replica is ready as many are let
/// in as may wait for one.
pub(crate) fn service_max(container_concurrency: Option<u32>, replicas: usize) -> usize {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    match container_concurrency {
        None | Some(0) => usize::MAX,
        Some(each) if replicas == 0 => count(each.max(HELD_MAX)),
        Some(each) => count(each).saturating_mul(replicas),
    }
}

/// Counts requests in flight, or bytes held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

/// A share of a counter, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    counter: Counter,
    amount: usize,
}

impl Counter {
    /// What is counted now.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes `amount`, unless that passes `max`.
    pub(crate) fn take(&self, amount: usize, max: usize) -> Option<Share> {
        let before = self.0.fetch_add(amount, Ordering::Relaxed);
        let share = Share { counter: self.clone(), amount };
        Load { now: before.saturating_add(amount), max }.admits().then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.counter.0.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_a_limit_has_none() {
        assert_eq!(service_max(None, 3), usize::MAX);
        assert_eq!(service_max(Some(0), 3), usize::MAX);
        assert_eq!(service_max(Some(4), 3), 12);
        assert_eq!(service_max(Some(4), 0), 512);
    }

    #[test]
    fn shares_come_back() {
        let counter = Counter::default();
        let first = counter.take(1, 2).unwrap();
        let second = counter.take(1, 2).unwrap();
        assert!(counter.take(1, 2).is_none());
        assert_eq!(counter.get(), 2);
        drop(first);
        assert!(counter.take(1, 2).is_some());
        drop(second);
        assert_eq!(counter.get(), 0);
    }
}
