//! What the trials of a model came to, so that its next replica need not make them before it is ready.
//!
//! Flow: a replica that made the trials says what they came to in its status; the controller keeps it and hands it to the next
//! replica of the bundle.
//! Guarantees: findings are taken only for the same bundle, whose digests were checked, and under the same circumstances: else
//! the trials are made. The model is run once and its golden cases are verified on every session at each start, whatever they say.
//! Assumptions: the directory that they are kept in is its owner's alone, as is the store with the models themselves.

use std::{fs::File, io::Read as _, time::Duration};

use resources::condition::{Condition, ConditionKind, ConditionStatus};
use serde::{Deserialize, Serialize};

use super::condition;
use crate::{
    backend::ort::Optimisation,
    executor::turn::Lanes,
    placement::{Cost, Plan},
};

/// Bytes of findings as JSON, at most: some ten numbers and four sentences. Longer ones are not kept.
pub const BYTES_MAX: usize = 4096;

/// Longest time of a run that is believed.
const RUN_TIME_MAX: Duration = Duration::from_secs(3600);

/// Bytes of `/proc/cpuinfo` that name the first CPU.
const CPU_BYTES_MAX: u64 = 4096;

/// What came of the trials of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Findings {
    /// What they hold for.
    pub circumstances: Circumstances,
    /// How far the graph was rewritten.
    pub optimisation: Option<Optimisation>,
    /// Time of a run, nanoseconds.
    pub run_nanos: u64,
    /// Bytes of its inputs.
    pub run_bytes: usize,
    /// Whether requests are joined.
    pub batched: Verdict,
    /// Whether requests run beside each other.
    pub parallel: Verdict,
    /// The lanes that they do it on.
    pub lanes: Option<LaneTimes>,
}

/// What decides how a trial ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Circumstances {
    /// Digest of the bundle.
    pub bundle: String,
    /// Version of Berth.
    pub version: String,
    /// Version of ONNX Runtime.
    pub library: String,
    /// The kind of CPU.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// What the process may use.
    pub memory_bytes_max: Option<u64>,
    /// Rows that may be joined.
    pub rows_max: usize,
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, one word for machines.
    pub reason: String,
    /// Why, in words.
    pub message: String,
}

/// What runs take on lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaneTimes {
    /// Sessions, each with its part of the CPUs.
    pub count: usize,
    /// Time of a run on one, while all run, nanoseconds.
    pub lane_nanos: u64,
    /// Time of a run on the session with all CPUs, nanoseconds.
    pub wide_nanos: u64,
}

impl Findings {
    /// Reads findings; `None` when they are none that this release understands.
    pub fn parse(text: &str) -> Option<Self> {
        let known: Self = if text.len() <= BYTES_MAX { serde_json::from_str(text).ok()? } else { return None };
        let times = [Some(known.run_nanos), known.lanes.map(|l| l.lane_nanos), known.lanes.map(|l| l.wide_nanos)];
        let believed = |nanos: &u64| *nanos > 0 && Duration::from_nanos(*nanos) <= RUN_TIME_MAX;
        times.iter().flatten().all(believed).then_some(known)
    }

    /// Whether they hold.
    pub(super) fn hold(&self, circumstances: Option<&Circumstances>, optimisation: Option<Optimisation>) -> bool {
        circumstances == Some(&self.circumstances) && self.optimisation == optimisation
    }

    /// What a run costs; `typical` is known without a trial.
    pub(super) fn cost(&self, typical: bool) -> Cost {
        Cost { run: Duration::from_nanos(self.run_nanos), bytes: self.run_bytes, typical }
    }

    /// The lanes that won, if they are those of `plan`.
    pub(super) fn lanes(&self, plan: Plan) -> Option<Lanes> {
        let LaneTimes { count, lane_nanos, wide_nanos } = self.lanes?;
        let (lane, wide) = (Duration::from_nanos(lane_nanos), Duration::from_nanos(wide_nanos));
        Some(Lanes { count, lane, wide }).filter(|lanes| lanes.count == plan.sessions && lanes.win())
    }
}

impl LaneTimes {
    pub(super) fn of(lanes: &Lanes) -> Self {
        Self { count: lanes.count, lane_nanos: nanos(lanes.lane), wide_nanos: nanos(lanes.wide) }
    }
}

