//! What a plan is made from.

use resources::{
    condition::Condition,
    id::{BundleDigest, ReplicaId, Revision, ServiceName},
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
    /// How often replicas ended by themselves.
    pub failures: Vec<Failures>,
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
    /// The newest revision that has ever had all its replicas ready.
    pub latest_ready: Option<Revision>,
    /// Whether the service is being deleted.
    pub deleting: bool,
}

/// One revision as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredRevision {
    /// Its number.
    pub revision: Revision,
    /// Its model.
    pub bundle: BundleDigest,
    /// Replicas to keep running.
    pub min_replicas: u32,
    /// Longest time for one request, milliseconds.
    pub timeout_ms: u64,
    /// Requests that one replica works on at a time.
    pub container_concurrency: Option<u32>,
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
    pub socket: std::path::PathBuf,
    /// Its process, when there is one.
    pub pid: Option<i32>,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it says of itself: optimisation, golden inputs, sandbox.
    pub conditions: Vec<Condition>,
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
    Ready,
    /// It was taken out of the routes by a generation that the gateway may not have seen yet.
    Leaving {
        /// Since when, milliseconds.
        since_ms: u64,
        /// The first generation without it.
        generation: u64,
    },
    /// It was asked to stop and finishes its requests.
    Stopping {
        /// Since when, milliseconds.
        since_ms: u64,
    },
    /// The process has ended.
    Exited {
        /// Why, in words, with the last lines of its log.
        message: String,
        /// Whether it had been asked to stop.
        asked: bool,
    },
}

/// How often replicas of one revision ended by themselves without having been healthy in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// The service.
    pub service: ServiceName,
    /// The revision.
    pub revision: Revision,
    /// How often.
    pub count: u32,
    /// When last, milliseconds.
    pub last_ms: u64,
    /// Why last.
    pub message: String,
}

impl Input {
    pub(crate) fn replicas_of(&self, service: &ServiceName) -> impl Iterator<Item = &ObservedReplica> {
        self.replicas.iter().filter(move |replica| &replica.service == service)
    }

    pub(crate) fn ready(&self, service: &ServiceName, revision: Revision) -> usize {
        let is_ready = |replica: &&ObservedReplica| replica.revision == revision && replica.phase == Phase::Ready;
        self.replicas_of(service).filter(is_ready).count()
    }

    pub(crate) fn failures_of(&self, service: &ServiceName, revision: Revision) -> Option<&Failures> {
        self.failures.iter().find(|failures| &failures.service == service && failures.revision == revision)
    }
}

impl DesiredService {
    pub(crate) fn newest(&self) -> Option<&DesiredRevision> {
        self.revisions.last()
    }

    /// The revision that serves while the newest is not ready: the one that was ready last, when it is another one.
    pub(crate) fn stable(&self) -> Option<&DesiredRevision> {
        let latest = self.latest_ready?;
        let newest = self.newest()?;
        self.revisions.iter().find(|revision| revision.revision == latest && revision.revision != newest.revision)
    }
}
