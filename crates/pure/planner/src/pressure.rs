//! Decides which replica goes when memory runs out, before the kernel takes any process it likes.
//!
//! One replica at a time, with time between two for the first to end and its memory to come back: those of the least important
//! service first, within it those that have siblings, and the newest of them. A service gives its last replica only for one that
//! is more important. What was given up comes back when memory has sufficed for a while.

use std::{cmp::Reverse, collections::BTreeMap};

use resources::id::{ReplicaId, Revision, ServiceName};

use crate::{
    index::Index,
    input::{DesiredRevision, DesiredService, Input, ObservedReplica, Phase},
    output::Plan,
    service::{Scope, count, replicas},
};

/// Percent of the memory below which it is short. The kernel reclaims all that it can before so little is left.
const SHORT_PERCENT: u64 = 5;
/// Percent from which it suffices again: so far above that one replica's end does not begin it anew.
const ENOUGH_PERCENT: u64 = 10;
/// Shortest time between two evictions: a replica that drains needs seconds to give its memory back.
pub(crate) const EVICTION_MS_MIN: u64 = 10_000;
/// How long memory has to suffice before what was evicted is started again, which takes memory.
const CALM_MS: u64 = 60_000;

/// How much memory there is, and what was given up for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Bytes that processes may still take.
    pub available_bytes: u64,
    /// Bytes that there are.
    pub total_bytes: u64,
    /// Whether memory is short. It stays so until clearly more is there than made it so.
    pub short: bool,
    /// Since when memory has sufficed after it was short, milliseconds.
    pub calm_since_ms: Option<u64>,
    /// When a replica was last evicted, milliseconds.
    pub evicted_ms: Option<u64>,
    /// Replicas that revisions may have at most, those that had one evicted.
    pub at_most: BTreeMap<(ServiceName, Revision), u32>,
}

/// A replica that a plan takes away because memory is short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Of this service.
    pub service: ServiceName,
    /// Of this revision.
    pub revision: Revision,
    /// The replica.
    pub replica: ReplicaId,
    /// Replicas that the revision may have from now on.
    pub at_most: u32,
    /// Why, with the numbers.
    pub why: String,
}

impl Pressure {
    /// What a look at the memory makes of what was known before.
    #[must_use]
    pub fn seen(before: Option<&Self>, available_bytes: u64, total_bytes: u64, now_ms: u64) -> Self {
        let mut pressure = Self { available_bytes, total_bytes, ..before.cloned().unwrap_or_default() };
        let below = |percent: u64| u128::from(available_bytes) * 100 < u128::from(total_bytes) * u128::from(percent);
        let was = pressure.short;
        pressure.short = below(if was { ENOUGH_PERCENT } else { SHORT_PERCENT });
        if pressure.short {
            pressure.calm_since_ms = None;
        } else if was {
            pressure.calm_since_ms = Some(now_ms);
        }
        if pressure.calm_since_ms.is_some_and(|since_ms| now_ms >= since_ms + CALM_MS) {
            pressure.at_most.clear();
            pressure.calm_since_ms = None;
        }
        pressure
    }

    /// Remembers what a plan takes away.
    pub fn evicted(&mut self, eviction: &Eviction, now_ms: u64) {
        self.evicted_ms = Some(now_ms);
        self.at_most.insert((eviction.service.clone(), eviction.revision), eviction.at_most);
    }

    /// Whether a replica may be evicted now.
    pub(crate) fn evicts(&self, now_ms: u64) -> bool {
        self.short && self.evicted_ms.is_none_or(|at_ms| now_ms >= at_ms + EVICTION_MS_MIN)
    }

    fn words(&self) -> String {
        format!("memory is short, {} of {} MiB are available", self.available_bytes >> 20, self.total_bytes >> 20)
    }
}

/// The replica that goes first, if one may go now.
pub(crate) fn victim<'a>(input: &'a Input, index: &Index<'a>) -> Option<&'a ObservedReplica> {
    if !input.pressure.as_ref().is_some_and(|pressure| pressure.evicts(input.now_ms)) {
        return None;
    }
    let services = input.services.iter().filter(|service| !service.deleting);
    let candidates = services.flat_map(|service| {
        let active = index.replicas(&service.name).iter().filter(|replica| replica.is_active()).copied();
        active.map(move |replica| (service, replica))
    });
    let given = candidates.filter(|(service, replica)| may_go(input, index, service, replica));
    given.min_by_key(|(service, replica)| rank(index, service, replica)).map(|(_, replica)| replica)
}

/// The order in which replicas go.
fn rank<'a>(
    index: &Index<'a>,
    service: &DesiredService,
    replica: &'a ObservedReplica,
) -> (i32, bool, bool, Reverse<u64>, &'a ReplicaId) {
    let since_ms = match replica.phase {
        Phase::Starting { since_ms } | Phase::Ready { since_ms } => since_ms,
        _ => 0,
    };
    (service.priority, is_last(index, replica), replica.is_ready(), Reverse(since_ms), &replica.id)
}

