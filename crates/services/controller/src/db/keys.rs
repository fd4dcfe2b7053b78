//! Keys: what is kept of them, never the secret.

use resources::access::KeyRecord;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Db, Write};
use crate::error::Error;

const COLUMNS: &str = "SELECT id, name, digest, allow, created_at FROM keys ORDER BY name";

fn record(row: &SqliteRow) -> Result<KeyRecord, Error> {
    let allow: String = row.try_get(3)?;
    Ok(KeyRecord {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        digest: row.try_get(2)?,
        allow: serde_json::from_str(&allow)?,
        created_at: row.try_get(4)?,
    })
}

impl Db {
    /// Every key that is not revoked, by name.
    pub(crate) async fn keys(&self) -> Result<Vec<KeyRecord>, Error> {
        sqlx::query(COLUMNS).fetch_all(&self.pool).await?.iter().map(record).collect()
    }
}

impl Write {
    pub(crate) async fn keys(&mut self) -> Result<Vec<KeyRecord>, Error> {
        sqlx::query(COLUMNS).fetch_all(&mut *self.tx).await?.iter().map(record).collect()
    }

    pub(crate) async fn insert_key(&mut self, key: &KeyRecord) -> Result<(), Error> {
        sqlx::query("INSERT INTO keys (id, name, digest, allow, created_at) VALUES (?, ?, ?, ?, ?)")
            .bind(&key.id)
            .bind(&key.name)
            .bind(&key.digest)
            .bind(serde_json::to_string(&key.allow)?)
            .bind(&key.created_at)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub(crate) async fn delete_key(&mut self, id: &str) -> Result<(), Error> {
        sqlx::query("DELETE FROM keys WHERE id = ?").bind(id).execute(&mut *self.tx).await?;
        Ok(())
    }
}
