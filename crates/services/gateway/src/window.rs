//! What is counted for scaling and rollouts, and the difference of two readings: a window.
//!
//! Counting takes no lock, no allocation and no look at the clock: it is a handful of relaxed additions for each request.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use resources::{
    histogram::{BUCKETS, Histogram, bucket},
    id::{Revision, ServiceName},
    window::{GatewayWindow, RevisionWindow, ServiceWindow, WINDOW_MS},
};
use tokio::time::Instant;

/// What longer times count at most at their end: before that they were seen in flight at the end of each window.
const PART_MAX: Duration = Duration::from_millis(WINDOW_MS);

/// Durations by bucket.
#[derive(Debug)]
struct Tally {
    counts: [AtomicU32; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; BUCKETS], sum_us: AtomicU64::new(0) }
    }
}

impl Tally {
    fn record(&self, us: u64) {
        if let Some(count) = self.counts.get(bucket(us as f64 / 1000.0)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn read(&self) -> TallyReading {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        TallyReading { counts, sum_us: self.sum_us.load(Ordering::Relaxed) }
    }
}

/// Tells counters apart that are of the same name: of a service that was deleted and made again.
#[derive(Debug)]
struct Identity(u64);

impl Default for Identity {
    fn default() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self(MADE.fetch_add(1, Ordering::Relaxed))
    }
}

/// What is counted of a service.
#[derive(Debug, Default)]
pub(crate) struct ServiceCounts {
    identity: Identity,
    arrivals: AtomicU32,
    refused: AtomicU32,
    held: AtomicU32,
    held_us: AtomicU64,
    /// Whose turn it is of those that wait and name no revision.
    pub line: Line,
}

/// Requests that wait for a replica, in the order in which they came: the one that holds the lock is the first.
pub(crate) type Line = tokio::sync::Mutex<()>;

impl ServiceCounts {
    /// A request for a prediction was let in.
    pub(crate) fn arrived(&self) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
    }

    /// A request found no replica in time, or no room.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A request begins to wait, unless `max` do already. Gives how many waited before.
    pub(crate) fn wait(&self, max: u32) -> Option<(Waiting<'_>, u32)> {
        let before = self.held.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { counts: self, since: Instant::now() };
        (before < max).then_some((waiting, before))
    }

    fn read(&self) -> ServiceReading {
        ServiceReading {
            identity: self.identity.0,
            arrivals: self.arrivals.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
            held_us: self.held_us.load(Ordering::Relaxed),
            revisions: BTreeMap::new(),
        }
    }
}

/// A request that waits; it does until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    counts: &'a ServiceCounts,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed().min(PART_MAX);
        self.counts.held_us.fetch_add(micros(waited), Ordering::Relaxed);
        self.counts.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is counted of a revision.
#[derive(Debug, Default)]
pub(crate) struct RevisionCounts {
    identity: Identity,
    answered: AtomicU32,
    errors: AtomicU32,
    busy_us: AtomicU64,
    latency: Tally,
    service: Tally,
    /// Whose turn it is of those that wait for this revision.
    pub line: Line,
}

/// A prediction that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// From its coming to the end of its answer.
    pub latency: Duration,
    /// The part of it at the replica.
    pub service: Duration,
    /// Whether it failed by the revision's fault.
    pub failed: bool,
}

