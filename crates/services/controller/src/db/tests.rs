//! What the database keeps, refuses and forgets.

use std::fs;

use resources::event::{EVENTS_MAX, Severity};

use super::Db;
use crate::error::Error;

#[tokio::test]
async fn a_write_that_is_dropped_has_not_happened() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("berth.db");
    let db = Db::open(&path).await.unwrap();
    let mut write = db.write().await.unwrap();
    write.event(Severity::Normal, "", "Dropped", "").await.unwrap();
    drop(write);
    let mut write = db.write().await.unwrap();
    write.event(Severity::Warning, "spam", "Kept", "a message").await.unwrap();
    write.commit().await.unwrap();
    db.close().await;
    let events = Db::open(&path).await.unwrap().events(None, Some(0), 10).await.unwrap();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((event.reason.as_str(), event.service.as_str(), event.severity), ("Kept", "spam", Severity::Warning));
}

#[tokio::test]
async fn events_are_bounded_and_their_numbers_never_come_again() {
    let home = tempfile::tempdir().unwrap();
    let db = Db::open(&home.path().join("berth.db")).await.unwrap();
    let mut write = db.write().await.unwrap();
    for number in 0..EVENTS_MAX + 5 {
        let service = if number % 2 == 0 { "even" } else { "odd" };
        write.event(Severity::Normal, service, "Counted", "").await.unwrap();
    }
    write.commit().await.unwrap();
    let all = db.events(None, Some(0), 20_000).await.unwrap();
    assert_eq!(all.len(), usize::try_from(EVENTS_MAX).unwrap());
    assert_eq!((all[0].sequence, all.last().unwrap().sequence), (6, u64::from(EVENTS_MAX) + 5));
    let newest = db.events(Some("odd"), None, 2).await.unwrap();
    let numbers: Vec<u64> = newest.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, [u64::from(EVENTS_MAX) + 2, u64::from(EVENTS_MAX) + 4]);
}

#[tokio::test]
async fn what_is_no_database_is_said_to_be_damaged() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("berth.db");
    fs::write(&path, "this is not a database, however long it may be. ".repeat(200)).unwrap();
    let error = Db::open(&path).await.unwrap_err();
    assert!(matches!(error, Error::DamagedDatabase { .. }), "{error}");
    assert!(error.to_string().contains("put back a copy"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_later_version_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("berth.db");
    let db = Db::open(&path).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&db.pool).await.unwrap();
    db.close().await;
    let error = Db::open(&path).await.unwrap_err();
    assert!(matches!(error, Error::NewerDatabase { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn the_disk_has_what_was_committed() {
    let home = tempfile::tempdir().unwrap();
    let db = Db::open(&home.path().join("berth.db")).await.unwrap();
    for (pragma, expected) in
        [("PRAGMA journal_mode", "wal"), ("PRAGMA synchronous", "2"), ("PRAGMA foreign_keys", "1")]
    {
        let row = sqlx::raw_sql(pragma).fetch_one(&db.pool).await.unwrap();
        let found: String =
            sqlx::Row::try_get(&row, 0).unwrap_or_else(|_| sqlx::Row::get::<i64, _>(&row, 0).to_string());
        assert_eq!(found, expected, "{pragma}");
    }
}
