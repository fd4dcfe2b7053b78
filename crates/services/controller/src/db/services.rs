//! Services and their revisions.

use planner::{Exit, History, judge::RolloutState};
use resources::{
    API_VERSION,
    id::{BundleDigest, ReplicaId, Revision, ServiceName},
    inference_service::{InferenceService, InferenceServiceSpec, Predictor},
    meta::ObjectMeta,
    rollout::Wish,
    status::InferenceServiceStatus,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Db, Write, integer, natural};
use crate::{
    changes::{Change, ChangeKind},
    error::Error,
};

/// A service as kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceRow {
    /// As the API shows it.
    pub(crate) object: InferenceService,
    /// Whether it is being deleted.
    pub(crate) deleting: bool,
}

/// A revision as kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RevisionRow {
    pub(crate) service: ServiceName,
    pub(crate) revision: Revision,
    pub(crate) bundle: BundleDigest,
    pub(crate) predictor: Predictor,
    pub(crate) completed: bool,
    pub(crate) promoted: bool,
    /// When it got all the traffic, milliseconds.
    pub(crate) promoted_ms: Option<u64>,
    pub(crate) history: History,
    /// How its rollout stands.
    pub(crate) rollout: Option<RolloutState>,
    /// What a person wants of it.
    pub(crate) wish: Option<Wish>,
}

/// The last exit, in the database's JSON.
#[derive(Serialize, Deserialize)]
struct StoredExit {
    #[serde(default)]
    started_ms: u64,
    at_ms: u64,
    how: String,
    ready_for_ms: Option<u64>,
    log_tail: String,
}

impl ServiceRow {
    pub(crate) fn name(&self) -> &ServiceName {
        &self.object.metadata.name
    }

    pub(crate) fn version(&self) -> u64 {
        self.object.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.object.metadata.generation.unwrap_or(0)
    }
}

/// The status of a service; an empty one before its first.
pub(crate) fn status_of(object: &InferenceService) -> InferenceServiceStatus {
    object.status.clone().unwrap_or_default()
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Database(sqlx::Error::Decode(Box::new(error)))
}

fn service(row: &SqliteRow) -> Result<ServiceRow, Error> {
    let text = |column: &str| -> Result<String, Error> { Ok(row.try_get(column)?) };
    let version: i64 = row.try_get("version")?;
    let metadata = ObjectMeta {
        name: ServiceName::parse(&text("name")?).map_err(decode)?,
        namespace: Some("default".to_owned()),
        labels: serde_json::from_str(&text("labels")?)?,
        annotations: serde_json::from_str(&text("annotations")?)?,
        uid: Some(text("uid")?),
        resource_version: Some(version.to_string()),
        generation: Some(natural(row.try_get("generation")?)),
        creation_timestamp: Some(daemon::time::rfc3339(natural(row.try_get("created_ms")?))),
    };
    let object = InferenceService {
        api_version: API_VERSION.to_owned(),
        kind: "InferenceService".to_owned(),
        metadata,
        spec: serde_json::from_str::<InferenceServiceSpec>(&text("spec")?)?,
        status: Some(serde_json::from_str::<InferenceServiceStatus>(&text("status")?)?),
    };
    Ok(ServiceRow { object, deleting: row.try_get::<i64, _>("deleting")? != 0 })
}

fn revision(row: &SqliteRow) -> Result<RevisionRow, Error> {
    let name: String = row.try_get("service")?;
    let service = ServiceName::parse(&name).map_err(decode)?;
    let number = Revision(natural(row.try_get("revision")?));
    let spec: String = row.try_get("spec")?;
    let mut history = History::new(service.clone(), number);
    history.exits = u32::try_from(row.try_get::<i64, _>("exits")?).unwrap_or(u32::MAX);
    history.streak = u32::try_from(row.try_get::<i64, _>("streak")?).unwrap_or(u32::MAX);
    let last_replica: Option<String> = row.try_get("last_replica")?;
    let last_exit: Option<String> = row.try_get("last_exit")?;
    if let (Some(id), Some(exit)) = (last_replica, last_exit) {
        let StoredExit { started_ms, at_ms, how, ready_for_ms, log_tail } = serde_json::from_str(&exit)?;
        history.last = Some((ReplicaId(id), Exit { started_ms, at_ms, how, ready_for_ms, log_tail }));
    }
    let rollout: Option<String> = row.try_get("rollout")?;
    let wish: Option<String> = row.try_get("wish")?;
    Ok(RevisionRow {
        service,
        revision: number,
        bundle: BundleDigest(row.try_get("bundle")?),
        predictor: serde_json::from_str(&spec)?,
        completed: row.try_get::<i64, _>("completed")? != 0,
        promoted: row.try_get::<i64, _>("promoted")? != 0,
        promoted_ms: row.try_get::<Option<i64>, _>("promoted_ms")?.map(natural),
        history,
        rollout: rollout.map(|text| serde_json::from_str(&text)).transpose()?,
        wish: wish.map(|text| serde_json::from_str(&text)).transpose()?,
    })
}

