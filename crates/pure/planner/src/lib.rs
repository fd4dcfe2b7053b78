//! Plans: from what is desired and what is observed to what to do next, with the reasons in words.
//!
//! [`plan`] is a pure function. It takes no hints about what changed, does the same work every time, and never retries:
//! what did not work shows up as an observation the next time. [`check`] states the invariants of every plan.

mod check;
mod enforce;
mod fall_back;
mod history;
mod index;
mod input;
pub mod judge;
mod output;
mod pressure;
mod routes;
pub mod scale;
mod service;
pub mod simulate;
mod status;
mod traffic;

pub use check::check;
pub use enforce::{Allowance, Machine, allowance};
pub use history::{Exit, History, backoff_ms};
pub use input::{DesiredRevision, DesiredService, Input, ObservedReplica, Phase};
pub use output::{Action, Plan, ServicePlan};
pub use pressure::{Eviction, Pressure};

use index::Index;

/// Decides what to do now.
pub fn plan(input: &Input) -> Plan {
    let index = Index::new(input);
    let mut plan = Plan::default();
    let victim = pressure::victim(input, &index);
    for service in &input.services {
        service::plan_service((input, &index, victim), service, &mut plan);
    }
    service::plan_strays(input, &mut plan);
    plan.routes.sort_by(|a, b| a.name.cmp(&b.name));
    plan
}

#[cfg(test)]
mod tests;
