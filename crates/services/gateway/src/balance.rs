//! Which replica gets the next request: the less busy of two chosen at random.
//!
//! Two random choices keep the longest queue at `O(log log n)` where one choice gives `O(log n / log log n)`
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), and need no order among the replicas.

/// Picks one of `count` replicas. `load` gives the requests in flight of one, or nothing when it must not be picked.
pub(crate) fn pick(count: usize, random: u64, load: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let (first, second) = two(count, random)?;
    match (load(first), load(second)) {
        (Some(one), Some(other)) => Some(if other < one { second } else { first }),
        (Some(_), None) => Some(first),
        (None, Some(_)) => Some(second),
        (None, None) => {
            let usable = (0..count).filter_map(|at| load(at).map(|load| (load, at)));
            usable.min().map(|(_, at)| at)
        }
    }
}

/// A number below 1000 for the replica at this place, from the bits that also chose it (the finaliser of SplitMix64).
pub(crate) fn draw(random: u64, at: usize) -> u64 {
    let mut mixed = random ^ u64::try_from(at).unwrap_or(0).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % 1000
}

/// Two different indices below `count`, or the same one twice when there is only one.
fn two(count: usize, random: u64) -> Option<(usize, usize)> {
    let below = |random: u64, count: usize| usize::try_from(random % u64::try_from(count).ok()?).ok();
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let first = below(random & 0xffff_ffff, count)?;
            let second = below(random >> 32, count - 1)?;
            Some((first, if second >= first { second + 1 } else { second }))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_less_busy_of_two() {
        let loads = [5, 1];
        for random in [0, 1, u64::MAX, 1 << 32] {
            assert_eq!(pick(2, random, |at| Some(loads[at])), Some(1));
        }
        assert_eq!(pick(1, 7, |_| Some(9)), Some(0));
        assert_eq!(pick(0, 7, |_| Some(0)), None);
    }

    #[test]
    fn draws_are_even() {
        let below = |limit| (0..10_000_u64).filter(|random| draw(*random, 1) < limit).count();
        // A fair draw of 10 % of 10,000 is 1000 with a standard deviation of 30; six of them on either side.
        assert!((820..=1180).contains(&below(100)) && (4700..=5300).contains(&below(500)));
    }

    proptest! {
        #[test]
        fn picks_something_usable_when_there_is_something(
            loads in proptest::collection::vec(proptest::option::of(0usize..9), 0..9), random in any::<u64>(),
        ) {
            let picked = pick(loads.len(), random, |at| loads[at]);
            match picked {
                Some(at) => prop_assert!(loads[at].is_some()),
                None => prop_assert!(loads.iter().all(Option::is_none)),
            }
        }

        #[test]
        fn two_choices_differ(count in 2usize..50, random in any::<u64>()) {
            let (first, second) = two(count, random).unwrap();
            prop_assert!(first != second && first < count && second < count);
        }
    }
}
