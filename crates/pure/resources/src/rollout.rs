//! How a new revision takes over step by step, judged by what its requests show.

use serde::{Deserialize, Serialize};

/// Steps of one rollout, at most: more shares than anybody tells apart.
pub const STEPS_MAX: usize = 10;
/// Requests that the new revision answers in a step before the next one, when the manifest does not say.
pub const MIN_REQUESTS_DEFAULT: u32 = 300;
/// Seconds of a step when the manifest does not say: a few dozen windows.
pub const MIN_SECONDS_DEFAULT: u32 = 30;
/// Seconds after which a step that could not be decided says so, when the manifest does not say.
pub const MAX_SECONDS_DEFAULT: u32 = 3600;
/// Chance of rolling back a revision that behaves as the one before, when the manifest does not say.
pub const FALSE_ROLLBACK_RATE_DEFAULT: f64 = 0.05;
/// How much slower than the stable revision's the new one's 99th percentile may be, when the manifest does not say.
pub const LATENCY_TOLERANCE_DEFAULT: f64 = 1.5;
/// Share of the answers that may fall elsewhere than the stable revision's, when the manifest does not say.
pub const OUTPUT_TOLERANCE_DEFAULT: f64 = 0.1;

/// How a new revision takes over. A change of it makes no revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// Shares of the requests that the new revision gets one after the other, before all; 1 to [`STEPS_MAX`], rising.
    pub steps: Vec<Step>,
    /// What a step is judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// Whether the next step is taken without a person; default `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promote: Option<bool>,
    /// Whether a harmful revision is rolled back without a person; default `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rollback: Option<bool>,
}

/// One step of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// Percent of the requests, 1 to 99.
    pub percent: u32,
    /// Seconds that the step lasts at least; default [`MIN_SECONDS_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seconds: Option<u32>,
}

/// What a step is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Analysis {
    /// Requests that the new revision answers in a step before the next one; default [`MIN_REQUESTS_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u32>,
    /// Seconds after which a step that could not be decided says so and waits on; default [`MAX_SECONDS_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u32>,
    /// Chance of rolling back a revision that behaves as the one before; default [`FALSE_ROLLBACK_RATE_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_rollback_rate: Option<f64>,
    /// How many times the stable revision's 99th percentile the new one's may be; default [`LATENCY_TOLERANCE_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_tolerance: Option<f64>,
    /// Share of the answers that may fall elsewhere than the stable revision's (total variation); 1 for any; default
    /// [`OUTPUT_TOLERANCE_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tolerance: Option<f64>,
}

/// What a person wants of the newest revision's rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It gets all requests now.
    Promote,
    /// It gets none; the revision before gets them.
    Abort,
    /// It keeps its share until resumed or found harmful.
    Pause,
}

/// The body of a wish: `{"wish": "pause"}`, or `{"wish": null}` to go on by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WishBody {
    /// The wish; nothing to resume.
    pub wish: Option<Wish>,
}

/// How a rollout stands, in an `InferenceService`'s status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The new revision.
    pub revision: crate::id::Revision,
    /// The one that it is compared with.
    pub stable: crate::id::Revision,
    /// Where it is.
    pub phase: RolloutPhase,
    /// Step of now, from 1.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// Requests that the new revision has answered in this step.
    pub step_requests: u64,
    /// Requests that it has answered since the rollout began, of those compared.
    pub requests: u64,
    /// Requests that the stable revision answered meanwhile.
    pub stable_requests: u64,
    /// What was compared.
    pub tests: Vec<TestStatus>,
    /// Why it is where it is.
    pub message: String,
}

/// Where a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutPhase {
    /// The revisions are compared.
    Judging,
    /// A person has paused it.
    Paused,
    /// It waits for a person, or for more requests than came in time.
    Held,
    /// The new revision gets everything.
    Promoted,
    /// The new revision was found harmful and is given up.
    RolledBack,
    /// A person has given the new revision no requests.
    Aborted,
}

/// One comparison of the two revisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestStatus {
    /// `errors`, `latency` or `outputs`.
    pub name: String,
    /// Evidence that the revisions differ: an e-value, 1 at the start.
    pub evidence: f64,
    /// Evidence from which on the revision is rolled back if it is the worse one.
    pub needed: f64,
    /// What was measured of the stable revision: share of errors, 99th percentile in milliseconds; 0 for outputs.
    pub stable: f64,
    /// The same of the new one; for outputs the share of answers that fall elsewhere.
    pub canary: f64,
}

/// A rollout with its defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Canary requests of a step.
    pub min_requests: u64,
    /// Time of a step after which it says that it could not be decided, milliseconds.
    pub max_ms: u64,
    /// Chance of a false rollback.
    pub false_rollback_rate: f64,
    /// Tolerated quotient of the 99th percentiles.
    pub latency_tolerance: f64,
    /// Tolerated total variation of outputs.
    pub output_tolerance: f64,
}

impl Rollout {
    /// Whether the next step is taken without a person.
    pub fn promotes(&self) -> bool {
        self.auto_promote.unwrap_or(true)
    }

    /// Whether a harmful revision is rolled back without a person.
    pub fn rolls_back(&self) -> bool {
        self.auto_rollback.unwrap_or(true)
    }

    /// What a step is judged by, with defaults.
    pub fn limits(&self) -> Limits {
        let analysis = self.analysis.unwrap_or_default();
        Limits {
            min_requests: u64::from(analysis.min_requests.unwrap_or(MIN_REQUESTS_DEFAULT)),
            max_ms: u64::from(analysis.max_seconds.unwrap_or(MAX_SECONDS_DEFAULT)) * 1000,
            false_rollback_rate: analysis.false_rollback_rate.unwrap_or(FALSE_ROLLBACK_RATE_DEFAULT),
            latency_tolerance: analysis.latency_tolerance.unwrap_or(LATENCY_TOLERANCE_DEFAULT),
            output_tolerance: analysis.output_tolerance.unwrap_or(OUTPUT_TOLERANCE_DEFAULT),
        }
    }
}

impl Step {
    /// How long it lasts at least, milliseconds.
    pub fn min_ms(&self) -> u64 {
        u64::from(self.min_seconds.unwrap_or(MIN_SECONDS_DEFAULT)) * 1000
    }
}
