//! Takes a model into the store and writes the service that names it, in one acknowledged step.
//!
//! Flow: push the model (atomic, on the disk), then one transaction with the resource, its revision and its events. What is
//! interrupted between the two leaves a model that nothing names, which is removed later, and no service.

use std::{path::PathBuf, sync::Arc};

use resources::{
    event::Severity,
    id::{BundleDigest, Revision},
    inference_service::{InferenceService, Predictor},
    manifest::{StorageSource, storage_source},
    rollout::Wish,
    scaling::Bounds,
};
use store::Store;
use tokio::sync::{RwLock, Semaphore};

use crate::{
    db::{Db, RevisionRow, ServiceRow, Write},
    disk::Disk,
    error::{ApiError, Error},
    names,
};

/// Services in a data directory. Each is at least one process, and a machine has room for far fewer.
const SERVICES_MAX: u64 = 1_000;
/// Models taken in at a time: each reads, hashes and writes at the speed of the disk.
const IMPORTS_MAX: usize = 2;

/// Makes, changes and deletes services.
#[derive(Debug)]
pub(crate) struct Deployer {
    db: Db,
    store: Store,
    permits: Semaphore,
    /// Held for reading from the push of a model until a revision names it.
    imports: Arc<RwLock<()>>,
    /// Where the store is.
    data_dir: PathBuf,
}

impl Deployer {
    pub(crate) fn new(db: Db, store: Store, imports: Arc<RwLock<()>>, data_dir: PathBuf) -> Self {
        Self { db, store, permits: Semaphore::new(IMPORTS_MAX), imports, data_dir }
    }

    /// Makes a service.
    pub(crate) async fn create(&self, object: InferenceService) -> Result<InferenceService, ApiError> {
        let name = object.metadata.name.clone();
        let taken = |row: &ServiceRow| {
            if row.deleting {
                ApiError::exists(format!("`{name}` is still being deleted: wait until it is gone"))
            } else {
                ApiError::exists(format!("there is a service `{name}` already: change it with PUT, or delete it first"))
            }
        };
        // Asked before the model is copied, which may take long, and again when it has been.
        if let Some(row) = self.db.service(name.as_str()).await? {
            return Err(taken(&row));
        }
        let _naming = self.imports.read().await;
        let bundle = self.import(&object).await?;
        let mut write = self.db.write().await?;
        if let Some(row) = write.service(name.as_str()).await? {
            return Err(taken(&row));
        }
        if write.service_count().await? >= SERVICES_MAX {
            return Err(ApiError::invalid(format!("there are {SERVICES_MAX} services already: delete some first")));
        }
        let created = write.insert_service(&object, &names::uid()).await?;
        write.event(Severity::Normal, name.as_str(), "Created", &format!("from `{}`", uri(&object))).await?;
        add_revision(&mut write, &object, Revision(1), &bundle).await?;
        write.commit_and_wake().await?;
        Ok(created)
    }

