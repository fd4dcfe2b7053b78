//! Tables, and the steps from one version of them to the next.

use std::path::Path;

use sqlx::{Row as _, SqlitePool};

use crate::error::Error;

/// Step `n` brings version `n` to `n + 1`. A step that was released never changes.
pub(super) const STEPS: [&str; 4] = [FIRST, COMPLETED, ROLLOUT, PROMOTED];

const FIRST: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('resourceVersion', '0'), ('generation', '0'), ('snapshot', '');
CREATE TABLE resources (
    name TEXT PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    deleting INTEGER NOT NULL DEFAULT 0,
    labels TEXT NOT NULL,
    annotations TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL
) STRICT;
CREATE TABLE revisions (
    service TEXT NOT NULL REFERENCES resources (name) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    spec TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    promoted INTEGER NOT NULL DEFAULT 0,
    exits INTEGER NOT NULL DEFAULT 0,
    streak INTEGER NOT NULL DEFAULT 0,
    last_replica TEXT,
    last_exit TEXT,
    PRIMARY KEY (service, revision)
) STRICT;
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    revision INTEGER NOT NULL,
    socket TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    pid INTEGER,
    born INTEGER,
    ready_ms INTEGER,
    leaving_ms INTEGER,
    leaving_generation INTEGER,
    stopping_ms INTEGER,
    failed INTEGER NOT NULL DEFAULT 0,
    why TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (service, revision) REFERENCES revisions (service, revision)
) STRICT;
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    allow TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    severity TEXT NOT NULL,
    service TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX events_service ON events (service, sequence);
";

/// Revisions that get requests, beside the ones that have had all of them. What has replicas or is the newest goes on as it was.
const COMPLETED: &str = "
ALTER TABLE revisions ADD COLUMN completed INTEGER NOT NULL DEFAULT 0;
UPDATE revisions AS kept SET completed = 1 WHERE promoted = 1 AND (
    EXISTS (SELECT 1 FROM replicas WHERE service = kept.service AND revision = kept.revision)
    OR revision = (SELECT max(revision) FROM revisions WHERE service = kept.service)
);
";

/// How the rollout of a revision stands, as JSON, and what a person wants of it. They are apart, so that neither the loop nor the
/// API writes over what the other has just written.
const ROLLOUT: &str = "
ALTER TABLE revisions ADD COLUMN rollout TEXT;
ALTER TABLE revisions ADD COLUMN wish TEXT;
";

/// When a revision got all the traffic. Of those that have had it from before nobody knows.
const PROMOTED: &str = "
ALTER TABLE revisions ADD COLUMN promoted_ms INTEGER;
";

/// Checks the file and brings its schema up to date, each step in a transaction of its own.
pub(super) async fn prepare(pool: &SqlitePool, path: &Path) -> Result<(), Error> {
    steps(pool, path, &STEPS).await
}

/// Brings the schema up by those of `steps` that were not done yet.
pub(super) async fn steps(pool: &SqlitePool, path: &Path, steps: &[&'static str]) -> Result<(), Error> {
    let check = sqlx::query("PRAGMA quick_check(1)").fetch_one(pool).await.map_err(|error| explain(error, path))?;
    let found: String = check.try_get(0)?;
    if found != "ok" {
        return Err(Error::DamagedDatabase { path: path.to_owned(), reason: found });
    }
    let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(pool).await?.try_get(0)?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if version > known {
        return Err(Error::NewerDatabase { path: path.to_owned(), found: version, known });
    }
    let done = usize::try_from(version).unwrap_or(0);
    for (at, step) in steps.iter().enumerate().skip(done) {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
        // A pragma takes no parameters; the number comes from the list above.
        let set = format!("PRAGMA user_version = {}", at + 1);
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Says `damaged` where SQLite says that the file is no database or malformed.
pub(super) fn explain(error: sqlx::Error, path: &Path) -> Error {
    /// SQLITE_CORRUPT and SQLITE_NOTADB.
    const DAMAGED: [&str; 2] = ["11", "26"];
    let code = error.as_database_error().and_then(|error| error.code());
    if code.as_deref().is_some_and(|code| DAMAGED.contains(&code)) {
        return Error::DamagedDatabase { path: path.to_owned(), reason: error.to_string() };
    }
    Error::Database(error)
}
