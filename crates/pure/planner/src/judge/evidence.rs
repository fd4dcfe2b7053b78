//! What was seen of both revisions so far, and the evidence in it.

use resources::histogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    CATEGORIES, OUTPUTS_MAX, OutputCounts, RevisionWindow,
    evalue::{Counts, log_factor, log_factor_worse, total_variation},
};

/// Requests of the stable revision before its 99th percentile is known well enough to call others slow.
const P99_REQUESTS_MIN: u64 = 100;
/// Requests in the histograms from which on what is old weighs half: load changes in the course of a day.
const LATENCIES_MAX: u64 = 20_000;

/// What was seen of both revisions, and the logarithms of the evidence that they differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What was compared.
    pub seen: Pair,
    /// What waits until both revisions have answered something, so that there is something to compare.
    pub waiting: Pair,
    /// Logarithm of the evidence that the new revision fails more often.
    pub errors: f64,
    /// Logarithm of the evidence that it is slow more often.
    pub latency: f64,
    /// Outputs that both have, as they were listed first.
    pub outputs: Vec<OutputEvidence>,
}

/// One thing of both revisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Of the stable one.
    pub stable: Side,
    /// Of the new one.
    pub canary: Side,
}

/// What was seen of one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Requests answered, errors among them.
    pub answered: u64,
    /// Those that failed by the revision's fault.
    pub errors: u64,
    /// Time at a replica.
    pub latency: Histogram,
}

/// What was seen of one output of both revisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputEvidence {
    /// Its name.
    pub output: String,
    /// Logarithm of the evidence that the answers differ.
    pub log_e: f64,
    /// Answers of the stable revision by category.
    pub stable: Vec<u64>,
    /// Those of the new one.
    pub canary: Vec<u64>,
    /// Answers that wait until both revisions have given one.
    pub waiting_stable: Vec<u64>,
    /// The same of the new one.
    pub waiting_canary: Vec<u64>,
}

impl Side {
    /// What a window says of one revision.
    pub fn of(window: &RevisionWindow) -> Self {
        let answered = u64::from(window.answered);
        Self { answered, errors: u64::from(window.errors).min(answered), latency: window.service.clone() }
    }

    fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.errors += other.errors;
        self.latency.merge(&other.latency);
    }

    fn outcomes(&self) -> [u64; 2] {
        [self.answered.saturating_sub(self.errors), self.errors]
    }

    fn slow(&self, threshold_ms: f64) -> [u64; 2] {
        let slow = self.latency.above(threshold_ms);
        [self.latency.count().saturating_sub(slow), slow]
    }

    /// Share of requests that failed.
    pub fn error_rate(&self) -> f64 {
        if self.answered == 0 { 0.0 } else { self.errors as f64 / self.answered as f64 }
    }

    /// The 99th percentile, milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.latency.quantile(0.99).unwrap_or(0.0)
    }
}

impl Evidence {
    /// Takes in a window; gives how many of the new revision's requests could be compared now. A block ends with the window in which
    /// both revisions have answered something: that depends on how many requests came, not on how they ended.
    pub fn absorb(&mut self, window: &Pair, tolerance: f64) -> u64 {
        self.waiting.stable.add(&window.stable);
        self.waiting.canary.add(&window.canary);
        if self.waiting.stable.answered == 0 || self.waiting.canary.answered == 0 {
            return 0;
        }
        let block = std::mem::take(&mut self.waiting);
        let Pair { stable, canary } = &self.seen;
        let compare = |before: [[u64; 2]; 2], now: [[u64; 2]; 2]| {
            let [stable, canary] = &before;
            let [stable_now, canary_now] = &now;
            log_factor_worse(&Counts { stable, canary }, &Counts { stable: stable_now, canary: canary_now })
        };
        self.errors +=
            compare([stable.outcomes(), canary.outcomes()], [block.stable.outcomes(), block.canary.outcomes()]);
        if stable.latency.count() >= P99_REQUESTS_MIN {
            let threshold_ms = tolerance * stable.p99_ms();
            let slow = |side: &Side| side.slow(threshold_ms);
            self.latency += compare([slow(stable), slow(canary)], [slow(&block.stable), slow(&block.canary)]);
        }
        self.seen.stable.add(&block.stable);
        self.seen.canary.add(&block.canary);
        for side in [&mut self.seen.stable, &mut self.seen.canary] {
            if side.latency.count() > LATENCIES_MAX {
                side.latency.halve();
            }
        }
        block.canary.answered
    }

    /// Takes in what was counted of the outputs of both revisions. The first lists decide which outputs there are.
    pub fn absorb_outputs(&mut self, stable: &[OutputCounts], canary: &[OutputCounts]) {
        let find = |all: &[OutputCounts], name: &str| all.iter().find(|one| one.output == name).cloned();
        if self.outputs.is_empty() {
            let common = stable.iter().filter(|one| find(canary, &one.output).is_some()).take(OUTPUTS_MAX);
            self.outputs = common.map(|one| OutputEvidence::new(&one.output)).collect();
        }
        for output in &mut self.outputs {
            add(&mut output.waiting_stable, find(stable, &output.output));
            add(&mut output.waiting_canary, find(canary, &output.output));
            output.settle();
        }
    }

    /// Logarithm of the evidence of all outputs together: the mean of theirs, which is one by itself.
    pub fn outputs_log_e(&self) -> f64 {
        let greatest = self.outputs.iter().map(|output| output.log_e).fold(f64::NEG_INFINITY, f64::max);
        if self.outputs.is_empty() {
            return 0.0;
        }
        let sum: f64 = self.outputs.iter().map(|output| (output.log_e - greatest).exp()).sum();
        greatest + (sum / self.outputs.len() as f64).ln()
    }

    /// The output that differs most by its evidence.
    pub fn moved(&self) -> Option<&OutputEvidence> {
        self.outputs.iter().max_by(|a, b| a.log_e.total_cmp(&b.log_e))
    }
}

impl OutputEvidence {
    fn new(output: &str) -> Self {
        let none = || vec![0; CATEGORIES];
        Self {
            output: output.to_owned(),
            log_e: 0.0,
            stable: none(),
            canary: none(),
            waiting_stable: none(),
            waiting_canary: none(),
        }
    }

    /// Compares what waits once both revisions have given an answer.
    fn settle(&mut self) {
        let some = |counts: &[u64]| counts.iter().any(|count| *count > 0);
        if !some(&self.waiting_stable) || !some(&self.waiting_canary) {
            return;
        }
        let now = Counts { stable: &self.waiting_stable, canary: &self.waiting_canary };
        self.log_e += log_factor(&Counts { stable: &self.stable, canary: &self.canary }, &now);
        for (seen, waiting) in
            [(&mut self.stable, &mut self.waiting_stable), (&mut self.canary, &mut self.waiting_canary)]
        {
            for (seen, waiting) in seen.iter_mut().zip(waiting) {
                *seen += std::mem::take(waiting);
            }
        }
    }

    /// Share of the answers that fall elsewhere than the stable revision's.
    pub fn moved(&self) -> f64 {
        total_variation(&Counts { stable: &self.stable, canary: &self.canary })
    }
}

fn add(counts: &mut [u64], more: Option<OutputCounts>) {
    for (category, number) in more.into_iter().flat_map(|more| more.counts) {
        if let Some(count) = counts.get_mut(category) {
            *count = count.saturating_add(number);
        }
    }
}
