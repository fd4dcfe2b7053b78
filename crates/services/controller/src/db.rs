//! The database: what the API acknowledged. SQLite with a write-ahead log and `synchronous=FULL`, one connection.
//!
//! Guarantees: a [`Write`] happens whole or not at all, and is on the disk when [`Write::commit`] returns. Watchers learn of
//! changes after that, in the order of their versions.

use std::{path::Path, sync::Arc, time::Duration};

use resources::event::{EVENTS_MAX, Event, Severity};
use sqlx::{
    Row as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};

use crate::{
    changes::{Change, Changes},
    error::Error,
};

mod keys;
mod replicas;
mod schema;
mod services;
#[cfg(test)]
mod tests;

pub(crate) use replicas::{ProcessId, ReplicaRow};
pub(crate) use services::{RevisionRow, ServiceRow, status_of};

/// Longest wait for the connection: behind a few hundred small transactions, each of which waits for the disk.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: SqlitePool,
    /// Held from the start of a write until watchers know of it, so that they learn of writes in their order.
    order: Arc<Mutex<()>>,
    changes: Arc<Changes>,
    events: watch::Sender<u64>,
    wake: Arc<Notify>,
}

impl Db {
    /// Opens or makes the database, and brings its schema up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(WAIT_MAX);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(WAIT_MAX)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(|error| schema::explain(error, path))?;
        schema::prepare(&pool, path).await?;
        let version = counter(&pool, "resourceVersion").await?;
        let last: i64 =
            sqlx::query("SELECT coalesce(max(sequence), 0) FROM events").fetch_one(&pool).await?.try_get(0)?;
        Ok(Self {
            pool,
            order: Arc::default(),
            changes: Arc::new(Changes::new(version)),
            events: watch::Sender::new(natural(last)),
            wake: Arc::default(),
        })
    }

    /// Closes the connection; what was committed is on the disk already.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a write. Others wait until it is committed or dropped; dropped, it has not happened.
    pub(crate) async fn write(&self) -> Result<Write, Error> {
        let order = Arc::clone(&self.order).lock_owned().await;
        let tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Write { db: self.clone(), tx, _order: order, changes: Vec::new(), last_event: None })
    }

    /// The last changes of services.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Tells of the newest event.
    pub(crate) fn events_seen(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// Woken by every write that somebody outside asked for.
    pub(crate) fn wake(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// A counter or text of the data directory.
    pub(crate) async fn meta(&self, key: &'static str) -> Result<String, Error> {
        let row = sqlx::query("SELECT value FROM meta WHERE key = ?").bind(key).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }

    /// Events after `after`, oldest first; of one service when named. With `after` absent, the newest ones.
    pub(crate) async fn events(
        &self,
        service: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Event>, Error> {
        let rows = match after {
            Some(after) => {
                sqlx::query(
                    "SELECT sequence, time, severity, service, reason, message FROM events \
                     WHERE sequence > ?1 AND (?2 IS NULL OR service = ?2) ORDER BY sequence LIMIT ?3",
                )
                .bind(integer(after))
                .bind(service)
                .bind(limit)
                .fetch_all(&self.pool)
                .await?
            }
            None => {
                let newest_first = sqlx::query(
                    "SELECT sequence, time, severity, service, reason, message FROM events \
                     WHERE ?1 IS NULL OR service = ?1 ORDER BY sequence DESC LIMIT ?2",
                );
                let mut rows = newest_first.bind(service).bind(limit).fetch_all(&self.pool).await?;
                rows.reverse();
                rows
            }
        };
        let event = |row: &sqlx::sqlite::SqliteRow| {
            let severity: String = row.try_get(2)?;
            Ok(Event {
                sequence: natural(row.try_get(0)?),
                time: row.try_get(1)?,
                severity: if severity == "Warning" { Severity::Warning } else { Severity::Normal },
                service: row.try_get(3)?,
                reason: row.try_get(4)?,
                message: row.try_get(5)?,
            })
        };
        rows.iter().map(event).collect()
    }
}

/// A transaction, with what watchers will be told.
#[derive(Debug)]
pub(crate) struct Write {
    db: Db,
    tx: Transaction<'static, Sqlite>,
    _order: OwnedMutexGuard<()>,
    changes: Vec<(u64, Change)>,
    last_event: Option<u64>,
}

impl Write {
    /// Makes it happen, on the disk, then tells the watchers.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.tx.commit().await?;
        for (version, change) in self.changes {
            self.db.changes.push(version, change);
        }
        if let Some(sequence) = self.last_event {
            self.db.events.send_replace(sequence);
        }
        Ok(())
    }

    /// As [`Write::commit`], and wakes the reconcile loop.
    pub(crate) async fn commit_and_wake(self) -> Result<(), Error> {
        let wake = Arc::clone(&self.db.wake);
        self.commit().await?;
        wake.notify_one();
        Ok(())
    }

    /// Counts a counter of the data directory up and gives its new value.
    pub(crate) async fn count_up(&mut self, key: &'static str) -> Result<u64, Error> {
        let row = sqlx::query("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = ? RETURNING value")
            .bind(key)
            .fetch_one(&mut *self.tx)
            .await?;
        let value: String = row.try_get(0)?;
        Ok(value.parse().unwrap_or(0))
    }

    /// Keeps a text of the data directory.
    pub(crate) async fn set_meta(&mut self, key: &'static str, value: &str) -> Result<(), Error> {
        sqlx::query("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")
            .bind(key)
            .bind(value)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Adds an event and drops those that are too many.
    pub(crate) async fn event(
        &mut self,
        severity: Severity,
        service: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let text = if severity == Severity::Warning { "Warning" } else { "Normal" };
        let row = sqlx::query(
            "INSERT INTO events (time, severity, service, reason, message) VALUES (?, ?, ?, ?, ?) RETURNING sequence",
        )
        .bind(daemon::time::rfc3339(daemon::time::now_ms()))
        .bind(text)
        .bind(service)
        .bind(reason)
        .bind(message)
        .fetch_one(&mut *self.tx)
        .await?;
        let sequence: i64 = row.try_get(0)?;
        let oldest = sequence.saturating_sub(i64::from(EVENTS_MAX));
        sqlx::query("DELETE FROM events WHERE sequence <= ?").bind(oldest).execute(&mut *self.tx).await?;
        self.last_event = Some(natural(sequence));
        if severity == Severity::Warning {
            tracing::warn!(service, reason, message);
        } else {
            tracing::info!(service, reason, message);
        }
        Ok(())
    }
}

async fn counter(pool: &SqlitePool, key: &'static str) -> Result<u64, Error> {
    let row = sqlx::query("SELECT value FROM meta WHERE key = ?").bind(key).fetch_one(pool).await?;
    let value: String = row.try_get(0)?;
    Ok(value.parse().unwrap_or(0))
}

/// SQLite's integers are signed; ours never reach the sign bit.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
