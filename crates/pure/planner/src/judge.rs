//! Judges a new revision by what its requests show: errors, latency and outputs, beside those of the revision before.
//!
//! Method: one test per question, each an e-process. For a block of requests, in which `n_s` went to the stable revision and `n_c`
//! to the new one, the evidence is multiplied by the e-variable of Turner, Ly and Grünwald ("Generic E-Variables for Exact
//! Sequential k-Sample Tests that allow for Optional Stopping", 2021), see `evalue`. All that a block's factor depends on but the
//! block's own outcomes is known before it: the estimates, the threshold of what counts as slow, the list of outputs.
//!
//! Guarantee: while both revisions behave alike, the chance that a test's evidence *ever* reaches `3 / falseRollbackRate` is at most
//! a third of `falseRollbackRate` (Ville's inequality), however often one looks and whenever one stops; so the chance of rolling
//! such a revision back, over all steps of its rollout, is at most `falseRollbackRate` (Bonferroni over the three tests). What both
//! do alike may change from block to block: load, time of day, kinds of requests.
//!
//! Assumptions: within one block, given what the day brings, the outcomes are independent draws, from one distribution for both
//! revisions if they behave alike. Requests are drawn by chance, so this holds without `sticky`; with it clients are drawn, and a
//! client that is always slow counts as often as it asks. One replica that stalls makes all its requests of that second slow
//! together: that speaks against the revision as if they were independent, which is why the estimate has to be harmful too.
//!
//! Caveats: a rollback needs the evidence *and* an estimate that is harmful; a promotion needs requests and no doubt, and says
//! nothing about what too few requests could not show.

use resources::{
    digest::{CATEGORIES, OUTPUTS_MAX, OutputCounts},
    id::Revision,
    rollout::{Rollout, RolloutPhase, Wish},
    window::RevisionWindow,
};
use serde::{Deserialize, Serialize};

pub mod evalue;
mod evidence;
mod findings;
#[cfg(test)]
mod tests;
mod words;

pub use evidence::{Evidence, OutputEvidence, Pair, Side};
pub use findings::{Finding, Question, e_value, findings};

/// Tests that share the rate of false rollbacks.
pub const TESTS: f64 = 3.0;
/// Evidence from which on a harmful estimate is a doubt: no step is taken while there is one. Of revisions that behave alike one in
/// three shows it at some time, and most get rid of it by more requests.
const DOUBT: f64 = 3.0;

/// What is remembered of a revision's rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutState {
    /// Step of now, from 0.
    pub step: u32,
    /// Since when, milliseconds.
    pub since_ms: u64,
    /// End of the last window that was counted, milliseconds.
    pub until_ms: u64,
    /// Requests that the new revision has answered in this step, of those that could be compared.
    pub step_requests: u64,
    /// What was seen.
    pub evidence: Evidence,
    /// How it ended; nothing while it goes on.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Verdict {
    /// The new revision gets everything.
    Promoted {
        /// Why, in words.
        why: String,
    },
    /// The new revision was found harmful.
    RolledBack {
        /// Why, in words.
        why: String,
    },
    /// A person has given it no requests.
    Aborted,
}

/// One window of both revisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgeWindow {
    /// When it ended, milliseconds.
    pub end_ms: u64,
    /// What was counted of each revision.
    pub revisions: Vec<RevisionWindow>,
}

/// Answers of one revision by output and category, counted since the last pass.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputWindow {
    /// The revision.
    pub revision: Revision,
    /// Its outputs, those without a new answer too.
    pub outputs: Vec<OutputCounts>,
}

/// What there is to judge.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// How the revision is to take over.
    pub rollout: &'a Rollout,
    /// The new revision.
    pub canary: Revision,
    /// The one that it is compared with.
    pub stable: Revision,
    /// What a person wants.
    pub wish: Option<Wish>,
    /// Why the two cannot be compared any more, if so: the revision is rolled back.
    pub trouble: Option<&'a str>,
    /// Windows of the last minutes, oldest first; those that were counted before are left out here.
    pub windows: &'a [JudgeWindow],
    /// What was counted of outputs since the last pass.
    pub outputs: &'a [OutputWindow],
}

/// How a rollout stands after a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What to remember.
    pub state: RolloutState,
    /// Where it is.
    pub phase: RolloutPhase,
    /// Why, in words and numbers.
    pub why: String,
}

/// Counts what is new and decides.
pub fn judge(before: Option<&RolloutState>, case: &Case<'_>) -> Judgement {
    let begin = || RolloutState { since_ms: case.now_ms, until_ms: case.now_ms, ..RolloutState::default() };
    let mut state = before.cloned().unwrap_or_else(begin);
    match case.wish {
        Some(Wish::Promote) if !matches!(state.verdict, Some(Verdict::Promoted { .. })) => {
            state.verdict = Some(Verdict::Promoted { why: "a person has promoted it".to_owned() });
        }
        Some(Wish::Abort) => state.verdict = Some(Verdict::Aborted),
        _ => {}
    }
    if state.verdict.is_none() {
        count(&mut state, case);
        return decide(state, case);
    }
    told(state, case)
}

