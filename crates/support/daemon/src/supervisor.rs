//! Supervised tasks: every task has a name and a policy, a signal cancels them all, and a drain has an end.

use std::{future::Future, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::AbortHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Any error of a task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the end of a task means for its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The process must stop: it cannot do its work without this task.
    StopProcess,
    /// The process goes on.
    Continue,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every task finished within the grace period.
    Drained,
    /// The grace period passed or a second signal came; work was cut off.
    CutOff,
    /// A task that the process needs ended; the process drained.
    TaskFailed,
}

/// Owns the tasks of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: watch::Sender<bool>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without tasks.
    pub fn new() -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), failed: watch::Sender::new(false) }
    }

    /// Cancelled when the process begins to drain. Tasks watch it and end by themselves.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Begins the drain, as a signal would.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Runs `task` under `name`. An error, or any end before the drain with [`OnExit::StopProcess`], stops the process.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns: here tasks get their name and policy")]
    pub fn spawn<F>(&self, name: &'static str, on_exit: OnExit, task: F)
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let supervisor = self.clone();
        let watched = async move {
            let outcome = tokio::spawn(task).await;
            match outcome {
                Ok(Ok(())) => tracing::debug!(task = name, "task ended"),
                Ok(Err(error)) => tracing::error!(task = name, error = %chain(error.as_ref()), "task failed"),
                Err(join) => tracing::error!(task = name, error = %join, "task panicked"),
            }
            if on_exit == OnExit::StopProcess && !supervisor.stop.is_cancelled() {
                supervisor.failed.send_replace(true);
                supervisor.stop.cancel();
            }
        };
        tokio::spawn(self.tracker.track_future(watched));
    }

    /// Runs the task of one connection or request; its errors are its own business. The drain waits for it. The handle is for
    /// those who must be able to end it.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns: the drain counts these tasks")]
    pub fn spawn_connection<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(task)).abort_handle()
    }

    /// Waits for SIGINT, SIGTERM or a failed task, then drains for at most `grace`. A second signal cuts the drain off.
    pub async fn run(self, grace: Duration) -> std::io::Result<Ended> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("interrupted, draining"),
            _ = terminate.recv() => tracing::info!("asked to stop, draining"),
            () = self.stop.cancelled() => tracing::info!("draining"),
        }
        self.stop.cancel();
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => {}
            () = tokio::time::sleep(grace) => {
                tracing::warn!(tasks = self.tracker.len(), "grace period over, cutting off what is left");
                return Ok(Ended::CutOff);
            }
            _ = interrupt.recv() => return Ok(Ended::CutOff),
            _ = terminate.recv() => return Ok(Ended::CutOff),
        }
        if *self.failed.borrow() { Ok(Ended::TaskFailed) } else { Ok(Ended::Drained) }
    }
}

/// An error and its sources, each once, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
