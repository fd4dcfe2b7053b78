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
