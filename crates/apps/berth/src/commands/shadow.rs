//! What the gateway has found out about the shadow of a service.

use std::collections::BTreeMap;

use resources::inference_service::InferenceService;
use serde::Serialize;

use crate::context::Context;

const COUNTED: &str = "berth_gateway_shadow_requests_total";

/// Copies of requests by what became of them, since the gateway has mirrored to this revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Agreement {
    agreed: u64,
    /// By reason, as the next two.
    differed: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
    dropped: BTreeMap<String, u64>,
}

/// What is known; nothing without a shadow or a gateway that can be asked.
pub(super) async fn agreement(context: &Context, service: &InferenceService) -> Option<Agreement> {
    service.spec.shadow?;
    let text = context.client.gateway_metrics().await.ok()?;
    Some(read(&text, service.metadata.name.as_str()))
}

/// `20 % mirrored to the newest revision; 26 of 26 answers agree`.
pub(super) fn words(service: &InferenceService, agreement: Option<&Agreement>) -> String {
    let Some(shadow) = service.spec.shadow else { return "<none>".to_owned() };
    let known = agreement.map(|agreement| format!("; {agreement}")).unwrap_or_default();
    format!("{} % mirrored to the newest revision{known}", shadow.percent)
}

fn read(metrics: &str, name: &str) -> Agreement {
    let mut agreement = Agreement::default();
    let begin = format!("{COUNTED}{{service=\"{name}\",");
    for line in metrics.lines().filter_map(|line| line.strip_prefix(&begin)) {
        let Some((labels, count)) = line.rsplit_once("} ") else { continue };
        let label = |name: &str| labels.split_once(&format!("{name}=\""))?.1.split('"').next();
        let (Some(outcome), Some(reason), Ok(count)) = (label("outcome"), label("reason"), count.parse::<u64>()) else {
            continue;
        };
        let by_reason = match outcome {
            "differed" => &mut agreement.differed,
            "failed" => &mut agreement.failed,
            "dropped" => &mut agreement.dropped,
            _ => {
                agreement.agreed += count;
                continue;
            }
        };
        *by_reason.entry(reason.to_owned()).or_default() += count;
    }
    agreement
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = |of: &BTreeMap<String, u64>| of.values().sum::<u64>();
        write!(f, "{} of {} answers agree", self.agreed, self.agreed + sum(&self.differed))?;
        for (what, of) in [("differ", &self.differed), ("failed", &self.failed), ("left out", &self.dropped)] {
            if !of.is_empty() {
                let reasons: Vec<String> = of.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
                write!(f, ", {} {what} ({})", sum(of), reasons.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_in_words() {
        let line = |service: &str, outcome: &str, reason: &str, count: u64| {
            format!(
                "{COUNTED}{{service=\"{service}\",revision=\"2\",outcome=\"{outcome}\",reason=\"{reason}\"}} {count}\n"
            )
        };
        let lines = [
            line("spam", "agreed", "", 20),
            line("spam-2", "agreed", "", 99),
            line("spam", "differed", "class", 4),
            line("spam", "differed", "score", 1),
            line("spam", "dropped", "busy", 3),
            "# EOF".to_owned(),
        ];
        let read = read(&lines.concat(), "spam");
        assert_eq!(read.to_string(), "20 of 25 answers agree, 5 differ (4 class, 1 score), 3 left out (3 busy)");
        assert_eq!(super::read("", "spam").to_string(), "0 of 0 answers agree");
    }
}
