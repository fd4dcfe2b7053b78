//! Link functions: from the sums of the trees to the answer that the library's `predict` gives.

use super::Precision;

/// What kind of answer a model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Numbers.
    Regression,
    /// Probabilities of two classes.
    Binary,
    /// Probabilities of several classes.
    Multiclass,
}

/// From sums to answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Link {
    /// The sum itself.
    Identity,
    /// `exp(sum)`: Poisson, gamma, Tweedie, survival.
    Exponential,
    /// `sign(sum) * sum^2`: LightGBM's `regression sqrt`.
    SignedSquare,
    /// `log(1 + exp(sum))`: LightGBM's `cross_entropy_lambda`.
    Softplus,
    /// One probability by the logistic function, kept as one number.
    Logistic(f64),
    /// Probabilities `[1 - p, p]` of a binary classifier.
    Binary(f64),
    /// 1 when the sum is positive, else 0 (XGBoost's hinge), as probabilities `[1 - p, p]`.
    Hinge,
    /// Softmax over the groups.
    Softmax,
    /// The logistic function for each group (LightGBM's one-versus-all).
    OneVersusAll(f64),
}

impl Link {
    /// What kind of answer this gives.
    pub(super) fn task(self) -> Task {
        match self {
            Self::Identity | Self::Exponential | Self::SignedSquare | Self::Softplus | Self::Logistic(_) => {
                Task::Regression
            }
            Self::Binary(_) | Self::Hinge => Task::Binary,
            Self::Softmax | Self::OneVersusAll(_) => Task::Multiclass,
        }
    }

    pub(super) fn outputs(self, groups: usize) -> usize {
        match self.task() {
            Task::Binary => 2,
            Task::Regression | Task::Multiclass => groups,
        }
    }

    pub(super) fn apply(self, sums: &[f64], out: &mut [f64], precision: Precision) {
        match self {
            Self::Binary(slope) => binary(sums, out, |sum| logistic(sum, slope, precision)),
            Self::Hinge => binary(sums, out, |sum| f64::from(u8::from(sum > 0.0))),
            Self::Softmax => softmax(sums, out),
            Self::Identity => each(sums, out, |sum| sum),
            Self::Exponential => each(sums, out, f64::exp),
            Self::SignedSquare => each(sums, out, |sum| sum.signum() * sum * sum),
            Self::Softplus => each(sums, out, |sum| sum.exp().ln_1p()),
            Self::Logistic(slope) | Self::OneVersusAll(slope) => each(sums, out, |sum| logistic(sum, slope, precision)),
        }
    }
}

fn each(sums: &[f64], out: &mut [f64], link: impl Fn(f64) -> f64) {
    for (place, sum) in out.iter_mut().zip(sums) {
        *place = link(*sum);
    }
}

fn binary(sums: &[f64], out: &mut [f64], link: impl Fn(f64) -> f64) {
    let positive = link(sums.first().copied().unwrap_or_default());
    for (place, value) in out.iter_mut().zip([1.0 - positive, positive]) {
        *place = value;
    }
}

fn logistic(sum: f64, slope: f64, precision: Precision) -> f64 {
    match precision {
        Precision::F64 => 1.0 / (1.0 + (-slope * sum).exp()),
        Precision::F32 => {
            // XGBoost clamps the exponent at 88.7 and works in 32 bits.
            #[expect(clippy::cast_possible_truncation, reason = "XGBoost's sums are 32-bit")]
            let sum = (-sum as f32).min(88.7);
            f64::from(1.0_f32 / (sum.exp() + 1.0 + 1e-16))
        }
    }
}

fn softmax(sums: &[f64], out: &mut [f64]) {
    let greatest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for (place, sum) in out.iter_mut().zip(sums) {
        *place = (sum - greatest).exp();
        total += *place;
    }
    for place in out.iter_mut() {
        *place /= total;
    }
}
