//! What a plan is made from.

use std::path::PathBuf;

use resources::{
    condition::Condition,
    id::{BundleDigest, ReplicaId, Revision, ServiceName},
    inference_service::Sticky,
    rollout::{Rollout, Wish},
    scaling::Bounds,
};

use crate::{
    history::{Exit, History},
    judge::{JudgeWindow, OutputWindow, RolloutState},
    pressure::Pressure,
};

/// Everything the planner may know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// What is asked for.
    pub services: Vec<DesiredService>,
    /// What is there.
    pub replicas: Vec<ObservedReplica>,
    /// How replicas ended by themselves.
    pub histories: Vec<History>,
    /// How much memory there is; `None` where nobody knows.
    pub pressure: Option<Pressure>,
    /// Newest generation that the gateway has said it serves.
    pub gateway_acknowledged: u64,
}

/// A service as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredService {
    /// Its name.
    pub name: ServiceName,
    /// Revisions, oldest first; at least one.
    pub revisions: Vec<DesiredRevision>,
    /// How important it is: when memory is short, replicas of the least important services go first.
    pub priority: i32,
    /// Whether the service is being deleted.
    pub deleting: bool,
    /// Percent of the requests that the newest revision gets beside an earlier one; absent, it gets all.
    pub canary_percent: Option<u32>,
    /// Percent of the requests that are mirrored to the newest revision, which then answers no client.
    pub shadow_percent: Option<u32>,
    /// What keeps a client with one revision.
    pub sticky: Option<Sticky>,
    /// How a new revision takes over by steps; then `canary_percent` is absent.
    pub rollout: Option<Rollout>,
    /// What a gateway counted in the last minutes, oldest first. A rollout knows itself which of it is new.
    pub windows: Vec<JudgeWindow>,
    /// What replicas counted of their answers since the last pass.
    pub outputs: Vec<OutputWindow>,
    /// Fewest and most replicas of each revision.
    pub bounds: Bounds,
    /// Requests that wait for a replica.
    pub held: u32,
}

/// One revision as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredRevision {
    /// Its number.
    pub revision: Revision,
    /// Its model.
    pub bundle: BundleDigest,
    /// Whether the store has the model.
    pub bundle_present: bool,
    /// Replicas to keep running now, within the bounds of the service.
    pub replicas: u32,
    /// Why so many, in a sentence; empty where nothing decides it.
    pub why: String,
    /// Longest time for one request, milliseconds.
    pub timeout_ms: u64,
    /// Requests that one replica works on at a time.
    pub container_concurrency: Option<u32>,
    /// What was asked for and this machine cannot do, in words.
    pub shortfalls: Vec<String>,
    /// Whether it has had all its replicas ready since it was last started from none; a plan says when that happens. Only then
    /// does it get requests.
    pub completed: bool,
    /// Whether it has had all the traffic at some time; a plan says when that happens.
    pub promoted: bool,
    /// When that was last said, milliseconds; nothing when it was before such times were kept.
    pub promoted_ms: Option<u64>,
    /// How its rollout stands; a plan says when that changes.
    pub rollout: Option<RolloutState>,
    /// What a person wants of its rollout.
    pub wish: Option<Wish>,
}

/// A replica as observed.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedReplica {
    /// Its id.
    pub id: ReplicaId,
    /// The service it serves.
    pub service: ServiceName,
    /// The revision it serves.
    pub revision: Revision,
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Its process, when there is one.
    pub pid: Option<i32>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when a ready replica has not answered questions about itself, milliseconds.
    pub silent_since_ms: Option<u64>,
    /// Milliseconds that its oldest run under way had taken when it last said so.
    pub busy_ms: u64,
    /// What it says of its model.
    pub conditions: Vec<Condition>,
    /// Sandbox rules that are not in force, in words.
    pub missing: Vec<String>,
}

/// Where a replica is in its life, with since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The process was asked for; the model is not ready yet.
    Starting {
        /// Since when, milliseconds.
        since_ms: u64,
    },
    /// It answers requests.
    Ready {
        /// Since when, milliseconds.
        since_ms: u64,
    },
    /// It was taken out of the routes by a generation that the gateway may not have seen yet.
    Leaving {
        /// Since when, milliseconds.
        since_ms: u64,
        /// The first generation without it.
        generation: u64,
    },
    /// It was asked to stop, or killed.
    Stopping {
        /// Since when, milliseconds.
        since_ms: u64,
    },
    /// The process ended as it was asked to, or was lost together with its controller.
    Gone,
    /// The process ended by itself.
    Exited(Exit),
}

impl DesiredService {
    pub(crate) fn find(&self, revision: Revision) -> Option<&DesiredRevision> {
        self.revisions.iter().find(|desired| desired.revision == revision)
    }
}

impl ObservedReplica {
    /// Whether it serves or is on its way to.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Ready { .. })
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Whether there is, or soon will be, a process.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Gone | Phase::Exited(_))
    }
}
