//! Loads: rates over time or single arrivals, out of CSV, and arrivals drawn from them.

mod parse;

use super::random::Random;

pub use parse::TraceError;

/// Arrivals that one simulation draws at most: days of a busy service, and an end to a slip in a scale.
const ARRIVALS_MAX: f64 = 2e9;

/// A load.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    steps: Vec<Step>,
    arrivals: Vec<f64>,
    seconds: f64,
}

/// Requests per second from a second on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    from_s: f64,
    rate: f64,
}

impl Trace {
    /// Reads CSV: `seconds,requests` with the requests of each step, `seconds,rate` with requests per second where the header
    /// says `rate`, `rps` or `per_second`, or one arrival a row, in seconds or as date and time in the first column.
    ///
    /// # Errors
    ///
    /// The first row that is wrong.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        parse::parse(text)
    }

    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Requests in the mean.
    pub fn requests(&self) -> f64 {
        if self.steps.is_empty() {
            return self.arrivals.len() as f64;
        }
        self.spans().map(|(from, to, rate)| (to - from) * rate).sum()
    }

    /// The part between two seconds, moved to the beginning.
    #[must_use]
    pub fn between(&self, from_s: f64, to_s: f64) -> Self {
        let to_s = to_s.min(self.seconds);
        let from_s = from_s.clamp(0.0, to_s);
        let steps = self
            .spans()
            .filter(|(from, to, _)| *to > from_s && *from < to_s)
            .map(|(from, _, rate)| Step { from_s: (from - from_s).max(0.0), rate })
            .collect();
        let inside = |at: &&f64| (from_s..to_s).contains(*at);
        let arrivals = self.arrivals.iter().filter(inside).map(|at| at - from_s).collect();
        Self { steps, arrivals, seconds: to_s - from_s }
    }

    /// The same several times, one after the other.
    #[must_use]
    pub fn repeated(&self, times: u32) -> Self {
        let mut all = Self { steps: Vec::new(), arrivals: Vec::new(), seconds: self.seconds * f64::from(times) };
        for number in 0..times {
            let shift = f64::from(number) * self.seconds;
            all.steps.extend(self.steps.iter().map(|step| Step { from_s: step.from_s + shift, ..*step }));
            all.arrivals.extend(self.arrivals.iter().map(|at| at + shift));
        }
        all
    }

    /// `factor` times as much load. Single arrivals are counted over `bin_s` seconds and become rates.
    #[must_use]
    pub fn scaled(&self, factor: f64, bin_s: f64) -> Self {
        let mut scaled = if self.steps.is_empty() { self.counted(bin_s) } else { self.clone() };
        scaled.steps.iter_mut().for_each(|step| step.rate *= factor);
        scaled
    }

    fn counted(&self, bin_s: f64) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        let mut waiting = self.arrivals.iter().peekable();
        let mut number = 0_u32;
        while f64::from(number) * bin_s < self.seconds {
            let (from_s, to_s) = (f64::from(number) * bin_s, f64::from(number + 1) * bin_s);
            let mut count = 0.0;
            while waiting.next_if(|at| **at < to_s).is_some() {
                count += 1.0;
            }
            steps.push(Step { from_s, rate: count / (to_s.min(self.seconds) - from_s) });
            number += 1;
        }
        Self { steps, arrivals: Vec::new(), seconds: self.seconds }
    }

    /// Whether a simulation of it ends in reasonable time.
    pub fn is_bounded(&self) -> bool {
        self.requests() <= ARRIVALS_MAX
    }

    fn spans(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let ends = self.steps.iter().skip(1).map(|step| step.from_s).chain([self.seconds]);
        self.steps.iter().zip(ends).map(|(step, to)| (step.from_s, to, step.rate))
    }
}

/// Arrivals of a trace, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Arrivals<'a> {
    trace: &'a Trace,
    random: Random,
    next: usize,
    at_s: f64,
}

impl<'a> Arrivals<'a> {
    pub(super) fn new(trace: &'a Trace, random: Random) -> Self {
        Self { trace, random, next: 0, at_s: 0.0 }
    }
}

impl Iterator for Arrivals<'_> {
    type Item = f64;

    /// Milliseconds. Within a step arrivals are independent; at its end the wait begins anew, which changes nothing.
    fn next(&mut self) -> Option<f64> {
        if self.trace.steps.is_empty() {
            let at = self.trace.arrivals.get(self.next)?;
            self.next += 1;
            return Some(at * 1000.0);
        }
        loop {
            let step = self.trace.steps.get(self.next)?;
            let end = self.trace.steps.get(self.next + 1).map_or(self.trace.seconds, |step| step.from_s);
            if step.rate > 0.0 {
                let at = self.at_s.max(step.from_s) + self.random.exponential() / step.rate;
                if at < end {
                    self.at_s = at;
                    return Some(at * 1000.0);
                }
            }
            self.at_s = end;
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests;
