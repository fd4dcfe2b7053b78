//! Whether the next request runs on all CPUs by itself or on a lane beside others. Pure.
//!
//! A run that is spread over CPUs ends sooner and costs more: its threads wait for each other at every operator. So a lone
//! request gets all CPUs, and requests that come together get a lane each, as soon as more of them are answered that way.

use std::time::Duration;

/// Parts of one request in [`Crowd`].
const PARTS: u64 = 256;

/// Weight of one arrival in the estimate of the crowd is one in this: a client that comes back alone after a crowd has all CPUs
/// again after some five requests.
const LEARNING: u64 = 4;

/// Requests at a time, in parts, from which lanes are used: below it, most requests find the model free.
const CROWD_MIN: u64 = PARTS * 3 / 2;

/// A lane has to answer so many per cent of what the one session with all CPUs does, or it is not worth its memory.
const GAIN_PERCENT_MIN: u128 = 105;

/// What lanes a model has, and what a run takes on them and beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// Sessions, each with its part of the CPUs.
    pub count: usize,
    /// Time of a run on one, while all run.
    pub lane: Duration,
    /// Time of a run on the session with all CPUs.
    pub wide: Duration,
}

/// What waits and what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Requests that wait; one or more.
    pub(super) waiting: usize,
    /// Whether a run has all CPUs.
    pub(super) wide: bool,
    /// Lanes that run.
    pub(super) lanes: usize,
    /// Requests at a time, lately.
    pub(super) crowd: Crowd,
}

/// A session that may run next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One whose run has all CPUs, or of a model that has no other.
    Wide,
    /// One that runs beside others.
    Lane,
}

/// How many requests an arriving one found, itself included, on the average of the last few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crowd(u64);

impl Lanes {
    /// Whether full lanes answer more than the session with all CPUs.
    pub fn win(&self) -> bool {
        self.percent() >= GAIN_PERCENT_MIN
    }

    /// What full lanes answer, in per cent of what the session with all CPUs does.
    pub fn percent(&self) -> u128 {
        let count = u128::try_from(self.count).unwrap_or(u128::MAX);
        let lane = self.lane.as_nanos().max(1);
        self.wide.as_nanos().saturating_mul(count).saturating_mul(100).checked_div(lane).unwrap_or(u128::MAX)
    }
}

impl Crowd {
    /// Nobody has come yet.
    pub(super) const NONE: Self = Self(0);

    /// After an arrival that makes it `present` requests that wait or run.
    pub(super) fn met(self, present: usize) -> Self {
        let (before, now) = (self.0, parts(present));
        // Rounded towards what was met, so that the estimate reaches it.
        if now > before {
            Self(before.saturating_add((now - before).div_ceil(LEARNING)))
        } else {
            Self(before - (before - now).div_ceil(LEARNING))
        }
    }
}

/// The session that the oldest of what waits runs on; `None` when it has to wait for one.
///
/// A run on all CPUs and one on a lane are never under way together: each would hold up the other. While lanes run, an idle one
/// takes what comes. When nothing runs, lanes are used if those that are here, or usually are, keep enough of them busy to
/// be done sooner than one after the other on all CPUs.
pub(super) fn choose(lanes: &Lanes, load: Load) -> Option<Kind> {
    if load.wide {
        return None;
    }
    if load.lanes > 0 {
        return (load.lanes < lanes.count).then_some(Kind::Lane);
    }
    let present = load.crowd.0.max(parts(load.waiting));
    let busy = u128::from(present.min(parts(lanes.count)));
    let sooner = lanes.wide.as_nanos().saturating_mul(busy) > lanes.lane.as_nanos().saturating_mul(u128::from(PARTS));
    Some(if present >= CROWD_MIN && sooner { Kind::Lane } else { Kind::Wide })
}

/// How many of those that `wait` one of the `free` lanes takes, so that the others have theirs.
pub(super) fn share(waiting: usize, free: usize) -> usize {
    waiting.div_ceil(free.max(1)).max(1)
}

