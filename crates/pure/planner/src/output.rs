//! What a plan says.

use resources::{
    condition::Condition,
    id::{ReplicaId, Revision, ServiceName},
    rollout::RolloutStatus,
    snapshot::RouteService,
    status::{ReplicaStatus, RevisionTraffic, ScaleStatus},
};

use crate::{history::History, judge::RolloutState, pressure::Eviction};

/// What to do now, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// What the gateway should serve.
    pub routes: Vec<RouteService>,
    /// What to say about each service.
    pub services: Vec<ServicePlan>,
    /// What to remember from now on; histories that are not named stay as they are.
    pub histories: Vec<History>,
    /// The replica among them that goes because memory is short.
    pub evicted: Option<Eviction>,
    /// When to plan again although nothing changed, milliseconds.
    pub wake_at_ms: Option<u64>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start a replica.
    Start {
        /// Of this service.
        service: ServiceName,
        /// Of this revision.
        revision: Revision,
    },
    /// Take a replica out of the routes; the plan's routes are without it.
    Leave {
        /// The replica.
        replica: ReplicaId,
        /// Why.
        why: String,
    },
    /// Ask a replica to finish its requests and stop.
    Stop {
        /// The replica.
        replica: ReplicaId,
        /// Why.
        why: String,
    },
    /// End a replica at once.
    Kill {
        /// The replica.
        replica: ReplicaId,
        /// Why.
        why: String,
        /// Whether its end counts as a failure.
        failed: bool,
    },
    /// Forget a replica whose process has ended.
    Forget {
        /// The replica.
        replica: ReplicaId,
    },
    /// Remember that a revision has all its replicas ready.
    Complete {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: Revision,
    },
    /// Remember that a revision gets all the traffic.
    Promote {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: Revision,
    },
    /// Remember that a revision which had all the traffic was rolled back: no later one falls back to it.
    Demote {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: Revision,
    },
    /// Remember how the rollout of a revision stands.
    Rollout {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: Revision,
        /// What to remember.
        state: Box<RolloutState>,
    },
    /// Remember that the replicas of a revision are given up: it gets no requests until it has been complete again.
    Retire {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: Revision,
    },
    /// Remove a deleted service, whose replicas are all gone.
    Remove {
        /// The service.
        service: ServiceName,
    },
}

/// What to say about one service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePlan {
    /// The service.
    pub name: ServiceName,
    /// Statements about it, without transition times.
    pub conditions: Vec<Condition>,
    /// Newest revision that has had all its replicas ready.
    pub latest_ready: Option<Revision>,
    /// Newest revision that has had all the traffic.
    pub latest_rolled_out: Option<Revision>,
    /// Revisions that requests are sent to, newest first; 100 percent in all.
    pub traffic: Vec<RevisionTraffic>,
    /// How the newest revision's rollout stands.
    pub rollout: Option<RolloutStatus>,
    /// How many replicas the newest revision is to have and has, and why.
    pub scale: ScaleStatus,
    /// Every replica of every revision.
    pub replicas: Vec<ReplicaStatus>,
    /// What was done, what is waited for, and the rule that drove it. The sentences change only when the facts do.
    pub report: Vec<String>,
}

impl Plan {
    pub(crate) fn wake_at(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |known| known.min(at_ms)));
    }
}

impl Action {
    /// The replica it acts on.
    pub(crate) fn replica(&self) -> Option<&ReplicaId> {
        match self {
            Self::Leave { replica, .. }
            | Self::Stop { replica, .. }
            | Self::Kill { replica, .. }
            | Self::Forget { replica } => Some(replica),
            Self::Start { .. }
            | Self::Complete { .. }
            | Self::Promote { .. }
            | Self::Demote { .. }
            | Self::Rollout { .. }
            | Self::Retire { .. }
            | Self::Remove { .. } => None,
        }
    }
}