    /// Changes a service. A change of its predictor or its model makes a new revision, unless it only shifts traffic or changes how many
    /// replicas there are; no change
    /// changes nothing.
    pub(crate) async fn replace(&self, object: InferenceService) -> Result<InferenceService, ApiError> {
        let name = object.metadata.name.clone();
        let row = self.db.service(name.as_str()).await?;
        admit(&object, row.as_ref())?;
        let _naming = self.imports.read().await;
        let bundle = self.import(&object).await?;
        let mut write = self.db.write().await?;
        let row = write.service(name.as_str()).await?;
        let row = admit(&object, row.as_ref())?.clone();
        let latest = write.latest_revision(&name).await?;
        let changed = latest.as_ref().is_none_or(|latest| is_new(latest, &object.spec.predictor, &bundle));
        let (before, after) = (&row.object, &object);
        let same_meta = before.metadata.labels == after.metadata.labels
            && before.metadata.annotations == after.metadata.annotations;
        if !changed && same_meta && before.spec == after.spec {
            return Ok(row.object);
        }
        let shifted = before.spec.predictor.canary_traffic_percent != after.spec.predictor.canary_traffic_percent
            || before.spec.traffic != after.spec.traffic
            || before.spec.rollout != after.spec.rollout
            || before.spec.shadow != after.spec.shadow;
        let placed = before.spec.placement != after.spec.placement;
        let scaled = !before.spec.predictor.scales_as(&after.spec.predictor) || before.spec.slo != after.spec.slo;
        let updated = write.update_service(&object, changed || shifted || scaled || placed).await?;
        if shifted && !changed {
            write.event(Severity::Normal, name.as_str(), "Updated", &shift(&object)).await?;
        }
        if scaled && !changed {
            let Bounds { min, max } = Bounds::of(&object.spec);
            let message = if min == max { format!("{min} replicas") } else { format!("{min} to {max} replicas") };
            write.event(Severity::Normal, name.as_str(), "Updated", &message).await?;
        }
        if placed && !changed {
            let priority = after.spec.placement.and_then(|placement| placement.priority).unwrap_or(0);
            write.event(Severity::Normal, name.as_str(), "Updated", &format!("priority {priority}")).await?;
        }
        if changed {
            let number = Revision(latest.map_or(1, |latest| latest.revision.0 + 1));
            write.event(Severity::Normal, name.as_str(), "Updated", &format!("from `{}`", uri(&object))).await?;
            add_revision(&mut write, &object, number, &bundle).await?;
        }
        write.commit_and_wake().await?;
        Ok(updated)
    }

    /// Keeps what a person wants of the newest revision's rollout.
    pub(crate) async fn steer(&self, name: &str, wish: Option<Wish>) -> Result<InferenceService, ApiError> {
        let mut write = self.db.write().await?;
        let row = write.service(name).await?.ok_or_else(|| ApiError::no_service(name))?;
        let latest = write.latest_revision(row.name()).await?;
        let (true, Some(latest)) = (row.object.spec.rollout.is_some(), latest) else {
            let message =
                format!("`{name}` has no `spec.rollout`: shares of its traffic are set by `canaryTrafficPercent`");
            return Err(ApiError::invalid(message));
        };
        if latest.wish == wish {
            return Ok(row.object);
        }
        write.set_wish(row.name(), latest.revision, wish).await?;
        let what = match wish {
            Some(Wish::Promote) => "promote",
            Some(Wish::Abort) => "abort",
            Some(Wish::Pause) => "pause",
            None => "resume",
        };
        let message = format!("a person wants to {what} the rollout of revision {}", latest.revision);
        write.event(Severity::Normal, name, "RolloutSteered", &message).await?;
        write.commit_and_wake().await?;
        Ok(row.object)
    }

    /// Asks for the end of a service. It is gone once its replicas have stopped.
    pub(crate) async fn delete(&self, name: &str) -> Result<InferenceService, ApiError> {
        let mut write = self.db.write().await?;
        let row = write.service(name).await?.ok_or_else(|| ApiError::no_service(name))?;
        if row.deleting {
            return Ok(row.object);
        }
        let object = write.set_deleting(row.name()).await?;
        write.event(Severity::Normal, name, "Deleting", "its replicas finish their requests first").await?;
        write.commit_and_wake().await?;
        Ok(object)
    }

    /// Takes the model in and gives its digest.
    async fn import(&self, object: &InferenceService) -> Result<BundleDigest, ApiError> {
        let source = storage_source(uri(object)).map_err(ApiError::invalid)?;
        match source {
            StorageSource::Bundle(digest) => {
                let manifest = self.store.manifest(&digest.0).map_err(|error| ApiError::invalid(error.to_string()))?;
                check_format(object, &manifest.format).map_err(ApiError::invalid)?;
                Ok(digest)
            }
            StorageSource::File(path) => self.push(object, path).await,
        }
    }

