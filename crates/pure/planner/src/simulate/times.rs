//! How long something takes: always the same, log-normal, or as measured.

use super::random::Random;

/// A distribution of milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// Always the same.
    Constant(f64),
    /// The logarithm is normal.
    LogNormal {
        /// Mean of the logarithm.
        location: f64,
        /// Deviation of the logarithm.
        scale: f64,
    },
    /// Each as likely as another; at least one.
    Measured(Vec<f64>),
}

/// The standard normal number that 99 of 100 are below.
const NORMAL_P99: f64 = 2.326_347_874;

impl Times {
    /// Log-normal with a mean and a 99th percentile; nothing where no such one exists.
    pub fn from_mean_and_p99(mean_ms: f64, p99_ms: f64) -> Option<Self> {
        if !(mean_ms > 0.0 && p99_ms >= mean_ms) {
            return None;
        }
        // ln p99 - ln mean = z s - s²/2, whose smaller root is the one where the tail grows with the deviation.
        let inside = NORMAL_P99 * NORMAL_P99 - 2.0 * (p99_ms / mean_ms).ln();
        let scale = (inside >= 0.0).then(|| NORMAL_P99 - inside.sqrt())?;
        Some(Self::LogNormal { location: mean_ms.ln() - scale * scale / 2.0, scale })
    }

    /// Their mean, milliseconds.
    pub fn mean_ms(&self) -> f64 {
        match self {
            Self::Constant(ms) => *ms,
            Self::LogNormal { location, scale } => (location + scale * scale / 2.0).exp(),
            Self::Measured(all) => all.iter().sum::<f64>() / all.len().max(1) as f64,
        }
    }

    pub(super) fn draw(&self, random: &mut Random) -> f64 {
        match self {
            Self::Constant(ms) => *ms,
            Self::LogNormal { location, scale } => (location + scale * random.normal()).exp(),
            Self::Measured(all) => {
                let at = crate::scale::whole(random.uniform() * all.len() as f64);
                usize::try_from(at).ok().and_then(|at| all.get(at)).copied().unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_normal_has_the_mean_and_the_percentile_it_was_made_from() {
        let times = Times::from_mean_and_p99(10.0, 30.0).unwrap();
        let mut random = Random::new(1, 1);
        let mut drawn: Vec<f64> = (0..100_000).map(|_| times.draw(&mut random)).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn.iter().sum::<f64>() / 1e5 - 10.0).abs() < 0.1);
        assert!((drawn[99_000] / 30.0 - 1.0).abs() < 0.05, "{}", drawn[99_000]);
        assert!((times.mean_ms() - 10.0).abs() < 1e-9);
        assert_eq!(Times::from_mean_and_p99(10.0, 9.0), None);
        assert_eq!(Times::from_mean_and_p99(10.0, 1000.0), None);
    }
}
