//! Keeps on disk what is served, and goes on trying while that fails: a configuration is acknowledged only once it is kept.

use std::{sync::Arc, time::Duration};

use resources::snapshot::GatewaySnapshot;

use crate::{metrics::Metrics, snapshot::Store};

/// Time between two tries. A disk that is full has room again when somebody makes some; the write itself is small.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The configuration on disk, and the one that has yet to get there.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Store,
    metrics: Arc<Metrics>,
    kept: u64,
    waiting: Option<Arc<GatewaySnapshot>>,
    failing: bool,
}

impl Keeper {
    /// Keeps in `store`. Nothing counts as kept that this process has not written and synced itself.
    pub(crate) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, kept: 0, waiting: None, failing: false }
    }

    /// Generation on disk.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Whether something has yet to be kept.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.is_some()
    }

    /// Writes `snapshot`, which is served, in place of whatever was waiting.
    pub(crate) async fn keep(&mut self, snapshot: GatewaySnapshot) {
        if snapshot.generation > self.kept {
            self.waiting = Some(Arc::new(snapshot));
            self.again().await;
        }
    }

    /// Writes what waits. Whether all is kept.
    pub(crate) async fn again(&mut self) -> bool {
        let Some(snapshot) = self.waiting.clone() else { return true };
        let (store, generation) = (self.store.clone(), snapshot.generation);
        let saved = match tokio::task::spawn_blocking(move || store.save(&snapshot)).await {
            Ok(saved) => saved.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match saved {
            Ok(()) => {
                self.waiting = None;
                self.kept = generation;
                self.metrics.kept.set(i64::try_from(generation).unwrap_or(i64::MAX));
                if std::mem::take(&mut self.failing) {
                    tracing::info!(generation, "the configuration is kept on disk again");
                }
                true
            }
            Err(error) => {
                self.complain(&error, generation);
                false
            }
        }
    }

    /// Says it once for each row of failures: a person has to look, and has looked after the first line.
    fn complain(&mut self, error: &str, generation: u64) {
        let dir = self.store.dir().display();
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!(error, generation, "the configuration still cannot be kept on disk");
            return;
        }
        tracing::error!(
            error,
            generation,
            dir = %dir,
            "cannot keep the configuration on disk; it is served, and tried again every second. Started anew without the \
             controller, the gateway would serve the one before, with keys that are revoked since: make the directory \
             writable, or make room on its disk"
        );
    }
}