    async fn push(&self, object: &InferenceService, path: PathBuf) -> Result<BundleDigest, ApiError> {
        let closed = || ApiError::unavailable("the controller is stopping");
        let _permit = self.permits.acquire().await.map_err(|_| closed())?;
        if let Some(message) = Disk::of(&self.data_dir).and_then(Disk::refusal) {
            return Err(ApiError::no_room(message));
        }
        let store = self.store.clone();
        let pushed = tokio::task::spawn_blocking(move || store.push(&path)).await.map_err(|_| closed())?;
        let message = match pushed {
            Ok(pushed) => match check_format(object, &pushed.manifest.format) {
                Ok(()) => return Ok(BundleDigest(pushed.digest)),
                // Nothing names what was pushed, so it is collected later.
                Err(message) => message,
            },
            Err(error) if is_senders_fault(&error) => daemon::supervisor::chain(&error),
            Err(error @ store::StoreError::NoRoom { .. }) => {
                return Err(ApiError::no_room(daemon::supervisor::chain(&error)));
            }
            Err(error) => return Err(Error::Store(error).into()),
        };
        let mut write = self.db.write().await?;
        write.event(Severity::Warning, object.metadata.name.as_str(), "ModelRefused", &message).await?;
        write.commit().await?;
        Err(ApiError::invalid(message))
    }
}

/// A model that is refused, not there or not readable is for the sender to change; a full disk is not.
fn is_senders_fault(error: &store::StoreError) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match error {
        store::StoreError::Io { source, .. } => matches!(source.kind(), NotFound | PermissionDenied | NotADirectory),
        error => error.is_refusal(),
    }
}

/// Compares the format that the manifest of `object` gives with that of the model's content.
fn check_format(object: &InferenceService, found: &str) -> Result<(), String> {
    let said = &object.spec.predictor.model.model_format.name;
    if said == found {
        return Ok(());
    }
    Err(format!(
        "spec.predictor.model.modelFormat.name: it is `{said}`, and the model's content is `{found}`: write `{found}`, or \
         name another model"
    ))
}

/// What the newest revision is to get, in words.
fn shift(object: &InferenceService) -> String {
    if object.spec.rollout.is_some() {
        return "new revisions take over by the steps of `rollout`".to_owned();
    }
    match (object.spec.shadow, object.spec.predictor.canary_traffic_percent) {
        (Some(shadow), _) => format!("the newest revision is to be mirrored {} % of the requests", shadow.percent),
        (None, Some(percent)) => format!("the newest revision is to get {percent} % of the requests"),
        (None, None) => "the newest revision is to get all requests".to_owned(),
    }
}

fn uri(object: &InferenceService) -> &str {
    &object.spec.predictor.model.storage_uri
}

/// Whether `object` may replace `row`.
fn admit<'a>(object: &InferenceService, row: Option<&'a ServiceRow>) -> Result<&'a ServiceRow, ApiError> {
    let name = object.metadata.name.as_str();
    let row = row.ok_or_else(|| ApiError::no_service(name))?;
    if row.deleting {
        return Err(ApiError::conflict(format!("`{name}` is being deleted: wait until it is gone, then create it")));
    }
    if object.metadata.uid.as_ref().is_some_and(|uid| Some(uid) != row.object.metadata.uid.as_ref()) {
        return Err(ApiError::conflict(format!(
            "`{name}` was deleted and made again meanwhile: read it, then change that"
        )));
    }
    let given = object.metadata.resource_version.as_ref();
    if let Some(given) = given.filter(|given| Some(*given) != row.object.metadata.resource_version.as_ref()) {
        let now = row.version();
        let message = format!("`{name}` has changed since version {given}, it is at {now}: read it, then change that");
        return Err(ApiError::conflict(message));
    }
    Ok(row)
}

/// Whether replicas of `latest` would not do. Where the model came from does not matter, only what it is.
fn is_new(latest: &RevisionRow, predictor: &Predictor, bundle: &BundleDigest) -> bool {
    let mut wanted = predictor.revisioned();
    wanted.model.storage_uri.clone_from(&latest.predictor.model.storage_uri);
    &latest.bundle != bundle || latest.predictor.revisioned() != wanted
}

async fn add_revision(
    write: &mut Write,
    object: &InferenceService,
    number: Revision,
    bundle: &BundleDigest,
) -> Result<(), Error> {
    let name = &object.metadata.name;
    write.insert_revision(name, number, bundle, &object.spec.predictor).await?;
    write.event(Severity::Normal, name.as_str(), "RevisionCreated", &format!("revision {number} is {bundle}")).await
}
