//! The port through which replicas run: what a machine or a cluster has to do for the controller.

use std::{future::Future, path::PathBuf};

use planner::{Allowance, Machine};
use resources::{
    condition::Condition,
    digest::OutputCounts,
    id::{ReplicaId, Revision, ServiceName},
    inference_service::Batcher,
};

use crate::db::{ProcessId, ReplicaRow};

pub(crate) mod command;
pub(crate) mod findings;
pub(crate) mod handle;
pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod warm;

/// Runs replicas.
pub(crate) trait Orchestrator: Send + Sync + 'static {
    /// What there is to run them on.
    fn machine(&self) -> Machine;

    /// How much memory is left for replicas; `None` where nobody knows.
    fn memory(&self) -> Option<Memory>;

    /// Looks at every replica, in the order given. Replicas that an earlier controller started are adopted.
    fn observe(&self, replicas: &[ReplicaRow]) -> impl Future<Output = Vec<Seen>> + Send;

    /// The random part of the name of the next replica that is started.
    fn name(&self) -> String;

    /// Starts the process of a replica.
    fn start(&self, launch: &Launch) -> impl Future<Output = Result<Started, String>> + Send;

    /// Sees to it that so many processes are ready to become replicas.
    fn keep_warm(&self, processes: usize);

    /// Asks a replica to finish, or ends it.
    fn end(&self, replica: &ReplicaId, how: End);

    /// Drops what is remembered of a replica that has ended.
    fn forget(&self, replica: &ReplicaId);

    /// Ends processes that belong to no replica; says which.
    fn sweep(&self, replicas: &[ReplicaRow]) -> impl Future<Output = Vec<String>> + Send;

    /// Ends the processes that have not become replicas.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Memory of what holds replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes that processes may still take.
    pub(crate) available_bytes: u64,
    /// Bytes that there are.
    pub(crate) total_bytes: u64,
}

/// A process that was started for a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) process: ProcessId,
    /// Whether it waited already.
    pub(crate) warm: bool,
}

/// How to end a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It finishes its requests first.
    Stop,
    /// At once.
    Kill,
}

/// What a replica is started with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Launch {
    pub(crate) id: ReplicaId,
    pub(crate) service: ServiceName,
    pub(crate) revision: Revision,
    pub(crate) socket: PathBuf,
    pub(crate) bundle_dir: PathBuf,
    pub(crate) allowance: Allowance,
    pub(crate) batcher: Option<Batcher>,
}

/// A replica as seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) life: Life,
    /// What it last said of itself.
    pub(crate) answer: Option<Answer>,
    /// Since when it has not answered, milliseconds.
    pub(crate) silent_since_ms: Option<u64>,
    /// Since when it says that it is not ready, milliseconds.
    pub(crate) unready_since_ms: Option<u64>,
}

/// Whether there is a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Life {
    /// There is.
    Running {
        /// Which.
        process: ProcessId,
        /// Whether it was found just now, started by an earlier controller.
        adopted: bool,
    },
    /// It has ended under this controller's eyes.
    Ended {
        /// When, milliseconds.
        at_ms: u64,
        /// How, in words.
        how: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// There is none, and nobody saw it end.
    #[default]
    Lost,
}

/// What a replica says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) ready: bool,
    pub(crate) conditions: Vec<Condition>,
    /// Sandbox rules that are not in force.
    pub(crate) missing: Vec<String>,
    /// Its answers by output and category since it started.
    pub(crate) outputs: Vec<OutputCounts>,
    /// Milliseconds that its oldest run under way had taken.
    pub(crate) busy_ms: Option<u64>,
    /// What its trials of the model came to, for the next replica.
    pub(crate) findings: Option<String>,
}