impl Db {
    /// Every service by name, and the version of the list.
    pub(crate) async fn services(&self) -> Result<(Vec<ServiceRow>, u64), Error> {
        let mut tx = self.pool.begin().await?;
        let rows = sqlx::query("SELECT * FROM resources ORDER BY name").fetch_all(&mut *tx).await?;
        let version = sqlx::query("SELECT value FROM meta WHERE key = 'resourceVersion'").fetch_one(&mut *tx).await?;
        let version: String = version.try_get(0)?;
        let services = rows.iter().map(service).collect::<Result<_, _>>()?;
        Ok((services, version.parse().unwrap_or(0)))
    }

    pub(crate) async fn service(&self, name: &str) -> Result<Option<ServiceRow>, Error> {
        let row = sqlx::query("SELECT * FROM resources WHERE name = ?").bind(name).fetch_optional(&self.pool).await?;
        row.as_ref().map(service).transpose()
    }

    /// Every service by name and every revision, oldest first, as they were at one time.
    pub(crate) async fn desired(&self) -> Result<(Vec<ServiceRow>, Vec<RevisionRow>), Error> {
        let mut tx = self.pool.begin().await?;
        let services = sqlx::query("SELECT * FROM resources ORDER BY name").fetch_all(&mut *tx).await?;
        let revisions = sqlx::query("SELECT * FROM revisions ORDER BY service, revision").fetch_all(&mut *tx).await?;
        let services = services.iter().map(service).collect::<Result<_, _>>()?;
        Ok((services, revisions.iter().map(revision).collect::<Result<_, _>>()?))
    }

    /// Every revision of every service, oldest first.
    pub(crate) async fn revisions(&self) -> Result<Vec<RevisionRow>, Error> {
        let rows = sqlx::query("SELECT * FROM revisions ORDER BY service, revision").fetch_all(&self.pool).await?;
        rows.iter().map(revision).collect()
    }
}

impl Write {
    pub(crate) async fn service(&mut self, name: &str) -> Result<Option<ServiceRow>, Error> {
        let row =
            sqlx::query("SELECT * FROM resources WHERE name = ?").bind(name).fetch_optional(&mut *self.tx).await?;
        row.as_ref().map(service).transpose()
    }

    pub(crate) async fn service_count(&mut self) -> Result<u64, Error> {
        let row = sqlx::query("SELECT count(*) FROM resources").fetch_one(&mut *self.tx).await?;
        Ok(natural(row.try_get(0)?))
    }

