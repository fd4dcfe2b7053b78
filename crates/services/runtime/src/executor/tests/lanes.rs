//! The pool with lanes: who runs where, and with whom.

use super::*;

const TIMES: Lanes = Lanes { count: 2, lane: Duration::from_micros(9600), wide: Duration::from_micros(5500) };

/// A session of the test: what it began, and the word to go on.
struct Session {
    begun: Receiver<String>,
    go: SyncSender<Result<(), &'static str>>,
}

impl Session {
    fn go_on(&self) {
        self.go.send(Ok(())).unwrap();
    }

    fn begun(&self) -> String {
        self.begun.recv().unwrap()
    }
}

struct Laned {
    pool: Pool,
    wide: Session,
    /// The one that is taken first, then the other.
    lanes: [Session; 2],
}

fn session() -> (Box<dyn Backend>, Session) {
    let (begun, begun_here) = sync_channel(16);
    let (go, go_there) = sync_channel(16);
    (Box::new(Scripted { begun, go: go_there }), Session { begun: begun_here, go })
}

fn laned(batching: Batching) -> Laned {
    let ((wide, wide_here), (second, second_here), (first, first_here)) = (session(), session(), session());
    let sessions = Sessions { wide: vec![wide], lanes: vec![second, first], times: Some(TIMES) };
    let cost = Cost { run: BIG, bytes: 4, typical: true };
    let pool = Pool::new(sessions, cost, Limits::default(), batching).unwrap();
    Laned { pool, wide: wide_here, lanes: [first_here, second_here] }
}

#[tokio::test]
async fn lone_requests_have_all_cpus_each_time() {
    let laned = laned(Batching::off(metadata()));
    for id in ["a", "b", "c"] {
        laned.wide.go_on();
        laned.pool.execute(request(id), None).await.unwrap();
        assert_eq!(laned.wide.begun(), id);
    }
}

#[tokio::test]
async fn those_that_come_together_run_beside_each_other_and_after_the_one_before_them() {
    let laned = laned(Batching::off(metadata()));
    let [first, second] = &laned.lanes;
    let mut a = laned.pool.execute(request("a"), None);
    queue(&mut a).await;
    assert_eq!(laned.wide.begun(), "a");
    let [mut b, mut c, mut d] = ["b", "c", "d"].map(|id| laned.pool.execute(request(id), None));
    for one in [&mut b, &mut c, &mut d] {
        queue(one).await;
    }
    assert!(first.begun.try_recv().is_err() && second.begun.try_recv().is_err());
    laned.wide.go_on();
    a.await.unwrap();
    // Both are under way at once, and the third follows on the lane that is done.
    assert_eq!((first.begun(), second.begun()), ("b".to_owned(), "c".to_owned()));
    second.go_on();
    c.await.unwrap();
    assert_eq!(second.begun(), "d");
    first.go_on();
    second.go_on();
    b.await.unwrap();
    d.await.unwrap();
    assert!(laned.wide.begun.try_recv().is_err());
}

#[tokio::test]
async fn what_waits_is_shared_among_the_lanes() {
    let laned = laned(Batching::on(Policy::default(), Signature::of(&metadata()).unwrap(), metadata()));
    let [first, second] = &laned.lanes;
    let mut a = laned.pool.execute(request("a"), None);
    queue(&mut a).await;
    assert_eq!(laned.wide.begun(), "a");
    let mut waiting = [1.0, 2.0, 3.0, 4.0, 5.0].map(|value| laned.pool.execute(number("n", value), None));
    for one in &mut waiting {
        queue(one).await;
    }
    laned.wide.go_on();
    a.await.unwrap();
    assert_eq!((first.begun(), second.begun()), ("3 rows".to_owned(), "2 rows".to_owned()));
    first.go_on();
    second.go_on();
    for (one, value) in waiting.into_iter().zip([1.0, 2.0, 3.0, 4.0, 5.0]) {
        assert_eq!(numbers(one.await), Ok(vec![value]));
    }
}
