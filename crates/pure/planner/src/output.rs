//! What a plan says.

use resources::{
    condition::Condition,
    id::{ReplicaId, Revision, ServiceName},
    snapshot::RouteService,
};

/// What to do now, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// What the gateway should serve.
    pub routes: Vec<RouteService>,
    /// What to say about each service.
    pub services: Vec<ServicePlan>,
    /// When to plan again although nothing changed, milliseconds.
    pub wake_at_ms: Option<u64>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a replica.
    Start {
        /// Of this service.
        service: ServiceName,
        /// Of this revision.
        revision: Revision,
    },
    /// Take a replica out of the routes.
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
    },
    /// Forget a replica whose process has ended; when it had not been asked to, count a failure.
    Forget {
        /// The replica.
        replica: ReplicaId,
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
    /// The newest revision when it has all its replicas ready now.
    pub ready_revision: Option<Revision>,
    /// What was done, what is waited for, and the rule that drove it.
    pub report: Report,
}

/// Sentences about a plan.
pub type Report = Vec<String>;

impl Plan {
    pub(crate) fn wake_at(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |known| known.min(at_ms)));
    }
}
