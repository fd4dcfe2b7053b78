//! What the database keeps, refuses and forgets.

use std::fs;

use planner::judge::{RolloutState, Verdict};
use resources::{
    event::{EVENTS_MAX, Severity},
    rollout::Wish,
};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};

use super::{
    Db,
    schema::{STEPS, steps},
};
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

/// What a controller of each earlier version left behind is taken over: what serves goes on serving, and nothing is judged yet.
#[tokio::test]
async fn databases_of_every_earlier_version_are_brought_up_to_date() {
    for version in 1..STEPS.len() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("berth.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        steps(&pool, &path, &STEPS[..version]).await.unwrap();
        let rows = "
            INSERT INTO resources (name, uid, generation, version, created_ms, labels, annotations, spec, status)
            VALUES ('spam', 'u', 3, 7, 0, '{}', '{}',
                '{\"predictor\":{\"model\":{\"modelFormat\":{\"name\":\"onnx\"},\"storageUri\":\"file:///m\"}}}', '{}');
            INSERT INTO revisions (service, revision, bundle, spec, created_ms, promoted) VALUES
                ('spam', 1, 'sha256:a', '{\"model\":{\"modelFormat\":{\"name\":\"onnx\"},\"storageUri\":\"file:///m\"}}', 0, 1),
                ('spam', 2, 'sha256:b', '{\"model\":{\"modelFormat\":{\"name\":\"onnx\"},\"storageUri\":\"file:///m\"}}', 0, 1),
                ('spam', 3, 'sha256:c', '{\"model\":{\"modelFormat\":{\"name\":\"onnx\"},\"storageUri\":\"file:///m\"}}', 0, 0);
            INSERT INTO replicas (id, service, revision, socket, created_ms) VALUES ('spam-2-x', 'spam', 2, '/r', 0);";
        sqlx::raw_sql(rows).execute(&pool).await.unwrap();
        if version > 1 {
            sqlx::raw_sql("UPDATE revisions SET completed = 1 WHERE revision = 2").execute(&pool).await.unwrap();
        }
        pool.close().await;
        let db = Db::open(&path).await.unwrap();
        let (services, revisions) = db.desired().await.unwrap();
        assert_eq!((services.len(), services[0].generation(), services[0].version()), (1, 3, 7), "from {version}");
        let found: Vec<_> = revisions.iter().map(|one| (one.revision.0, one.promoted, one.completed)).collect();
        assert_eq!(found, [(1, true, false), (2, true, true), (3, false, false)], "from {version}");
        assert!(revisions.iter().all(|one| one.rollout.is_none() && one.wish.is_none() && one.promoted_ms.is_none()));
        let mut write = db.write().await.unwrap();
        let (name, third) = (&revisions[2].service, revisions[2].revision);
        let state = RolloutState { step: 1, verdict: Some(Verdict::Aborted), ..RolloutState::default() };
        write.set_rollout(name, third, &state).await.unwrap();
        write.set_wish(name, third, Some(Wish::Pause)).await.unwrap();
        write.set_promoted(name, third, Some(700)).await.unwrap();
        write.commit().await.unwrap();
        db.close().await;
        let db = Db::open(&path).await.unwrap();
        let kept = db.revisions().await.unwrap().remove(2);
        assert_eq!((kept.rollout, kept.wish), (Some(state), Some(Wish::Pause)));
        assert_eq!((kept.promoted, kept.promoted_ms), (true, Some(700)));
        let mut write = db.write().await.unwrap();
        write.set_promoted(name, third, None).await.unwrap();
        write.commit().await.unwrap();
        let kept = db.revisions().await.unwrap().remove(2);
        assert_eq!((kept.promoted, kept.promoted_ms), (false, None));
    }
}
