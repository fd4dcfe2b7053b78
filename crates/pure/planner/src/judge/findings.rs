//! What each test says now.

use resources::rollout::Limits;

use super::Evidence;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does the new revision fail more often?
    Errors,
    /// Is its 99th percentile longer than tolerated?
    Latency,
    /// Do its answers fall elsewhere?
    Outputs,
}

/// What a test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// The question.
    pub question: Question,
    /// Logarithm of the evidence that the revisions differ.
    pub log_e: f64,
    /// What was measured of the stable revision: share of errors, milliseconds; 0 for outputs.
    pub stable: f64,
    /// The same of the new one; for outputs the share of answers that fall elsewhere.
    pub canary: f64,
    /// Whether what was measured is worse than tolerated.
    pub harmful: bool,
}

impl Question {
    /// The name in a status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Outputs => "outputs",
        }
    }
}

/// Logarithm of the greatest evidence that is shown: there is nothing to tell apart beyond a million million.
const SHOWN_LOG_MAX: f64 = 27.6;

/// Evidence as a number to be shown.
pub fn e_value(log_e: f64) -> f64 {
    log_e.min(SHOWN_LOG_MAX).exp()
}

/// The three tests.
pub fn findings(evidence: &Evidence, limits: &Limits) -> [Finding; 3] {
    let (stable, canary) = (&evidence.seen.stable, &evidence.seen.canary);
    let finding = |question, log_e, stable, canary, harmful| Finding { question, log_e, stable, canary, harmful };
    let (failed, fail) = (stable.error_rate(), canary.error_rate());
    let (before_ms, now_ms) = (stable.p99_ms(), canary.p99_ms());
    let moved = evidence.moved().map_or(0.0, super::OutputEvidence::moved);
    [
        finding(Question::Errors, evidence.errors, failed, fail, fail > failed),
        finding(Question::Latency, evidence.latency, before_ms, now_ms, now_ms > limits.latency_tolerance * before_ms),
        finding(Question::Outputs, evidence.outputs_log_e(), 0.0, moved, moved > limits.output_tolerance),
    ]
}