impl RevisionCounts {
    /// Counts an answer.
    pub(crate) fn answered(&self, answer: Answered) {
        self.latency.record(micros(answer.latency));
        self.service.record(micros(answer.service));
        self.busy_us.fetch_add(micros(answer.service.min(PART_MAX)), Ordering::Relaxed);
        self.errors.fetch_add(u32::from(answer.failed), Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was sent to a replica and never answered.
    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, in_flight: usize) -> RevisionReading {
        RevisionReading {
            identity: self.identity.0,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            answered: self.answered.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            busy_us: self.busy_us.load(Ordering::Relaxed),
            latency: self.latency.read(),
            service: self.service.read(),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// All counters of a gateway at one time, by service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading(BTreeMap<String, ServiceReading>);

#[derive(Clone, Debug, Default)]
struct ServiceReading {
    identity: u64,
    arrivals: u32,
    refused: u32,
    held: u32,
    held_us: u64,
    revisions: BTreeMap<Revision, RevisionReading>,
}

#[derive(Clone, Debug, Default)]
struct RevisionReading {
    identity: u64,
    in_flight: u32,
    answered: u32,
    errors: u32,
    busy_us: u64,
    latency: TallyReading,
    service: TallyReading,
}

#[derive(Clone, Debug, Default)]
struct TallyReading {
    /// By bucket; empty stands for zeros.
    counts: Vec<u32>,
    sum_us: u64,
}

impl Reading {
    /// Adds a service. Its revisions follow.
    pub(crate) fn service(&mut self, name: &str, counts: &ServiceCounts) {
        self.0.insert(name.to_owned(), counts.read());
    }

    /// Adds a revision of a service, at whose replicas so many requests are.
    pub(crate) fn revision(&mut self, name: &str, (revision, in_flight): (Revision, usize), counts: &RevisionCounts) {
        if let Some(service) = self.0.get_mut(name) {
            service.revisions.insert(revision, counts.read(in_flight));
        }
    }
}

/// What happened between two readings that are `span_ms` apart. Services that nothing happened to are left out.
pub(crate) fn between(before: &Reading, after: &Reading, (end_ms, span_ms): (u64, u64)) -> GatewayWindow {
    let zero = ServiceReading::default();
    let services = after.0.iter().filter_map(|(name, now)| {
        let known = before.0.get(name).filter(|known| known.identity == now.identity);
        service(name, known.unwrap_or(&zero), now, span_ms)
    });
    GatewayWindow { end_ms, span_ms, services: services.collect() }
}

fn service(name: &str, before: &ServiceReading, now: &ServiceReading, span_ms: u64) -> Option<ServiceWindow> {
    let zero = RevisionReading::default();
    let revisions = now.revisions.iter().filter_map(|(number, now)| {
        let known = before.revisions.get(number).filter(|known| known.identity == now.identity);
        revision(*number, known.unwrap_or(&zero), now, span_ms)
    });
    let window = ServiceWindow {
        name: ServiceName::parse(name).ok()?,
        arrivals: now.arrivals.wrapping_sub(before.arrivals),
        held: now.held,
        held_ms: part_ms(now.held_us.wrapping_sub(before.held_us), before.held.min(now.held), span_ms),
        refused: now.refused.wrapping_sub(before.refused),
        revisions: revisions.collect(),
    };
    let ServiceWindow { arrivals, held, held_ms, refused, revisions, .. } = &window;
    let idle = *arrivals == 0 && *held == 0 && *held_ms == 0 && *refused == 0 && revisions.is_empty();
    (!idle).then_some(window)
}

fn revision(
    revision: Revision,
    before: &RevisionReading,
    now: &RevisionReading,
    span_ms: u64,
) -> Option<RevisionWindow> {
    let answered = now.answered.wrapping_sub(before.answered);
    let busy_us = now.busy_us.wrapping_sub(before.busy_us);
    let busy_ms = part_ms(busy_us, before.in_flight.min(now.in_flight), span_ms);
    if answered == 0 && busy_ms == 0 {
        return None;
    }
    Some(RevisionWindow {
        revision,
        answered,
        // The two are counted one after the other, and a reading may fall in between.
        errors: now.errors.wrapping_sub(before.errors).min(answered),
        busy_ms,
        latency: histogram(&before.latency, &now.latency),
        service: histogram(&before.service, &now.service),
    })
}

/// Milliseconds of what ended in a window, or of as many as were there at both of its ends, whichever is more: what is short is
/// counted when it is over, and what is long while it lasts.
fn part_ms(ended_us: u64, throughout: u32, span_ms: u64) -> u64 {
    ended_us.div_ceil(1000).max(u64::from(throughout).saturating_mul(span_ms))
}

fn histogram(before: &TallyReading, now: &TallyReading) -> Histogram {
    let known = before.counts.iter().copied().chain(std::iter::repeat(0));
    let counts = now.counts.iter().zip(known).map(|(now, before)| now.wrapping_sub(before));
    Histogram::of(counts, now.sum_us.wrapping_sub(before.sum_us) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn read(service: &ServiceCounts, revision: &RevisionCounts, in_flight: usize) -> Reading {
        let mut reading = Reading::default();
        reading.service("spam", service);
        reading.revision("spam", (Revision(3), in_flight), revision);
        reading
    }

    fn answer(service_ms: u32, failed: bool) -> Answered {
        Answered { latency: service_ms * MS + MS, service: service_ms * MS, failed }
    }

    #[test]
    fn a_window_is_the_difference_of_two_readings() {
        let (service, revision) = (ServiceCounts::default(), RevisionCounts::default());
        service.arrived();
        revision.answered(answer(7, true));
        let before = read(&service, &revision, 0);
        for _ in 0..3 {
            service.arrived();
        }
        service.refused();
        revision.answered(answer(20, false));
        revision.answered(answer(40, true));
        revision.failed();
        let after = read(&service, &revision, 1);
        let window = between(&before, &after, (5000, 1000));
        assert_eq!((window.end_ms, window.span_ms, window.services.len()), (5000, 1000, 1));
        let spam = &window.services[0];
        assert_eq!((spam.arrivals, spam.held, spam.held_ms, spam.refused), (3, 0, 0, 1));
        let [third] = spam.revisions.as_slice() else { panic!("{spam:?}") };
        assert_eq!((third.revision, third.answered, third.errors, third.busy_ms), (Revision(3), 3, 2, 60));
        assert_eq!((third.service.count(), third.service.mean()), (2, Some(30.0)));
        assert_eq!((third.latency.count(), third.latency.mean()), (2, Some(31.0)));
        let idle = read(&service, &revision, 0);
        assert_eq!(between(&after, &idle, (6000, 1000)).services, []);
    }

    #[test]
    fn what_lasts_longer_than_a_window_is_busy_in_each() {
        let (service, revision) = (ServiceCounts::default(), RevisionCounts::default());
        let readings: Vec<Reading> = (0..3).map(|_| read(&service, &revision, 4)).collect();
        let window = between(&readings[0], &readings[1], (2000, 1000));
        let [first] = window.services[0].revisions.as_slice() else { panic!("{window:?}") };
        assert_eq!((first.answered, first.busy_ms), (0, 4000));
        // Their end adds no more than the last part of them.
        for _ in 0..4 {
            revision.answered(answer(9000, false));
        }
        let window = between(&readings[2], &read(&service, &revision, 0), (3000, 1000));
        assert_eq!(window.services[0].revisions[0].busy_ms, 4000);
    }

    #[test]
    fn who_waits_is_seen_while_waiting_and_counted_after() {
        let (service, revision) = (ServiceCounts::default(), RevisionCounts::default());
        let (first, before) = service.wait(2).unwrap();
        assert_eq!(before, 0);
        let (second, before) = service.wait(2).unwrap();
        assert_eq!(before, 1);
        assert!(service.wait(2).is_none(), "there is room for two");
        let waiting = read(&service, &revision, 0);
        let window = between(&Reading::default(), &waiting, (1000, 1000));
        assert_eq!(window.services[0].held, 2);
        assert_eq!(between(&waiting, &waiting, (2000, 1000)).services[0].held_ms, 2000);
        drop((first, second));
        assert_eq!(read(&service, &revision, 0).0["spam"].held, 0);
    }

    #[test]
    fn a_service_that_was_made_again_counts_from_zero() {
        let (service, revision) = (ServiceCounts::default(), RevisionCounts::default());
        (0..5).for_each(|_| service.arrived());
        let before = read(&service, &revision, 0);
        let (again, revision) = (ServiceCounts::default(), RevisionCounts::default());
        again.arrived();
        let window = between(&before, &read(&again, &revision, 0), (1000, 1000));
        assert_eq!(window.services[0].arrivals, 1);
    }
}
