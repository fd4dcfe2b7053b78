//! The evidence of one block of requests, as a factor.
//!
//! For outcomes `y` in `k` categories, `S = Π p_s(y)/p_0(y)` over the stable revision's requests times `Π p_c(y)/p_0(y)` over the
//! new one's, with `p_0 = (n_s p_s + n_c p_c) / (n_s + n_c)`. If all outcomes come from one distribution `q`, the mean of `S` is
//! `(Σ q p_s/p_0)^n_s (Σ q p_c/p_0)^n_c`, at most `(Σ q (n_s p_s + n_c p_c) / ((n_s + n_c) p_0))^(n_s + n_c) = 1` by the inequality
//! of the arithmetic and the geometric mean, whatever `q` is and whatever `p_s` and `p_c` are, as long as they were chosen before.
//!
//! With two outcomes and `p_c` above `p_s`, it is so as well for every pair of distributions in which the new revision is the better
//! one: its factor falls when its outcomes get better, and the stable one's when that gets worse.

/// Weight of the common estimate in that of each revision, in requests: a revision of which little is known is first taken to do as
/// both do together.
const WEIGHT: f64 = 1.0;
/// Weight of a category before anything was seen: Krichevsky and Trofimov's.
const UNSEEN: f64 = 0.5;

/// Outcomes of both revisions by category; the slices are as long as each other.
#[derive(Clone, Copy, Debug)]
pub struct Counts<'a> {
    /// Of the stable revision.
    pub stable: &'a [u64],
    /// Of the new one.
    pub canary: &'a [u64],
}

/// Logarithm of the factor of the block `now`, by estimates from what was `before`.
pub fn log_factor(before: &Counts<'_>, now: &Counts<'_>) -> f64 {
    let (n_stable, n_canary) = (total(now.stable), total(now.canary));
    if n_stable == 0.0 || n_canary == 0.0 {
        return 0.0;
    }
    let estimates = Estimates::new(before);
    let outcomes = before.stable.iter().zip(before.canary).zip(now.stable.iter().zip(now.canary));
    let mut log = 0.0;
    for ((stable_before, canary_before), (stable, canary)) in outcomes {
        if stable + canary > 0 {
            let (p_stable, p_canary) = estimates.of(*stable_before, *canary_before);
            let p_both = (n_stable * p_stable + n_canary * p_canary) / (n_stable + n_canary);
            log += *stable as f64 * (p_stable / p_both).ln() + *canary as f64 * (p_canary / p_both).ln();
        }
    }
    log
}

/// The same for two outcomes, the second of which is bad: 0 where the estimates do not say that the new revision is the worse one.
pub fn log_factor_worse(before: &Counts<'_>, now: &Counts<'_>) -> f64 {
    let estimates = Estimates::new(before);
    let bad = before.stable.last().zip(before.canary.last());
    let worse = bad.is_some_and(|(stable, canary)| {
        let (p_stable, p_canary) = estimates.of(*stable, *canary);
        p_canary > p_stable
    });
    if worse { log_factor(before, now) } else { 0.0 }
}

/// Half the sum of the differences of the two shares of each category: the share of outcomes that fall elsewhere.
pub fn total_variation(counts: &Counts<'_>) -> f64 {
    let (stable, canary) = (total(counts.stable), total(counts.canary));
    if stable == 0.0 || canary == 0.0 {
        return 0.0;
    }
    let pairs = counts.stable.iter().zip(counts.canary);
    pairs.map(|(s, c)| (*s as f64 / stable - *c as f64 / canary).abs()).sum::<f64>() / 2.0
}

struct Estimates {
    stable: f64,
    canary: f64,
    categories: f64,
}

impl Estimates {
    fn new(before: &Counts<'_>) -> Self {
        Self { stable: total(before.stable), canary: total(before.canary), categories: before.stable.len() as f64 }
    }

    /// Estimated chance of a category that was seen so often, for both revisions. Never 0.
    fn of(&self, stable: u64, canary: u64) -> (f64, f64) {
        let (s, c) = (stable as f64, canary as f64);
        let both = (s + c + UNSEEN) / (self.stable + self.canary + UNSEEN * self.categories);
        ((s + WEIGHT * both) / (self.stable + WEIGHT), (c + WEIGHT * both) / (self.canary + WEIGHT))
    }
}

fn total(counts: &[u64]) -> f64 {
    counts.iter().sum::<u64>() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The mean of the factor over every outcome of a block, when the stable revision draws from `p` and the new one from `q`.
    fn mean(
        before: &Counts<'_>,
        sizes: [usize; 2],
        p: &[f64],
        q: &[f64],
        factor: fn(&Counts<'_>, &Counts<'_>) -> f64,
    ) -> f64 {
        let k = p.len();
        let n = sizes[0] + sizes[1];
        let mut sum = 0.0;
        for code in 0..k.pow(u32::try_from(n).unwrap()) {
            let (mut chance, mut rest) = (1.0, code);
            let (mut stable, mut canary) = (vec![0; k], vec![0; k]);
            for at in 0..n {
                let (category, side, from) =
                    if at < sizes[0] { (rest % k, &mut stable, p) } else { (rest % k, &mut canary, q) };
                side[category] += 1;
                chance *= from[category];
                rest /= k;
            }
            sum += chance * factor(before, &Counts { stable: &stable, canary: &canary }).exp();
        }
        sum
    }

    fn shares(weights: &[f64]) -> Vec<f64> {
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }

    proptest! {
        #[test]
        fn the_mean_is_at_most_one_when_both_behave_alike(
            k in 2_usize..5,
            before in proptest::collection::vec(0_u64..50, 8),
            weights in proptest::collection::vec(0.001_f64..1.0, 4),
            sizes in [0_usize..4, 0_usize..4],
        ) {
            let counts = Counts { stable: &before[..k], canary: &before[4..4 + k] };
            let q = shares(&weights[..k]);
            prop_assert!(mean(&counts, sizes, &q, &q, log_factor) <= 1.0 + 1e-9);
        }

        #[test]
        fn so_it_is_when_the_new_one_is_better(
            before in [0_u64..200, 0_u64..20, 0_u64..200, 0_u64..20],
            (a, b) in (0.0_f64..1.0, 0.0_f64..1.0),
            sizes in [0_usize..6, 0_usize..6],
        ) {
            let counts = Counts { stable: &before[..2], canary: &before[2..] };
            let (better, worse) = (a.min(b), a.max(b));
            let (stable, canary) = ([1.0 - worse, worse], [1.0 - better, better]);
            prop_assert!(mean(&counts, sizes, &stable, &canary, log_factor_worse) <= 1.0 + 1e-9);
        }
    }

    #[test]
    fn a_difference_that_is_known_is_evidence() {
        let before = Counts { stable: &[990, 10], canary: &[80, 20] };
        let now = Counts { stable: &[99, 1], canary: &[8, 2] };
        assert!(log_factor_worse(&before, &now) > 1.0);
        // The other way round the new one is the better one: no evidence against it.
        let swapped = Counts { stable: before.canary, canary: before.stable };
        assert_eq!(log_factor_worse(&swapped, &now), 0.0);
        assert_eq!(log_factor(&before, &Counts { stable: &[9, 1], canary: &[0, 0] }), 0.0);
        assert!((total_variation(&before) - 0.19).abs() < 1e-9);
    }
}
