//! The end of the platform: every replica finishes its requests, then goes.

use std::time::Duration;

use resources::event::Severity;

use super::Reconciler;
use crate::{
    error::Error,
    orchestrator::{End, Life, Orchestrator},
};

/// Time for replicas to finish: the runtime's own grace and a little.
const STOP_MS_MAX: u64 = 35_000;
/// Time for a killed process to be gone.
const KILL_MS_MAX: u64 = 5_000;
/// How often to look besides being woken by each end.
const LOOK_TIME: Duration = Duration::from_millis(200);

impl<O: Orchestrator> Reconciler<O> {
    /// Ends every replica. The gateway has gone already, so that no request is on its way.
    pub(super) async fn shut_down(&self) -> Result<(), Error> {
        self.orchestrator.close().await;
        let replicas = self.db.replicas().await?;
        // Adopts what this controller has not looked at yet.
        self.orchestrator.observe(&replicas).await;
        for replica in &replicas {
            self.orchestrator.end(&replica.id, End::Stop);
        }
        if !self.all_end(STOP_MS_MAX).await? {
            tracing::warn!("replicas did not stop in time");
            for replica in &replicas {
                self.orchestrator.end(&replica.id, End::Kill);
            }
            self.all_end(KILL_MS_MAX).await?;
        }
        let mut write = self.db.write().await?;
        for replica in &replicas {
            write.delete_replica(&replica.id).await?;
        }
        let message = format!("the platform was stopped; {} replicas finished", replicas.len());
        write.event(Severity::Normal, "", "Stopped", &message).await?;
        write.commit().await
    }

    async fn all_end(&self, time_ms_max: u64) -> Result<bool, Error> {
        let replicas = self.db.replicas().await?;
        let deadline_ms = daemon::time::now_ms() + time_ms_max;
        loop {
            let seen = self.orchestrator.observe(&replicas).await;
            if !seen.iter().any(|seen| matches!(seen.life, Life::Running { .. })) {
                return Ok(true);
            }
            if daemon::time::now_ms() >= deadline_ms {
                return Ok(false);
            }
            tokio::select! {
                () = self.db.wake().notified() => {}
                () = tokio::time::sleep(LOOK_TIME) => {}
            }
        }
    }
}
