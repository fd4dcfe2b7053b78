//! How far two answers to one request agree: in their form, in the classes that they give, and in their numbers.
//!
//! A class is what a label output says, or the largest of a row of probabilities. Where an answer gives classes they decide, because
//! two models that were trained apart never have the same scores; where it gives none, its numbers have to be close.

mod answer;

pub use answer::Answer;
use answer::{Output, Values};

/// Numbers closer than this, of the larger of the two or of 1, are the same: what threads and optimisations change stays below.
pub const CLOSE: f64 = 1e-4;
/// How far the numbers of a row may be from a sum of 1 to be probabilities: what a sum of binary32 loses stays below.
const SUM_SLACK: f64 = 1e-3;

/// How far two answers agree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Whether both have the same outputs with the same datatypes and shapes.
    pub same_form: bool,
    /// Whether all classes are the same; nothing where the answers give none.
    pub same_classes: Option<bool>,
    /// Whether all numbers are [`CLOSE`].
    pub close: bool,
    /// Largest difference between two numbers; nothing where there are none.
    pub difference_max: Option<f64>,
    /// Mean of the differences.
    pub difference_mean: Option<f64>,
}

impl Agreement {
    /// Whether a client could take one answer for the other.
    pub fn agrees(&self) -> bool {
        self.same_form && self.same_classes.unwrap_or(self.close)
    }
}

/// Compares the answers of two models to one request. Outputs are compared by their names, in whatever order.
///
/// Numbers of a differing form are not compared: there is nothing to pair them by.
pub fn compare(primary: &Answer, mirrored: &Answer) -> Agreement {
    let mut tally = Tally::default();
    let mut same_form = primary.outputs.len() == mirrored.outputs.len();
    for output in &primary.outputs {
        match mirrored.outputs.iter().find(|other| other.name == output.name) {
            Some(other) if other.datatype == output.datatype && other.shape == output.shape => tally.add(output, other),
            _ => same_form = false,
        }
    }
    let mean = tally.sum / tally.count;
    Agreement {
        same_form,
        same_classes: tally.classes,
        close: !tally.apart,
        difference_max: (tally.count > 0.0).then_some(tally.max),
        difference_mean: (tally.count > 0.0).then_some(mean),
    }
}

/// What is known after some outputs.
#[derive(Default)]
struct Tally {
    classes: Option<bool>,
    apart: bool,
    max: f64,
    sum: f64,
    count: f64,
}

impl Tally {
    fn add(&mut self, one: &Output, other: &Output) {
        match (&one.values, &other.values) {
            (Values::Whole(one), Values::Whole(other)) => self.classes(one == other),
            (Values::Texts(one), Values::Texts(other)) => self.texts(one, other),
            (Values::Numbers(ones), Values::Numbers(others)) => {
                ones.iter().zip(others).for_each(|(one, other)| self.number(*one, *other));
                let length = one.shape.last().copied().unwrap_or(0);
                if is_distribution(ones, length) && is_distribution(others, length) {
                    let same = ones.chunks(length).zip(others.chunks(length)).all(|(a, b)| largest(a) == largest(b));
                    self.classes(same);
                }
            }
            _ => self.apart = true,
        }
    }

    fn classes(&mut self, same: bool) {
        self.classes = Some(self.classes.unwrap_or(true) && same);
    }

    fn texts(&mut self, ones: &[Vec<u8>], others: &[Vec<u8>]) {
        for (one, other) in ones.iter().zip(others) {
            match (scored(one), scored(other)) {
                (Some((score, class)), Some((other_score, other_class))) => {
                    self.number(score, other_score);
                    self.classes(class == other_class);
                }
                _ => self.classes(one == other),
            }
        }
    }

    fn number(&mut self, one: f64, other: f64) {
        let difference = match (one.is_nan(), other.is_nan()) {
            (true, true) => 0.0,
            (false, false) if one.total_cmp(&other).is_eq() => 0.0,
            // Of two numbers that are not both finite nothing says how far they are apart.
            _ if !one.is_finite() || !other.is_finite() => f64::INFINITY,
            _ => (one - other).abs(),
        };
        self.apart |= difference > CLOSE * one.abs().max(other.abs()).max(1.0);
        self.max = self.max.max(difference);
        self.sum += difference;
        self.count += 1.0;
    }
}

/// Whether every `length` numbers are probabilities: none outside 0 to 1, and 1 together.
fn is_distribution(numbers: &[f64], length: usize) -> bool {
    let row = |row: &[f64]| {
        row.iter().all(|number| (-SUM_SLACK..=1.0 + SUM_SLACK).contains(number))
            && (row.iter().sum::<f64>() - 1.0).abs() <= SUM_SLACK
    };
    length > 1 && !numbers.is_empty() && numbers.chunks(length).all(row)
}

/// Index of the largest number, the first one of several.
fn largest(row: &[f64]) -> Option<usize> {
    let larger = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    row.iter().copied().enumerate().reduce(larger).map(|(index, _)| index)
}

/// Score and class of an element that the classification extension has written: `0.93:1` or `0.93:1:versicolor`.
fn scored(text: &[u8]) -> Option<(f64, &str)> {
    let (score, class) = std::str::from_utf8(text).ok()?.split_once(':')?;
    let index = class.split(':').next()?;
    let is_index = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    Some((score.parse().ok().filter(|_| is_index)?, class))
}

#[cfg(test)]
mod tests;
