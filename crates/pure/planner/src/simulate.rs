//! A seeded simulator of one service under load: arrivals, a queue in front of replicas, their starts and failures, and a policy.
//!
//! Every policy meets the same arrivals with the same service times, whatever it does: both are drawn from the seed and the
//! number of the request alone.

mod engine;
mod plot;
pub(crate) mod random;
mod replicas;
mod tally;
mod times;
mod trace;

pub use engine::Simulation;
pub use plot::plot;
pub use tally::{Change, Outcome, Point};
pub use times::Times;
pub use trace::{Trace, TraceError};

use crate::scale::{Policy, Spec};

/// What is simulated, whatever the policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Arrivals.
    pub trace: Trace,
    /// Time of one request at a replica.
    pub service: Times,
    /// Time from the wish for a replica to its first answer.
    pub start: Times,
    /// Seconds that a replica lives until it fails, in the mean; without one none fails.
    pub mean_time_to_failure_s: Option<f64>,
    /// Requests that one replica works on at a time.
    pub concurrency: u32,
    /// Requests that may wait; one more is refused.
    pub queue_max: usize,
    /// Milliseconds after which a request that still waits is given up.
    pub timeout_ms: f64,
    /// Milliseconds in which 99 of 100 requests of an interval should be answered.
    pub objective_ms: f64,
    /// Seconds of one interval.
    pub interval_s: f64,
    /// What chance starts from.
    pub seed: u64,
}

/// A policy with its wishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    /// What it is called.
    pub name: String,
    /// How it decides.
    pub policy: Policy,
    /// What is asked of it.
    pub spec: Spec,
}

/// Simulates one policy to the end.
pub fn simulate(scenario: &Scenario, contender: &Contender) -> Outcome {
    let mut simulation = Simulation::new(scenario, contender);
    while !simulation.advance(f64::INFINITY) {}
    simulation.outcome()
}

#[cfg(test)]
mod tests;