impl Verdict {
    pub(super) fn of(condition: &Condition) -> Self {
        let Condition { status, reason, message, .. } = condition;
        Self { status: *status, reason: reason.clone(), message: message.clone() }
    }

    pub(super) fn condition(&self, kind: ConditionKind) -> Condition {
        condition(kind, self.status, &self.reason, &self.message)
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The kind of CPU that this machine has, as Linux names it; empty where it does not. Has to be asked before the sandbox.
pub fn cpu() -> String {
    let mut bytes = Vec::new();
    let read = File::open("/proc/cpuinfo").and_then(|file| file.take(CPU_BYTES_MAX).read_to_end(&mut bytes));
    let text = if read.is_ok() { String::from_utf8_lossy(&bytes) } else { return String::new() };
    // The model on x86; number and part, which name it, on ARM.
    let names = ["model name", "CPU implementer", "CPU part", "uarch"];
    let named = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let value = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
    text.lines().take_while(|line| !line.is_empty()).filter(named).filter_map(value).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn findings() -> Findings {
        let verdict = Verdict { status: ConditionStatus::True, reason: "Faster".into(), message: "so it is".into() };
        let circumstances = Circumstances {
            bundle: "ab".into(),
            version: "1".into(),
            library: "2".into(),
            cpu: cpu(),
            cpus: 2,
            memory_bytes_max: None,
            rows_max: 32,
        };
        Findings {
            circumstances,
            optimisation: Some(Optimisation::All),
            run_nanos: 9_000_000,
            run_bytes: 77,
            batched: verdict.clone(),
            parallel: verdict,
            lanes: Some(LaneTimes { count: 2, lane_nanos: 12_000_000, wide_nanos: 9_000_000 }),
        }
    }

    #[test]
    fn they_hold_where_they_were_found_and_nowhere_else() {
        let known = Findings::parse(&serde_json::to_string(&findings()).unwrap()).unwrap();
        assert_eq!(known, findings());
        let here = known.circumstances.clone();
        assert!(known.hold(Some(&here), Some(Optimisation::All)));
        assert!(!known.hold(Some(&here), Some(Optimisation::Basic)) && !known.hold(None, Some(Optimisation::All)));
        for other in [
            Circumstances { bundle: "cd".into(), ..here.clone() },
            Circumstances { version: "2".into(), ..here.clone() },
            Circumstances { cpu: "another".into(), ..here.clone() },
            Circumstances { cpus: 4, ..here.clone() },
            Circumstances { memory_bytes_max: Some(1), ..here.clone() },
            Circumstances { rows_max: 1, ..here.clone() },
        ] {
            assert!(!known.hold(Some(&other), Some(Optimisation::All)), "{other:?}");
        }
    }

    #[test]
    fn lanes_are_those_that_won() {
        let plan = Plan { sessions: 2, threads: 1 };
        assert_eq!(findings().lanes(plan).map(|lanes| lanes.count), Some(2));
        assert_eq!(findings().lanes(Plan { sessions: 4, threads: 1 }), None);
        let lost = LaneTimes { count: 2, lane_nanos: 20_000_000, wide_nanos: 9_000_000 };
        assert_eq!(Findings { lanes: Some(lost), ..findings() }.lanes(plan), None);
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        for wrong in [
            Findings { run_nanos: 0, ..findings() },
            Findings { run_nanos: u64::MAX, ..findings() },
            Findings { lanes: Some(LaneTimes { count: 2, lane_nanos: 0, wide_nanos: 1 }), ..findings() },
        ] {
            assert_eq!(Findings::parse(&serde_json::to_string(&wrong).unwrap()), None);
        }
        let long = "x".repeat(BYTES_MAX);
        let batched = Verdict { message: long, ..findings().batched };
        assert_eq!(Findings::parse(&serde_json::to_string(&Findings { batched, ..findings() }).unwrap()), None);
        assert_eq!(Findings::parse(r#"{"circumstances":{}}"#), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}", at in any::<prop::sample::Index>(), letter in any::<char>()) {
            prop_assert_eq!(Findings::parse(&text), None);
            let mut changed: Vec<char> = serde_json::to_string(&findings()).unwrap().chars().collect();
            let at = at.index(changed.len());
            changed[at] = letter;
            if let Some(known) = Findings::parse(&changed.into_iter().collect::<String>()) {
                prop_assert!(known.run_nanos > 0 && Duration::from_nanos(known.run_nanos) <= RUN_TIME_MAX);
            }
        }
    }
}
