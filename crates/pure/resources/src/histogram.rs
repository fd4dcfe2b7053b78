//! Counts of durations in buckets of an eighth of an octave, with their exact mean.

use serde::{Deserialize, Serialize};

/// Buckets for each doubling: 8, so that a quantile is off by at most one part in eight.
const PER_OCTAVE_BITS: u32 = 3;
/// The shortest duration told apart is 2^-6 ms, 16 µs; the longest 2^17 ms, over two minutes, more than a request waits.
const EXPONENT_MIN: u64 = 1023 - 6;
const FIRST: u64 = EXPONENT_MIN << PER_OCTAVE_BITS;
/// Octaves from the shortest to the longest, by buckets of each.
pub const BUCKETS: usize = (17 + 6) << PER_OCTAVE_BITS;
const SHIFT: u32 = 52 - PER_OCTAVE_BITS;

/// A histogram of milliseconds. It holds, and names in JSON, only the buckets that counted something: a second of a service
/// fills a handful of them, and hundreds of seconds are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Sparse", into = "Sparse")]
pub struct Histogram {
    /// Bucket and count, in order of the buckets; no count is zero.
    counts: Vec<(usize, u32)>,
    count: u64,
    sum: f64,
    squares: f64,
}

/// The bucket of a duration.
pub fn bucket(ms: f64) -> usize {
    // A floating-point number's exponent and first three bits of fraction are the bucket.
    let bucket = (ms.max(0.0).to_bits() >> SHIFT).saturating_sub(FIRST);
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

impl Histogram {
    /// The histogram of counts by bucket, in their order, and of the sum of the durations. How they vary within a bucket is not
    /// known; that matters less than what the buckets tell.
    pub fn of(counts: impl IntoIterator<Item = u32>, sum: f64) -> Self {
        let counts: Vec<(usize, u32)> = counts.into_iter().take(BUCKETS).enumerate().filter(|(_, n)| *n > 0).collect();
        let (mut count, mut middles, mut squares) = (0_u64, 0.0, 0.0);
        for (bucket, number) in &counts {
            let (bucket, number) = (u64::try_from(*bucket).unwrap_or(0), *number);
            let middle = (lower(bucket) + lower(bucket + 1)) / 2.0;
            count += u64::from(number);
            middles += middle * f64::from(number);
            squares += middle * middle * f64::from(number);
        }
        // The sum is exact: the middles are moved to where they give it.
        let scale = if middles > 0.0 { sum / middles } else { 0.0 };
        Self { counts, count, sum, squares: squares * scale * scale }
    }

    /// Counts one duration.
    pub fn record(&mut self, ms: f64) {
        self.add(bucket(ms), 1);
        self.count += 1;
        self.sum += ms;
        self.squares += ms * ms;
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        for (bucket, count) in &other.counts {
            self.add(*bucket, *count);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Halves every count: what is old weighs less.
    pub fn halve(&mut self) {
        let mut left = 0_u64;
        for (_, count) in &mut self.counts {
            *count /= 2;
            left += u64::from(*count);
        }
        self.counts.retain(|(_, count)| *count > 0);
        let share = if self.count == 0 { 0.0 } else { left as f64 / self.count as f64 };
        (self.count, self.sum, self.squares) = (left, self.sum * share, self.squares * share);
    }

    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; nothing without one.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Variance divided by the square of the mean.
    pub fn variation(&self) -> Option<f64> {
        let mean = self.mean().filter(|mean| *mean > 0.0)?;
        Some((self.squares / self.count as f64 / (mean * mean) - 1.0).max(0.0))
    }

    /// The duration that a share of all is below; nothing without any.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share.clamp(0.0, 1.0) * self.count as f64;
        let mut below = 0.0;
        for (bucket, count) in &self.counts {
            let next = below + f64::from(*count);
            if next >= wanted {
                let bucket = u64::try_from(*bucket).unwrap_or(0);
                let (from, to) = (lower(bucket), lower(bucket + 1));
                return Some(from + (to - from) * ((wanted - below) / f64::from(*count)).clamp(0.0, 1.0));
            }
            below = next;
        }
        None
    }

    fn add(&mut self, bucket: usize, more: u32) {
        let at = self.counts.partition_point(|(known, _)| *known < bucket);
        match self.counts.get_mut(at).filter(|(known, _)| *known == bucket) {
            Some((_, count)) => *count = count.saturating_add(more),
            None => self.counts.insert(at, (bucket, more)),
        }
    }
}

/// A histogram as it is handed from process to process.
#[derive(Serialize, Deserialize)]
struct Sparse {
    /// Bucket and count, of those that are not zero.
    counts: Vec<(usize, u32)>,
    sum: f64,
    squares: f64,
}

impl From<Histogram> for Sparse {
    fn from(histogram: Histogram) -> Self {
        let Histogram { counts, sum, squares, .. } = histogram;
        Self { counts, sum, squares }
    }
}

impl TryFrom<Sparse> for Histogram {
    type Error = String;

    fn try_from(sparse: Sparse) -> Result<Self, String> {
        let mut histogram = Self { sum: sparse.sum, squares: sparse.squares, ..Self::default() };
        for (bucket, more) in sparse.counts.into_iter().filter(|(_, more)| *more > 0) {
            if bucket >= BUCKETS {
                return Err(format!("bucket {bucket} is not below {BUCKETS}"));
            }
            histogram.add(bucket, more);
            histogram.count += u64::from(more);
        }
        if !(sparse.sum.is_finite() && sparse.squares.is_finite() && sparse.sum >= 0.0 && sparse.squares >= 0.0) {
            return Err("`sum` and `squares` must be numbers and not negative".to_owned());
        }
        Ok(histogram)
    }
}

/// Where a bucket begins, milliseconds.
fn lower(bucket: u64) -> f64 {
    f64::from_bits((bucket + FIRST) << SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=10_000).for_each(|number| histogram.record(f64::from(number) / 10.0));
        for (share, exact) in [(0.01, 10.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(share).unwrap();
            assert!((found / exact - 1.0).abs() < 0.125, "{share}: {found} for {exact}");
        }
        assert!((histogram.mean().unwrap() - 500.05).abs() < 1e-6);
        assert!((histogram.variation().unwrap() - 1.0 / 3.0).abs() < 1e-3);
    }

    #[test]
    fn what_is_out_of_range_is_in_the_outermost_buckets() {
        let mut histogram = Histogram::default();
        [0.0, 1e-9, 1e12, f64::INFINITY].into_iter().for_each(|ms| histogram.record(ms));
        assert_eq!(histogram.count(), 4);
        assert!(histogram.quantile(0.25).unwrap() < 0.02);
        assert!(histogram.quantile(1.0).unwrap() >= 130_000.0);
    }

    #[test]
    fn it_comes_back_from_json_and_wrong_buckets_do_not() {
        let mut histogram = Histogram::default();
        [0.3, 0.3, 17.0, 5e9].into_iter().for_each(|ms| histogram.record(ms));
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        let wrong = format!(r#"{{"counts":[[{BUCKETS},1]],"sum":1.0,"squares":1.0}}"#);
        assert!(serde_json::from_str::<Histogram>(&wrong).is_err());
    }

    #[test]
    fn counts_by_bucket_give_the_same_histogram() {
        let (mut recorded, mut counts) = (Histogram::default(), [0; BUCKETS]);
        for number in 1..=1000 {
            let ms = f64::from(number) / 3.0;
            recorded.record(ms);
            counts[bucket(ms)] += 1;
        }
        let given = Histogram::of(counts, recorded.sum);
        assert_eq!((given.count(), given.quantile(0.99)), (1000, recorded.quantile(0.99)));
        assert!((given.mean().unwrap() - recorded.mean().unwrap()).abs() < 1e-9);
        assert!((given.variation().unwrap() - recorded.variation().unwrap()).abs() < 0.02);
        assert_eq!(Histogram::of([0; BUCKETS], 0.0), Histogram::default());
    }

    #[test]
    fn merging_counts_both_and_halving_keeps_the_mean() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        (0..100).for_each(|_| one.record(2.0));
        (0..300).for_each(|_| other.record(4.0));
        one.merge(&other);
        assert_eq!((one.count(), one.mean()), (400, Some(3.5)));
        one.halve();
        assert_eq!((one.count(), one.mean()), (200, Some(3.5)));
    }
}