    pub(crate) async fn latest_revision(&mut self, name: &ServiceName) -> Result<Option<RevisionRow>, Error> {
        let row = sqlx::query("SELECT * FROM revisions WHERE service = ? ORDER BY revision DESC LIMIT 1")
            .bind(name.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        row.as_ref().map(revision).transpose()
    }

    /// Adds a service. What the server sets in `object` is ignored.
    pub(crate) async fn insert_service(
        &mut self,
        object: &InferenceService,
        uid: &str,
    ) -> Result<InferenceService, Error> {
        let version = self.count_up("resourceVersion").await?;
        sqlx::query(
            "INSERT INTO resources (name, uid, generation, version, created_ms, labels, annotations, spec, status) \
             VALUES (?, ?, 1, ?, ?, ?, ?, ?, '{}')",
        )
        .bind(object.metadata.name.as_str())
        .bind(uid)
        .bind(integer(version))
        .bind(integer(daemon::time::now_ms()))
        .bind(serde_json::to_string(&object.metadata.labels)?)
        .bind(serde_json::to_string(&object.metadata.annotations)?)
        .bind(serde_json::to_string(&object.spec)?)
        .execute(&mut *self.tx)
        .await?;
        self.changed(&object.metadata.name, version, ChangeKind::Added).await
    }

    /// Replaces what a person may set; `changed` when it asks for something else than before.
    pub(crate) async fn update_service(
        &mut self,
        object: &InferenceService,
        changed: bool,
    ) -> Result<InferenceService, Error> {
        let version = self.count_up("resourceVersion").await?;
        sqlx::query(
            "UPDATE resources SET version = ?, generation = generation + ?, labels = ?, annotations = ?, spec = ? WHERE name = ?",
        )
        .bind(integer(version))
        .bind(i64::from(changed))
        .bind(serde_json::to_string(&object.metadata.labels)?)
        .bind(serde_json::to_string(&object.metadata.annotations)?)
        .bind(serde_json::to_string(&object.spec)?)
        .bind(object.metadata.name.as_str())
        .execute(&mut *self.tx)
        .await?;
        self.changed(&object.metadata.name, version, ChangeKind::Modified).await
    }

    pub(crate) async fn set_status(
        &mut self,
        name: &ServiceName,
        status: &InferenceServiceStatus,
    ) -> Result<(), Error> {
        let version = self.count_up("resourceVersion").await?;
        sqlx::query("UPDATE resources SET version = ?, status = ? WHERE name = ?")
            .bind(integer(version))
            .bind(serde_json::to_string(status)?)
            .bind(name.as_str())
            .execute(&mut *self.tx)
            .await?;
        self.changed(name, version, ChangeKind::Modified).await.map(drop)
    }

    pub(crate) async fn set_deleting(&mut self, name: &ServiceName) -> Result<InferenceService, Error> {
        let version = self.count_up("resourceVersion").await?;
        sqlx::query("UPDATE resources SET version = ?, deleting = 1 WHERE name = ?")
            .bind(integer(version))
            .bind(name.as_str())
            .execute(&mut *self.tx)
            .await?;
        self.changed(name, version, ChangeKind::Modified).await
    }

    pub(crate) async fn delete_service(&mut self, name: &ServiceName) -> Result<(), Error> {
        let version = self.count_up("resourceVersion").await?;
        self.changed(name, version, ChangeKind::Deleted).await?;
        sqlx::query("DELETE FROM resources WHERE name = ?").bind(name.as_str()).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Reads a service back and tells the watchers of it.
    async fn changed(&mut self, name: &ServiceName, version: u64, kind: ChangeKind) -> Result<InferenceService, Error> {
        let row = self.service(name.as_str()).await?.ok_or(sqlx::Error::RowNotFound)?;
        let mut object = row.object;
        object.metadata.resource_version = Some(version.to_string());
        self.changes.push((version, Change { kind, object: object.clone() }));
        Ok(object)
    }

    pub(crate) async fn insert_revision(
        &mut self,
        name: &ServiceName,
        number: Revision,
        bundle: &BundleDigest,
        predictor: &Predictor,
    ) -> Result<(), Error> {
        sqlx::query("INSERT INTO revisions (service, revision, bundle, spec, created_ms) VALUES (?, ?, ?, ?, ?)")
            .bind(name.as_str())
            .bind(integer(number.0))
            .bind(&bundle.0)
            .bind(serde_json::to_string(&predictor.revisioned())?)
            .bind(integer(daemon::time::now_ms()))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Whether a revision has had all the traffic, and since when; nothing where it was taken back.
    pub(crate) async fn set_promoted(
        &mut self,
        name: &ServiceName,
        number: Revision,
        since_ms: Option<u64>,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE revisions SET promoted = ?, promoted_ms = ? WHERE service = ? AND revision = ?")
            .bind(i64::from(since_ms.is_some()))
            .bind(since_ms.map(integer))
            .bind(name.as_str())
            .bind(integer(number.0))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// How the rollout of a revision stands.
    pub(crate) async fn set_rollout(
        &mut self,
        name: &ServiceName,
        number: Revision,
        state: &RolloutState,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE revisions SET rollout = ? WHERE service = ? AND revision = ?")
            .bind(serde_json::to_string(state)?)
            .bind(name.as_str())
            .bind(integer(number.0))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// What a person wants of the rollout of a revision.
    pub(crate) async fn set_wish(
        &mut self,
        name: &ServiceName,
        number: Revision,
        wish: Option<Wish>,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE revisions SET wish = ? WHERE service = ? AND revision = ?")
            .bind(wish.map(|wish| serde_json::to_string(&wish)).transpose()?)
            .bind(name.as_str())
            .bind(integer(number.0))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Whether a revision gets requests.
    pub(crate) async fn set_completed(
        &mut self,
        name: &ServiceName,
        number: Revision,
        completed: bool,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE revisions SET completed = ? WHERE service = ? AND revision = ?")
            .bind(i64::from(completed))
            .bind(name.as_str())
            .bind(integer(number.0))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_history(&mut self, history: &History) -> Result<(), Error> {
        let exit = |exit: &Exit| {
            let Exit { started_ms, at_ms, how, ready_for_ms, log_tail } = exit.clone();
            serde_json::to_string(&StoredExit { started_ms, at_ms, how, ready_for_ms, log_tail })
        };
        let exit = history.last.as_ref().map(|(_, last)| exit(last)).transpose()?;
        sqlx::query(
            "UPDATE revisions SET exits = ?, streak = ?, last_replica = ?, last_exit = ? WHERE service = ? AND revision = ?",
        )
        .bind(i64::from(history.exits))
        .bind(i64::from(history.streak))
        .bind(history.last.as_ref().map(|(id, _)| id.0.clone()))
        .bind(exit)
        .bind(history.service.as_str())
        .bind(integer(history.revision.0))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Forgets revisions older than the newest `keep` that have no replica and are not the last one that had all the traffic.
    pub(crate) async fn forget_revisions(&mut self, keep: u32) -> Result<u64, Error> {
        let done = sqlx::query(
            "DELETE FROM revisions AS old WHERE \
               (SELECT count(*) FROM revisions WHERE service = old.service AND revision > old.revision) >= ?1 \
               AND NOT EXISTS (SELECT 1 FROM replicas WHERE service = old.service AND revision = old.revision) \
               AND EXISTS (SELECT 1 FROM revisions WHERE service = old.service AND revision > old.revision AND promoted = 1)",
        )
        .bind(keep)
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected())
    }
}