fn parts(requests: usize) -> u64 {
    u64::try_from(requests).unwrap_or(u64::MAX).saturating_mul(PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: Lanes = Lanes { count: 2, lane: Duration::from_micros(9600), wide: Duration::from_micros(5500) };

    fn load(waiting: usize, lanes: usize, crowd: usize) -> Load {
        Load { waiting, wide: false, lanes, crowd: crowd_of(crowd) }
    }

    /// The estimate after many arrivals that each found so many.
    fn crowd_of(present: usize) -> Crowd {
        (0..64).fold(Crowd::NONE, |crowd, _| crowd.met(present))
    }

    #[test]
    fn a_lone_request_has_all_cpus_and_a_crowd_has_lanes() {
        assert_eq!(choose(&IMAGES, load(1, 0, 1)), Some(Kind::Wide));
        assert_eq!(choose(&IMAGES, load(2, 0, 1)), Some(Kind::Lane));
        assert_eq!(choose(&IMAGES, load(1, 0, 2)), Some(Kind::Lane));
        assert_eq!(choose(&IMAGES, load(9, 0, 9)), Some(Kind::Lane));
    }

    #[test]
    fn the_two_kinds_do_not_run_together() {
        assert_eq!(choose(&IMAGES, Load { wide: true, ..load(9, 0, 9) }), None);
        assert_eq!(choose(&IMAGES, load(1, 1, 1)), Some(Kind::Lane));
        assert_eq!(choose(&IMAGES, load(9, 2, 9)), None);
    }

    #[test]
    fn many_cpus_are_left_to_one_run_until_enough_requests_share_them() {
        let many = Lanes { count: 32, lane: Duration::from_millis(10), wide: Duration::from_millis(1) };
        assert_eq!(choose(&many, load(10, 0, 10)), Some(Kind::Wide));
        assert_eq!(choose(&many, load(11, 0, 1)), Some(Kind::Lane));
        assert_eq!(choose(&many, load(100, 0, 100)), Some(Kind::Lane));
    }

    #[test]
    fn even_where_a_lane_is_as_quick_a_lone_request_stays_off_it() {
        let equal = Lanes { count: 2, lane: Duration::from_millis(1), wide: Duration::from_millis(1) };
        assert_eq!(choose(&equal, load(1, 0, 1)), Some(Kind::Wide));
        assert_eq!(choose(&equal, load(2, 0, 2)), Some(Kind::Lane));
    }

    #[test]
    fn the_crowd_is_met_and_forgotten_in_a_few_arrivals() {
        let crowd = crowd_of(4);
        assert_eq!(crowd, Crowd(4 * PARTS));
        let alone = |times| (0..times).fold(crowd, |crowd, _| crowd.met(1));
        assert_eq!(choose(&IMAGES, Load { crowd: alone(1), ..load(1, 0, 1) }), Some(Kind::Lane));
        assert_eq!(choose(&IMAGES, Load { crowd: alone(6), ..load(1, 0, 1) }), Some(Kind::Wide));
        assert_eq!(alone(64), Crowd(PARTS));
        // A full queue of one who counts wrong does not overflow.
        assert!(Crowd::NONE.met(usize::MAX).met(usize::MAX).0 > alone(1).0);
    }

    #[test]
    fn lanes_win_by_what_they_answer() {
        assert!(IMAGES.win());
        assert_eq!(IMAGES.percent(), 114);
        assert!(!Lanes { lane: Duration::from_micros(10_500), ..IMAGES }.win());
        assert!(!Lanes { wide: Duration::ZERO, lane: Duration::ZERO, count: 2 }.win());
    }

    #[test]
    fn what_waits_is_shared_among_the_lanes() {
        assert_eq!(share(1, 2), 1);
        assert_eq!(share(3, 2), 2);
        assert_eq!(share(32, 2), 16);
        assert_eq!(share(5, 0), 5);
        assert_eq!(share(0, 2), 1);
    }
}
