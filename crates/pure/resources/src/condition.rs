//! Conditions: the truth about a resource in words, in the shape of Kubernetes' `metav1.Condition`.

use serde::{Deserialize, Serialize};

/// One statement about a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the statement is about, `PascalCase`.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, one `PascalCase` word for machines.
    pub reason: String,
    /// Why, in words for people, and what to do.
    pub message: String,
    /// When `status` last changed; RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

/// What conditions speak about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The service answers requests with the newest revision.
    Ready,
    /// The newest revision has all its replicas ready.
    PredictorReady,
    /// The newest revision gets all the requests that name none.
    RolledOut,
    /// The model was admitted to the store and its digests are right.
    ModelAdmitted,
    /// Every limit and sandbox rule that was asked for is in force.
    Enforced,
    /// The model runs at the optimisation level it was meant to.
    Optimised,
    /// Requests that wait are run together.
    Batched,
    /// Requests that come together run beside each other.
    Parallel,
    /// The golden inputs that came with the model gave the expected outputs.
    GoldenVerified,
    /// Every field of the manifest of KServe that the service came from is honoured.
    KServeCompatible,
}

/// Whether a statement holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows yet.
    Unknown,
}
