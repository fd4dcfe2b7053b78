//! Hands the gateway its configuration: whole snapshots with a generation, kept before they are shown.

use std::sync::Arc;

use resources::snapshot::{GatewaySnapshot, RouteService};
use tokio::sync::{Mutex, watch};

use crate::{
    db::{Db, Write},
    error::Error,
};

const SNAPSHOT: &str = "snapshot";
const GENERATION: &str = "generation";

/// Publishes snapshots, and remembers which one the gateway serves.
#[derive(Debug)]
pub(crate) struct Publisher {
    db: Db,
    last: Mutex<GatewaySnapshot>,
    /// Nothing until the first routes of this process are known: an empty snapshot would cut everybody off.
    published: watch::Sender<Option<Arc<GatewaySnapshot>>>,
    acknowledged: watch::Sender<u64>,
    asked_ms: watch::Sender<u64>,
}

impl Publisher {
    /// Goes on from the snapshot that was published last.
    pub(crate) async fn open(db: Db) -> Result<Self, Error> {
        let text = db.meta(SNAPSHOT).await?;
        let last = if text.is_empty() { GatewaySnapshot::default() } else { serde_json::from_str(&text)? };
        Ok(Self {
            db,
            last: Mutex::new(last),
            published: watch::Sender::new(None),
            acknowledged: watch::Sender::new(0),
            asked_ms: watch::Sender::new(0),
        })
    }

    /// Publishes the keys as they are in the database, and `routes`; without routes, the last ones. Gives the generation,
    /// which counts up only when something changed.
    pub(crate) async fn publish(&self, routes: Option<Vec<RouteService>>) -> Result<u64, Error> {
        let mut last = self.last.lock().await;
        let first = routes.is_some() && self.published.borrow().is_none();
        let services = routes.unwrap_or_else(|| last.services.clone());
        let keys = self.db.keys().await?;
        if services != last.services || keys != last.keys || last.generation == 0 {
            let mut write = self.db.write().await?;
            let generation = write.count_up(GENERATION).await?;
            let next = GatewaySnapshot { generation, services, keys };
            self.keep(write, next, &mut last).await?;
        } else if !first {
            return Ok(last.generation);
        }
        if first || self.published.borrow().is_some() {
            self.published.send_replace(Some(Arc::new(last.clone())));
        }
        Ok(last.generation)
    }

    async fn keep(&self, mut write: Write, next: GatewaySnapshot, last: &mut GatewaySnapshot) -> Result<(), Error> {
        write.set_meta(SNAPSHOT, &serde_json::to_string(&next)?).await?;
        write.commit().await?;
        *last = next;
        Ok(())
    }

    /// The gateway serves `generation` and has it on disk.
    #[cfg(test)]
    pub(crate) async fn acknowledge(&self, generation: u64) -> Result<(), Error> {
        self.asked(generation, generation).await
    }

    /// The gateway serves generation `served` and has `kept` on disk, which is what counts: it may start anew at any time. One that
    /// serves a later one than was ever published here, because the database was put back from a copy, is overtaken.
    pub(crate) async fn asked(&self, served: u64, kept: u64) -> Result<(), Error> {
        self.asked_ms.send_replace(daemon::time::now_ms());
        let mut last = self.last.lock().await;
        if served > last.generation {
            let mut write = self.db.write().await?;
            let next = GatewaySnapshot { generation: served.saturating_add(1), ..last.clone() };
            write.set_meta(GENERATION, &next.generation.to_string()).await?;
            self.keep(write, next, &mut last).await?;
            if self.published.borrow().is_some() {
                self.published.send_replace(Some(Arc::new(last.clone())));
            }
            return Ok(());
        }
        let newer = self.acknowledged.send_if_modified(|known| {
            let newer = kept > *known;
            *known = kept.max(*known);
            newer
        });
        if newer {
            self.db.wake().notify_one();
        }
        Ok(())
    }

    /// The gateway has gone: what it served says nothing any more.
    pub(crate) fn forget_gateway(&self) {
        self.acknowledged.send_replace(0);
        self.asked_ms.send_replace(0);
    }

    /// Newest generation that the gateway serves; zero when it has not said so.
    pub(crate) fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// When the gateway last asked, milliseconds; zero when it has not.
    pub(crate) fn asked_ms(&self) -> u64 {
        *self.asked_ms.borrow()
    }

    /// Newest generation that was published; zero before the first.
    pub(crate) fn generation(&self) -> u64 {
        self.published.borrow().as_ref().map_or(0, |snapshot| snapshot.generation)
    }

    /// Waits for a snapshot after `generation`.
    pub(crate) async fn after(&self, generation: u64) -> Option<Arc<GatewaySnapshot>> {
        let mut published = self.published.subscribe();
        let newer = |snapshot: &Option<Arc<GatewaySnapshot>>| {
            snapshot.as_ref().is_some_and(|snapshot| snapshot.generation > generation)
        };
        published.wait_for(newer).await.ok()?.clone()
    }

    /// Waits until the gateway serves `generation`.
    pub(crate) async fn served(&self, generation: u64) {
        let mut acknowledged = self.acknowledged.subscribe();
        // The sender lives as long as `self`, so that the wait only ends with the generation.
        drop(acknowledged.wait_for(|known| *known >= generation).await);
    }
}
