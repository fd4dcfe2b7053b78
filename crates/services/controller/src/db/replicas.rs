//! Replicas: written before their process is started, removed after it has ended.

use std::path::PathBuf;

use resources::id::{ReplicaId, Revision, ServiceName};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Db, Write, integer, natural};
use crate::error::Error;

/// What is known of a replica for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaRow {
    pub(crate) id: ReplicaId,
    pub(crate) service: ServiceName,
    pub(crate) revision: Revision,
    pub(crate) socket: PathBuf,
    pub(crate) created_ms: u64,
    pub(crate) process: Option<ProcessId>,
    /// When it first answered that it is ready.
    pub(crate) ready_ms: Option<u64>,
    /// When it left the routes, and the first generation without it.
    pub(crate) leaving: Option<(u64, u64)>,
    /// When it was asked to stop, or killed.
    pub(crate) stopping_ms: Option<u64>,
    /// Whether its end counts as a failure although it was asked for.
    pub(crate) failed: bool,
    /// Why it was stopped or killed.
    pub(crate) why: String,
}

/// A process, told apart from a later one with the same number by when it was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks after boot; field 22 of `/proc/<pid>/stat`.
    pub(crate) born: u64,
}

fn replica(row: &SqliteRow) -> Result<ReplicaRow, Error> {
    let name: String = row.try_get("service")?;
    let socket: String = row.try_get("socket")?;
    let optional =
        |column: &str| -> Result<Option<u64>, Error> { Ok(row.try_get::<Option<i64>, _>(column)?.map(natural)) };
    let pid: Option<i64> = row.try_get("pid")?;
    let pid = pid.and_then(|pid| i32::try_from(pid).ok());
    Ok(ReplicaRow {
        id: ReplicaId(row.try_get("id")?),
        service: ServiceName::parse(&name).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        revision: Revision(natural(row.try_get("revision")?)),
        socket: PathBuf::from(socket),
        created_ms: natural(row.try_get("created_ms")?),
        process: pid.zip(optional("born")?).map(|(pid, born)| ProcessId { pid, born }),
        ready_ms: optional("ready_ms")?,
        leaving: optional("leaving_ms")?.zip(optional("leaving_generation")?),
        stopping_ms: optional("stopping_ms")?,
        failed: row.try_get::<i64, _>("failed")? != 0,
        why: row.try_get("why")?,
    })
}

impl Db {
    /// Every replica, by id.
    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRow>, Error> {
        sqlx::query("SELECT * FROM replicas ORDER BY id").fetch_all(&self.pool).await?.iter().map(replica).collect()
    }
}

impl Write {
    pub(crate) async fn insert_replica(&mut self, replica: &ReplicaRow) -> Result<(), Error> {
        sqlx::query("INSERT INTO replicas (id, service, revision, socket, created_ms) VALUES (?, ?, ?, ?, ?)")
            .bind(&replica.id.0)
            .bind(replica.service.as_str())
            .bind(integer(replica.revision.0))
            .bind(replica.socket.to_string_lossy().into_owned())
            .bind(integer(replica.created_ms))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_replica_process(&mut self, id: &ReplicaId, process: ProcessId) -> Result<(), Error> {
        sqlx::query("UPDATE replicas SET pid = ?, born = ? WHERE id = ?")
            .bind(process.pid)
            .bind(integer(process.born))
            .bind(&id.0)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_replica_ready(&mut self, id: &ReplicaId, at_ms: u64) -> Result<(), Error> {
        sqlx::query("UPDATE replicas SET ready_ms = ? WHERE id = ?")
            .bind(integer(at_ms))
            .bind(&id.0)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_replica_leaving(
        &mut self,
        id: &ReplicaId,
        at_ms: u64,
        generation: u64,
        why: &str,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE replicas SET leaving_ms = ?, leaving_generation = ?, why = ? WHERE id = ?")
            .bind(integer(at_ms))
            .bind(integer(generation))
            .bind(why)
            .bind(&id.0)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_replica_stopping(
        &mut self,
        id: &ReplicaId,
        at_ms: u64,
        failed: bool,
        why: &str,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE replicas SET stopping_ms = ?, failed = ?, why = ? WHERE id = ?")
            .bind(integer(at_ms))
            .bind(i64::from(failed))
            .bind(why)
            .bind(&id.0)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub(crate) async fn delete_replica(&mut self, id: &ReplicaId) -> Result<(), Error> {
        sqlx::query("DELETE FROM replicas WHERE id = ?").bind(&id.0).execute(&mut *self.tx).await?;
        Ok(())
    }
}