/// Takes in the windows that were not counted yet.
fn count(state: &mut RolloutState, case: &Case<'_>) {
    let tolerance = case.rollout.limits().latency_tolerance;
    for window in case.windows {
        if window.end_ms <= state.until_ms {
            continue;
        }
        state.until_ms = window.end_ms;
        let of =
            |revision| window.revisions.iter().find(|one| one.revision == revision).map(Side::of).unwrap_or_default();
        let compared = state.evidence.absorb(&Pair { stable: of(case.stable), canary: of(case.canary) }, tolerance);
        state.step_requests += compared;
    }
    let outputs = |revision| {
        let found = case.outputs.iter().find(|window| window.revision == revision);
        found.map(|window| window.outputs.as_slice()).unwrap_or_default()
    };
    state.evidence.absorb_outputs(outputs(case.stable), outputs(case.canary));
}

fn decide(mut state: RolloutState, case: &Case<'_>) -> Judgement {
    let limits = case.rollout.limits();
    let found = findings(&state.evidence, &limits);
    let needed = TESTS / limits.false_rollback_rate;
    let guilty = found.iter().find(|finding| finding.harmful && finding.log_e >= needed.ln());
    let why = match (case.trouble, guilty) {
        (Some(trouble), _) => Some(trouble.to_owned()),
        (None, Some(finding)) => Some(words::guilty(finding, &state.evidence, case)),
        (None, None) => None,
    };
    if let Some(why) = why {
        if case.rollout.rolls_back() {
            state.verdict = Some(Verdict::RolledBack { why });
            return told(state, case);
        }
        let why = format!("{why}; `autoRollback` is off: `berth rollout abort` or `promote` decides");
        return Judgement { state, phase: RolloutPhase::Held, why };
    }
    let so_far = words::so_far(&state, case, &found);
    let held = |state, phase, what: &str| Judgement { state, phase, why: format!("{so_far}; {what}") };
    if case.wish == Some(Wish::Pause) {
        return held(state, RolloutPhase::Paused, "paused: `berth rollout resume` goes on");
    }
    let waited_ms = case.now_ms.saturating_sub(state.since_ms);
    let few = state.step_requests < limits.min_requests;
    let doubt = found.iter().find(|finding| finding.harmful && finding.log_e >= DOUBT.ln());
    if few || doubt.is_some() {
        let what = match doubt {
            Some(finding) => words::doubt(finding, &state.evidence, case),
            None => format!("{} more are needed", limits.min_requests.saturating_sub(state.step_requests)),
        };
        if waited_ms < limits.max_ms {
            return held(state, RolloutPhase::Judging, &what);
        }
        let seconds = limits.max_ms / 1000;
        let what =
            format!("{what}, and {seconds} s are over: it waits on, and `berth rollout promote` or `abort` decides");
        return held(state, RolloutPhase::Held, &what);
    }
    let step = step(&state, case.rollout);
    let min_ms = case.rollout.steps.get(step).map_or(0, resources::rollout::Step::min_ms);
    if waited_ms < min_ms {
        return held(state, RolloutPhase::Judging, &format!("the step lasts {} s", min_ms / 1000));
    }
    if !case.rollout.promotes() {
        return held(state, RolloutPhase::Held, "`autoPromote` is off: `berth rollout promote` gives it all requests");
    }
    if step + 1 >= case.rollout.steps.len() {
        state.verdict = Some(Verdict::Promoted { why: so_far });
        return told(state, case);
    }
    (state.step, state.since_ms, state.step_requests) = (state.step.saturating_add(1), case.now_ms, 0);
    let why = format!("{so_far}; no harm was found, the next step begins");
    Judgement { state, phase: RolloutPhase::Judging, why }
}

/// What is said of a rollout that has ended.
fn told(state: RolloutState, case: &Case<'_>) -> Judgement {
    let canary = case.canary;
    let (phase, why) = match &state.verdict {
        Some(Verdict::Promoted { why }) => (RolloutPhase::Promoted, format!("revision {canary} is promoted: {why}")),
        Some(Verdict::RolledBack { why }) => {
            (RolloutPhase::RolledBack, format!("revision {canary} was rolled back: {why}"))
        }
        Some(Verdict::Aborted) => {
            let stable = case.stable;
            (
                RolloutPhase::Aborted,
                format!("a person has aborted revision {canary}: revision {stable} gets all requests"),
            )
        }
        None => (RolloutPhase::Judging, String::new()),
    };
    Judgement { state, phase, why }
}

/// The step of now among those of the manifest, which may have become fewer.
pub(crate) fn step(state: &RolloutState, rollout: &Rollout) -> usize {
    usize::try_from(state.step).unwrap_or(usize::MAX).min(rollout.steps.len().saturating_sub(1))
}
