//! The last changes of services, for watchers: bounded, in order, and honest about what fell out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use resources::inference_service::InferenceService;
use serde::Serialize;
use tokio::sync::watch;

/// Changes kept. A watcher that is further behind lists again; at a few KiB each this is a few MiB at most.
const CHANGES_MAX: usize = 1024;

/// What became of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ChangeKind {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    /// What became of it.
    #[serde(rename = "type")]
    pub(crate) kind: ChangeKind,
    /// The service after the change, or before it was gone.
    pub(crate) object: InferenceService,
}

/// The watcher is too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// The last changes, by resource version.
#[derive(Debug)]
pub(crate) struct Changes {
    kept: Mutex<Kept>,
    latest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    changes: VecDeque<(u64, Arc<Change>)>,
    /// Every change after this version is kept.
    floor: u64,
}

impl Changes {
    /// Begins at `version`: what changed before is not known.
    pub(crate) fn new(version: u64) -> Self {
        let kept = Mutex::new(Kept { changes: VecDeque::new(), floor: version });
        Self { kept, latest: watch::Sender::new(version) }
    }

    pub(crate) fn push(&self, version: u64, change: Change) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.changes.push_back((version, Arc::new(change)));
        while kept.changes.len() > CHANGES_MAX {
            if let Some((version, _)) = kept.changes.pop_front() {
                kept.floor = version;
            }
        }
        self.latest.send_replace(version);
    }

    /// Changes after `version`, oldest first.
    pub(crate) fn after(&self, version: u64) -> Result<Vec<(u64, Arc<Change>)>, Expired> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if version < kept.floor {
            return Err(Expired);
        }
        Ok(kept.changes.iter().filter(|(at, _)| *at > version).cloned().collect())
    }

    /// Tells of the newest version.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use resources::{
        id::ServiceName,
        inference_service::{Model, ModelFormat},
    };

    use super::*;

    fn change() -> Change {
        let model = Model {
            model_format: ModelFormat { name: "onnx".to_owned(), version: None },
            storage_uri: "file:///m.onnx".to_owned(),
            protocol_version: None,
            resources: None,
        };
        let object = InferenceService::of(ServiceName::parse("spam").unwrap(), model);
        Change { kind: ChangeKind::Added, object }
    }

    #[test]
    fn who_lags_is_told() {
        let changes = Changes::new(7);
        assert_eq!(changes.after(6), Err(Expired));
        assert_eq!(changes.after(7), Ok(Vec::new()));
        for version in 8..8 + u64::try_from(CHANGES_MAX).unwrap() {
            changes.push(version, change());
        }
        assert_eq!(changes.after(7).unwrap().len(), CHANGES_MAX);
        changes.push(5000, change());
        assert_eq!(changes.after(7), Err(Expired));
        let after = changes.after(8).unwrap();
        assert_eq!(after.len(), CHANGES_MAX);
        assert_eq!(after.last().unwrap().0, 5000);
    }
}
