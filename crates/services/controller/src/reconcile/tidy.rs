//! What is done now and then: strays are ended, logs bounded, old revisions and the models that nothing names forgotten.

use std::{collections::BTreeSet, time::Duration};

use daemon::supervisor::chain;
use resources::event::Severity;

use super::Reconciler;
use crate::{
    error::Error,
    observe::Observation,
    orchestrator::{Orchestrator, logs},
};

/// Time between two tidyings.
const TIDY_MS: u64 = 10_000;
/// Revisions kept per service, to go back to.
const REVISIONS_KEPT: u32 = 5;
/// Age below which a model that nothing names stays: somebody may be about to name it with `bundle://`.
const BUNDLE_AGE_MIN: Duration = Duration::from_secs(3600);

impl<O: Orchestrator> Reconciler<O> {
    /// Tidies when it is time. What goes wrong is said and tried again the next time.
    pub(super) async fn tidy(&mut self, observation: &Observation) {
        if observation.now_ms < self.tidied_ms.saturating_add(TIDY_MS) {
            return;
        }
        self.tidied_ms = observation.now_ms;
        if let Err(error) = self.tidy_all(observation).await {
            tracing::warn!(error = %chain(&error), "cannot tidy the data directory");
        }
    }

    async fn tidy_all(&self, observation: &Observation) -> Result<(), Error> {
        // Rows as they are now: this pass may have added some.
        let replicas = self.db.replicas().await?;
        let strays = self.orchestrator.sweep(&replicas).await;
        if !strays.is_empty() {
            let mut write = self.db.write().await?;
            for stray in strays {
                write.event(Severity::Warning, "", "StrayStopped", &stray).await?;
            }
            write.commit().await?;
        }
        let services: BTreeSet<String> =
            observation.services.iter().map(|service| service.name().to_string()).collect();
        let mut live = Self::live(observation);
        live.extend(replicas.iter().map(|replica| replica.id.0.clone()));
        let path = self.config.data_dir.join("logs");
        logs::tidy(&path, &services, &live).map_err(|source| Error::Io { action: "tidy the logs in", path, source })?;
        self.collect().await
    }

    /// Forgets old revisions, then the models that no revision names.
    async fn collect(&self) -> Result<(), Error> {
        // Nobody is between the push of a model and the revision that names it.
        let Ok(_quiet) = self.imports.try_write() else { return Ok(()) };
        let mut write = self.db.write().await?;
        if write.forget_revisions(REVISIONS_KEPT).await? > 0 {
            write.commit().await?;
        } else {
            drop(write);
        }
        let live: BTreeSet<String> = self.db.revisions().await?.into_iter().map(|revision| revision.bundle.0).collect();
        let store = self.store.clone();
        let collected = tokio::task::spawn_blocking(move || store.collect(&live, BUNDLE_AGE_MIN)).await;
        match collected {
            Ok(removed) => {
                for digest in removed? {
                    tracing::info!(digest, "removed a model that nothing names");
                }
            }
            Err(error) => tracing::error!(%error, "tidying the store ended badly"),
        }
        Ok(())
    }
}
