//! Status of an `InferenceService`: what is there.

use serde::{Deserialize, Serialize};

use crate::{
    condition::Condition,
    id::{BundleDigest, ReplicaId, Revision},
    rollout::RolloutStatus,
};

/// What is there, written by the controller alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceServiceStatus {
    /// The `metadata.generation` that this status speaks about.
    #[serde(default)]
    pub observed_generation: u64,
    /// Base URL of the service at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Statements about the service.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Newest revision that has been ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision: Option<Revision>,
    /// Newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created_revision: Option<Revision>,
    /// Newest revision that has had all the traffic.
    #[serde(default, rename = "latestRolledoutRevision", skip_serializing_if = "Option::is_none")]
    pub latest_rolled_out_revision: Option<Revision>,
    /// Revisions that requests are sent to, newest first, with their shares; 100 percent in all.
    #[serde(default)]
    pub traffic: Vec<RevisionTraffic>,
    /// Bundle of the newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleDigest>,
    /// How many replicas the newest revision is to have and has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleStatus>,
    /// Every replica of every revision.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
    /// How the newest revision's rollout stands, where `spec.rollout` asks for one and there is a revision to compare it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// What the last plan did for this service, what it waits for, and which rule drove it.
    #[serde(default)]
    pub plan: Vec<String>,
}

/// One revision's share of the requests that name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionTraffic {
    /// The revision.
    pub revision: Revision,
    /// Its share.
    pub percent: u32,
}

/// How many replicas a revision is to have and has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleStatus {
    /// Replicas there should be.
    pub desired: u32,
    /// Replicas that answer.
    pub ready: u32,
    /// Why so many should be there; absent where their number is fixed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One replica as last observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Id of the replica.
    pub id: ReplicaId,
    /// Revision it serves.
    pub revision: Revision,
    /// Where it is in its life.
    pub phase: ReplicaPhase,
    /// Process id, when there is a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Times that replicas of this revision ended by themselves.
    #[serde(default)]
    pub restarts: u32,
    /// Why the phase is what it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaPhase {
    /// The process runs, the model is not ready yet.
    Starting,
    /// It answers requests.
    Ready,
    /// It ended by itself and waits for its back-off.
    CrashLoopBackOff,
    /// It finishes its last requests.
    Draining,
}
