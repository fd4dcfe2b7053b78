//! Says with numbers what the tests say.

use super::{Case, Evidence, Finding, Question, RolloutState, TESTS, e_value, step};

/// Why a revision is harmful.
pub(super) fn guilty(finding: &Finding, evidence: &Evidence, case: &Case<'_>) -> String {
    let rate = case.rollout.limits().false_rollback_rate;
    let needed = TESTS / rate;
    format!(
        "{}; the evidence is {}, {} is enough: of revisions that behave as the one before at most {} % are rolled back",
        measured(finding, evidence, case),
        number(e_value(finding.log_e)),
        number(needed),
        short(rate * 100.0)
    )
}

/// Why no step is taken.
pub(super) fn doubt(finding: &Finding, evidence: &Evidence, case: &Case<'_>) -> String {
    let needed = TESTS / case.rollout.limits().false_rollback_rate;
    let (found, needed) = (number(e_value(finding.log_e)), number(needed));
    let measured = measured(finding, evidence, case);
    format!("in doubt, since {measured}; the evidence is {found}, {needed} is enough to roll back")
}

/// The step and what was measured in it.
pub(super) fn so_far(state: &RolloutState, case: &Case<'_>, found: &[Finding; 3]) -> String {
    let at = step(state, case.rollout);
    let percent = case.rollout.steps.get(at).map_or(0, |step| step.percent);
    let steps = case.rollout.steps.len();
    let (evidence, revision) = (&state.evidence, case.canary);
    let mut text = format!(
        "step {} of {steps}: revision {revision} gets {percent} % of the requests and has answered {} of them in it",
        at + 1,
        state.step_requests
    );
    for finding in found {
        let stable = &evidence.seen.stable;
        match finding.question {
            Question::Errors if stable.answered > 0 => text.push_str(&format!(
                "; errors {} % beside {} %",
                short(finding.canary * 100.0),
                short(finding.stable * 100.0)
            )),
            Question::Latency if stable.latency.count() > 0 => {
                text.push_str(&format!("; p99 {} ms beside {} ms", short(finding.canary), short(finding.stable)));
            }
            Question::Outputs if !evidence.outputs.is_empty() => {
                text.push_str(&format!("; {} % of the answers moved", short(finding.canary * 100.0)));
            }
            _ => continue,
        }
        text.push_str(&format!(" (evidence {})", number(e_value(finding.log_e))));
    }
    text
}

fn measured(finding: &Finding, evidence: &Evidence, case: &Case<'_>) -> String {
    let (stable, canary) = (&evidence.seen.stable, &evidence.seen.canary);
    let (before, limits) = (case.stable, case.rollout.limits());
    match finding.question {
        Question::Errors => format!(
            "{} of its {} requests failed ({} %), {} of the {} of revision {before} ({} %)",
            canary.errors,
            canary.answered,
            short(finding.canary * 100.0),
            stable.errors,
            stable.answered,
            short(finding.stable * 100.0)
        ),
        Question::Latency => format!(
            "the 99th percentile of its {} requests is {} ms, that of revision {before} {} ms, and {} times that is tolerated",
            canary.answered,
            short(finding.canary),
            short(finding.stable),
            short(limits.latency_tolerance)
        ),
        Question::Outputs => {
            let name = evidence.moved().map_or("", |output| output.output.as_str());
            let answers: u64 = evidence.moved().map_or(0, |output| output.canary.iter().sum());
            format!(
                "{} % of its {answers} answers in `{name}` fall elsewhere than those of revision {before}, and {} % is tolerated",
                short(finding.canary * 100.0),
                short(limits.output_tolerance * 100.0)
            )
        }
    }
}

/// A number with three digits that count.
fn short(value: f64) -> String {
    let digits = if value >= 100.0 || value == 0.0 { 0 } else { usize::from(value < 10.0) + 1 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Evidence, which may be beyond all measure.
fn number(value: f64) -> String {
    if value >= 10_000.0 { format!("{value:.0e}") } else { short(value) }
}
