//! What is remembered of replicas that ended by themselves, and how long to wait before the next start.

use resources::id::{ReplicaId, Revision, ServiceName};

/// Longest wait between two starts. Kubernetes waits up to five minutes; a person at a laptop does not.
const BACKOFF_MS_MAX: u64 = 60_000;
/// First wait, after the second failure in a row.
const BACKOFF_MS_FIRST: u64 = 1_000;
/// Time as a ready replica after which what went wrong before says nothing about the next start.
pub(crate) const HEALTHY_MS: u64 = 60_000;
/// Failures in a row from which a revision is said to crash-loop, and from which one replica is tried at a time.
pub(crate) const LOOP_STREAK: u32 = 2;

/// How a replica ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// When it was started, milliseconds.
    pub started_ms: u64,
    /// When it ended, milliseconds.
    pub at_ms: u64,
    /// How, in words: `exit code 3`, `signal 9`.
    pub how: String,
    /// How long it had been ready, milliseconds; `None` when it never was.
    pub ready_for_ms: Option<u64>,
    /// The last lines of its log.
    pub log_tail: String,
}

/// What is remembered of one revision's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The service.
    pub service: ServiceName,
    /// The revision.
    pub revision: Revision,
    /// How often replicas ended by themselves, ever.
    pub exits: u32,
    /// How often in a row, without having been healthy in between.
    pub streak: u32,
    /// The last one that did, and how.
    pub last: Option<(ReplicaId, Exit)>,
}

/// Wait before the next start after `streak` failures in a row: none after the first, then 1 s, doubling to 60 s.
pub fn backoff_ms(streak: u32) -> u64 {
    match streak {
        0 | 1 => 0,
        more => BACKOFF_MS_FIRST.saturating_mul(1_u64.checked_shl(more - 2).unwrap_or(u64::MAX)).min(BACKOFF_MS_MAX),
    }
}

impl History {
    /// Nothing has happened yet.
    pub fn new(service: ServiceName, revision: Revision) -> Self {
        Self { service, revision, exits: 0, streak: 0, last: None }
    }

    /// Counts an exit. One that follows a healthy life does not lengthen the streak; nor does one of a replica that was started
    /// before the last failure, as when several are killed at once: it says nothing about whether starting again works.
    pub(crate) fn count(&mut self, replica: &ReplicaId, exit: &Exit) {
        self.exits = self.exits.saturating_add(1);
        let healthy = exit.ready_for_ms.is_some_and(|time| time >= HEALTHY_MS);
        let again = self.last.as_ref().is_none_or(|(_, last)| exit.started_ms >= last.at_ms);
        self.streak = if healthy || !again { self.streak.max(1) } else { self.streak.saturating_add(1) };
        let later = self.last.as_ref().is_none_or(|(_, last)| last.at_ms <= exit.at_ms);
        if later {
            self.last = Some((replica.clone(), exit.clone()));
        }
    }

    /// When the next replica may start, milliseconds.
    pub(crate) fn next_start_ms(&self) -> u64 {
        self.last.as_ref().map_or(0, |(_, exit)| exit.at_ms.saturating_add(backoff_ms(self.streak)))
    }

    pub(crate) fn loops(&self) -> bool {
        self.streak >= LOOP_STREAK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dies_together_is_one_failure() {
        let id = |n: u64| ReplicaId(format!("spam-1-{n}"));
        let exit = |started_ms, at_ms| Exit {
            started_ms,
            at_ms,
            how: "signal 9".to_owned(),
            ready_for_ms: None,
            log_tail: String::new(),
        };
        let mut history = History::new(ServiceName::parse("spam").unwrap(), Revision(1));
        for n in 0..3 {
            history.count(&id(n), &exit(n, 100));
        }
        assert_eq!((history.exits, history.streak), (3, 1));
        history.count(&id(3), &exit(100, 150));
        assert_eq!((history.exits, history.streak), (4, 2));
        history.count(&id(4), &Exit { ready_for_ms: Some(HEALTHY_MS), ..exit(150, 70_000) });
        assert_eq!((history.exits, history.streak), (5, 2));
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<u64> = (0..10).map(backoff_ms).collect();
        assert_eq!(waits, [0, 0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff_ms(u32::MAX), 60_000);
    }
}