/// Whether a replica has no siblings.
pub(crate) fn is_last(index: &Index<'_>, replica: &ObservedReplica) -> bool {
    let active = index.replicas(&replica.service).iter().filter(|sibling| sibling.is_active());
    active.filter(|sibling| sibling.revision == replica.revision).count() <= 1
}

/// Whether a replica may be evicted: one without siblings only for a service that is more important.
pub(crate) fn may_go(input: &Input, index: &Index<'_>, service: &DesiredService, replica: &ObservedReplica) -> bool {
    let has_replicas = |other: &DesiredService| index.replicas(&other.name).iter().any(|other| other.is_active());
    let mut others = input.services.iter().filter(|other| other.priority > service.priority && !other.deleting);
    !is_last(index, replica) || others.any(has_replicas)
}

impl<'a> Scope<'a> {
    /// Takes the replica away that goes first, where it is of this service and still there.
    pub(crate) fn evict(&mut self, victim: Option<&'a ObservedReplica>, plan: &mut Plan) {
        let mine = |victim: &&ObservedReplica| victim.service == self.service.name && !self.gone.contains(&victim.id);
        let (Some(victim), Some(pressure)) = (victim.filter(mine), self.input.pressure.as_ref()) else { return };
        let siblings = |scope: &Self| scope.active(victim.revision).filter(|one| one.id != victim.id).count();
        let all = self.replicas.iter().filter(|one| one.revision == victim.revision && one.is_active()).count();
        let left = siblings(self);
        // Where the others end by themselves now, it is the last one.
        if left == 0 && all > 1 {
            return;
        }
        let (revision, left) = (victim.revision, u32::try_from(left).unwrap_or(u32::MAX));
        let why = format!(
            "{} and the service's priority is {}: revision {revision} may have {} until there is more",
            pressure.words(),
            self.service.priority,
            replicas(count(left))
        );
        if victim.is_ready() {
            self.leave(victim, &why, plan)
        } else {
            self.stop(victim, &why, plan)
        }
        self.capped_now = Some((revision, left));
        let (service, replica) = (self.service.name.clone(), victim.id.clone());
        plan.evicted = Some(Eviction { service, revision, replica, at_most: left, why });
    }

    /// Replicas that a revision may have at most because memory ran short.
    pub(crate) fn at_most(&self, revision: Revision) -> Option<u32> {
        let now = self.capped_now.filter(|(capped, _)| *capped == revision).map(|(_, most)| most);
        let known = || self.input.pressure.as_ref()?.at_most.get(&(self.service.name.clone(), revision)).copied();
        now.or_else(known)
    }

    /// Why a revision has fewer replicas than it is to have, while memory is short or was just now.
    pub(crate) fn held_down(&self, desired: &DesiredRevision) -> Option<String> {
        let most = self.at_most(desired.revision)?;
        let wanted = self.wanted(desired);
        (most < wanted).then(|| {
            format!(
                "memory ran short, and revision {} may have {} instead of {wanted} until it has sufficed for {} s",
                desired.revision,
                replicas(count(most)),
                CALM_MS / 1000
            )
        })
    }

    /// How many of `missing` replicas may start while memory is as it is: one where there is none, for the service to answer.
    pub(crate) fn room_in_memory(&mut self, revision: Revision, missing: usize) -> usize {
        let short = self.input.pressure.as_ref().is_some_and(|pressure| pressure.short);
        let room = usize::from(self.active(revision).next().is_none());
        if !short || missing <= room {
            return missing;
        }
        let waiting = replicas(missing - room);
        self.say(format!("revision {revision} waits with the start of {waiting}: memory is short"));
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_later_than_it_began_and_remembered_longer() {
        let mut pressure = Pressure::seen(None, 5, 100, 0);
        assert!(!pressure.short);
        pressure = Pressure::seen(Some(&pressure), 4, 100, 1_000);
        assert!(pressure.short && pressure.evicts(1_000));
        let (service, revision) = (ServiceName::parse("spam").unwrap(), Revision(1));
        let (replica, why) = (ReplicaId("spam-1-x".to_owned()), String::new());
        pressure.evicted(&Eviction { service, revision, replica, at_most: 1, why }, 1_000);
        assert!(!pressure.evicts(10_999) && pressure.evicts(11_000));
        pressure = Pressure::seen(Some(&pressure), 9, 100, 12_000);
        assert!(pressure.short);
        pressure = Pressure::seen(Some(&pressure), 10, 100, 13_000);
        assert!(!pressure.short && pressure.at_most.len() == 1);
        let again = Pressure::seen(Some(&pressure), 4, 100, 20_000);
        assert_eq!((again.short, again.calm_since_ms), (true, None));
        pressure = Pressure::seen(Some(&pressure), 6, 100, 72_999);
        assert_eq!(pressure.at_most.len(), 1);
        pressure = Pressure::seen(Some(&pressure), 6, 100, 73_000);
        assert!(pressure.at_most.is_empty());
        assert!(!Pressure::seen(None, 0, 0, 0).short);
    }
}
