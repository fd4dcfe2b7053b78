//! What the gateway counted in the last minutes, second by second. In memory alone: after a restart it is learnt anew.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use planner::scale::WINDOWS_MAX;
use resources::{
    id::{Revision, ServiceName},
    window::{GatewayWindow, RevisionWindow, ServiceWindow},
};

/// Longest window: a gateway that was held up this long has nothing to say that helps.
const SPAN_MS_MAX: u64 = 60_000;
/// How far the end of a window may be from now: both clocks are the same machine's.
const CLOCK_MS_MAX: u64 = 60_000;
/// Services in one window, as many as a gateway serves.
const SERVICES_MAX: usize = 10_000;
/// Revisions of a service in one window, as many as a gateway serves.
const REVISIONS_MAX: usize = 1_000;
/// Revisions in all windows together, at a few hundred bytes each: with more, the memory is shorter than ten minutes.
const RECORDS_MAX: usize = 500_000;

/// The last windows, each shared with who reads it.
#[derive(Debug, Default)]
pub(crate) struct Windows(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    windows: VecDeque<Arc<GatewayWindow>>,
    records: usize,
}

impl Windows {
    /// Keeps a window that came at `now_ms`. Gives whether anything happened in it.
    pub(crate) fn take(&self, mut window: GatewayWindow, now_ms: u64) -> Result<bool, String> {
        check(&window, now_ms)?;
        let mut kept = self.kept();
        let last = kept.windows.back().map_or(0, |last| last.end_ms);
        if window.end_ms + CLOCK_MS_MAX < last {
            // The clock was set back: what came before it cannot be put in order with what comes now.
            *kept = Kept::default();
        } else {
            // Two gateways report for a moment while one replaces the other. Who remembers the last end misses neither.
            window.end_ms = window.end_ms.max(last + 1);
        }
        let happened = !window.services.is_empty();
        kept.records += records(&window);
        kept.windows.push_back(Arc::new(window));
        while kept.windows.len() > WINDOWS_MAX || (kept.records > RECORDS_MAX && kept.windows.len() > 1) {
            let oldest = kept.windows.pop_front();
            kept.records -= oldest.map_or(0, |oldest| records(&oldest));
        }
        Ok(happened)
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<Arc<GatewayWindow>> {
        self.kept().windows.back().cloned()
    }

    /// Windows that ended after `end_ms`, oldest first.
    pub(crate) fn after(&self, end_ms: u64) -> Vec<Arc<GatewayWindow>> {
        let kept = self.kept();
        let from = kept.windows.partition_point(|window| window.end_ms <= end_ms);
        kept.windows.range(from..).cloned().collect()
    }

    /// What a revision did in windows that ended after `end_ms`, oldest first, each with its end. Seconds in which it did nothing
    /// are left out.
    pub(crate) fn of_revision(
        &self,
        name: &ServiceName,
        revision: Revision,
        end_ms: u64,
    ) -> Vec<(u64, RevisionWindow)> {
        let windows = self.after(end_ms);
        let of = |window: &Arc<GatewayWindow>| {
            let found = find(window, name)?.revisions.iter().find(|found| found.revision == revision)?;
            Some((window.end_ms, found.clone()))
        };
        windows.iter().filter_map(of).collect()
    }

    /// Forgets a service that is gone: another one may get its name.
    pub(crate) fn forget(&self, name: &ServiceName) {
        let mut kept = self.kept();
        for window in &mut kept.windows {
            if find(window, name).is_some() {
                Arc::make_mut(window).services.retain(|service| &service.name != name);
            }
        }
        kept.records = kept.windows.iter().map(|window| records(window)).sum();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a window says of a service; nothing when nothing happened to it.
pub(crate) fn find<'a>(window: &'a GatewayWindow, name: &ServiceName) -> Option<&'a ServiceWindow> {
    window.services.iter().find(|service| &service.name == name)
}

fn records(window: &GatewayWindow) -> usize {
    window.services.iter().map(|service| 1 + service.revisions.len()).sum()
}

fn check(window: &GatewayWindow, now_ms: u64) -> Result<(), String> {
    let GatewayWindow { end_ms, span_ms, services } = window;
    if !(1..=SPAN_MS_MAX).contains(span_ms) {
        return Err(format!("`spanMs` is {span_ms}, expected 1 to {SPAN_MS_MAX}"));
    }
    if end_ms.abs_diff(now_ms) > CLOCK_MS_MAX {
        return Err(format!("`endMs` is {end_ms} and it is {now_ms} now"));
    }
    if services.len() > SERVICES_MAX || services.iter().any(|service| service.revisions.len() > REVISIONS_MAX) {
        return Err(format!("there are more than {SERVICES_MAX} services, or {REVISIONS_MAX} revisions of one"));
    }
    let names: BTreeSet<&ServiceName> = services.iter().map(|service| &service.name).collect();
    if names.len() != services.len() {
        return Err("a service is there twice".to_owned());
    }
    let wrong = |revision: &RevisionWindow| revision.errors > revision.answered;
    match services.iter().find(|service| service.revisions.iter().any(wrong)) {
        Some(service) => Err(format!("`{}` has more errors than answers", service.name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use resources::histogram::Histogram;

    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::parse(text).unwrap()
    }

    fn window(end_ms: u64, held: u32) -> GatewayWindow {
        let revision = RevisionWindow {
            revision: Revision(1),
            answered: 3,
            errors: 1,
            busy_ms: 5,
            latency: Histogram::default(),
            service: Histogram::default(),
        };
        let spam =
            ServiceWindow { name: name("spam"), arrivals: 3, held, held_ms: 0, refused: 0, revisions: vec![revision] };
        GatewayWindow { end_ms, span_ms: 1000, services: vec![spam] }
    }

    #[test]
    fn readers_go_on_where_they_were() {
        let windows = Windows::default();
        for end_ms in [1000, 2000, 3000] {
            assert_eq!(windows.take(window(end_ms, 0), 3000), Ok(true));
        }
        let ends = |after| windows.after(after).iter().map(|window| window.end_ms).collect::<Vec<_>>();
        assert_eq!((ends(0), ends(1000), ends(3000)), (vec![1000, 2000, 3000], vec![2000, 3000], vec![]));
        assert_eq!(windows.of_revision(&name("spam"), Revision(1), 1000).len(), 2);
        assert_eq!(windows.of_revision(&name("spam"), Revision(2), 0), []);
        // A second gateway, for a moment: its window is seen too.
        windows.take(window(2500, 0), 3000).unwrap();
        assert_eq!(ends(3000), [3001]);
        assert_eq!(windows.take(GatewayWindow { services: Vec::new(), ..window(4000, 0) }, 4000), Ok(false));
        windows.forget(&name("spam"));
        assert_eq!(windows.of_revision(&name("spam"), Revision(1), 0), []);
    }

    #[test]
    fn windows_are_bounded_and_a_clock_that_is_set_back_begins_anew() {
        let windows = Windows::default();
        for second in 1..=700 {
            windows.take(window(second * 1000, 0), second * 1000).unwrap();
        }
        let kept = windows.after(0);
        assert_eq!((kept.len(), kept[0].end_ms), (WINDOWS_MAX, 101_000));
        windows.take(window(5000, 0), 5000).unwrap();
        assert_eq!(windows.after(0).len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let windows = Windows::default();
        let wrong = [
            GatewayWindow { span_ms: 0, ..window(1000, 0) },
            GatewayWindow { span_ms: SPAN_MS_MAX + 1, ..window(1000, 0) },
            window(CLOCK_MS_MAX + 1001, 0),
            GatewayWindow { services: [window(1, 0).services, window(1, 0).services].concat(), ..window(1000, 0) },
        ];
        for window in wrong {
            assert!(windows.take(window.clone(), 1000).is_err(), "{window:?}");
        }
        let mut errors = window(1000, 0);
        errors.services[0].revisions[0].errors = 4;
        assert!(windows.take(errors, 1000).is_err());
    }
}
