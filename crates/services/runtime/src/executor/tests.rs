//! The pool, driven by sessions that do what the test says.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use inference::{Datatype, ModelMetadata, Tensor, TensorData, TensorSpec};

use super::*;
use crate::batching::{join::Signature, policy::Policy};

mod lanes;

/// A session that says what it begins, by its id or its rows, and ends when it is told to. It gives its inputs back.
struct Scripted {
    begun: SyncSender<String>,
    go: Receiver<Result<(), &'static str>>,
}

impl Backend for Scripted {
    fn run(&mut self, request: &InferRequest) -> Result<Ran, InferError> {
        let rows = request.inputs[0].shape[0];
        self.begun.send(request.id.clone().unwrap_or_else(|| format!("{rows} rows"))).unwrap();
        let ran = |outputs| Ran { outputs, input: Duration::ZERO, infer: Duration::ZERO, output: Duration::ZERO };
        match self.go.recv().unwrap() {
            Ok(()) => Ok(ran(request.inputs.clone())),
            Err("uneven") => Ok(ran(super::tests::request("uneven").inputs)),
            Err("panic") => panic!("asked to"),
            Err(text) => Err(InferError::Internal(text.to_owned())),
        }
    }
}

struct Harness {
    pool: Arc<Pool>,
    begun: Receiver<String>,
    go: SyncSender<Result<(), &'static str>>,
}

fn harness(run: Duration, limits: Limits) -> Harness {
    harness_of(run, limits, Batching::off(metadata()))
}

/// Requests that wait are joined by `policy`.
fn joining(policy: Policy) -> Harness {
    let batching = Batching::on(policy, Signature::of(&metadata()).unwrap(), metadata());
    harness_of(BIG, Limits::default(), batching)
}

fn metadata() -> ModelMetadata {
    let specs = vec![TensorSpec { name: "x".into(), datatype: Datatype::Fp32, shape: vec![-1] }];
    ModelMetadata { name: "m".into(), versions: vec![], platform: String::new(), inputs: specs.clone(), outputs: specs }
}

fn harness_of(run: Duration, limits: Limits, batching: Batching) -> Harness {
    let (begun, begun_here) = sync_channel(16);
    let (go, go_there) = sync_channel(16);
    let session: Box<dyn Backend> = Box::new(Scripted { begun, go: go_there });
    let cost = Cost { run, bytes: 4, typical: true };
    Harness {
        pool: Arc::new(Pool::new(Sessions::of(vec![session]), cost, limits, batching).unwrap()),
        begun: begun_here,
        go,
    }
}

fn request(id: &str) -> InferRequest {
    let data = TensorData::Fixed(Bytes::from_static(&[0; 4]));
    let input = Tensor { name: "x".into(), datatype: Datatype::Fp32, shape: vec![1], parameters: vec![], data };
    InferRequest { id: Some(id.into()), inputs: vec![input], ..InferRequest::default() }
}

const BIG: Duration = Duration::from_millis(5);

/// Polls a future once, which puts its request in the queue.
async fn queue<F: Future + Unpin>(future: &mut F) {
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context)));
    assert!(polled.await.is_pending());
}

#[tokio::test]
async fn a_small_run_stays_on_the_thread() {
    let harness = harness(Duration::ZERO, Limits::default());
    harness.go.send(Ok(())).unwrap();
    let mut run = harness.pool.execute(request("a"), None);
    // One poll is enough: nothing was handed over.
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(run.as_mut().poll(context))).await;
    assert!(matches!(polled, std::task::Poll::Ready(Ok(_))));
}

#[tokio::test]
async fn a_run_under_way_is_seen_until_it_ends() {
    let harness = harness(BIG, Limits::default());
    assert_eq!(harness.pool.busy(), None);
    let mut run = harness.pool.execute(request("a"), None);
    queue(&mut run).await;
    assert_eq!(harness.begun.recv().unwrap(), "a");
    assert!(harness.pool.busy().is_some());
    harness.go.send(Ok(())).unwrap();
    run.await.unwrap();
    assert_eq!(harness.pool.busy(), None);
}

#[tokio::test]
async fn requests_run_in_turn_and_the_expired_and_cancelled_do_not() {
    let harness = harness(BIG, Limits::default());
    let mut first = harness.pool.execute(request("first"), None);
    queue(&mut first).await;
    assert_eq!(harness.begun.recv().unwrap(), "first");
    let soon = tokio::time::Instant::now() + Duration::from_millis(1);
    let mut cancelled = harness.pool.execute(request("cancelled"), None);
    let expired = harness.pool.execute(request("expired"), Some(soon));
    let mut last = harness.pool.execute(request("last"), None);
    queue(&mut cancelled).await;
    queue(&mut last).await;
    drop(cancelled);
    assert!(matches!(expired.await, Err(InferError::DeadlineExceeded(_))));
    harness.go.send(Ok(())).unwrap();
    harness.go.send(Ok(())).unwrap();
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(harness.begun.recv().unwrap(), "last");
    assert!(harness.begun.try_recv().is_err());
}

#[tokio::test]
async fn a_request_whose_deadline_passed_is_not_begun() {
    let harness = harness(Duration::ZERO, Limits::default());
    let now = tokio::time::Instant::now();
    let refused = harness.pool.execute(request("late"), Some(now)).await;
    assert!(matches!(refused, Err(InferError::DeadlineExceeded(text)) if text.contains("nothing was run")));
    assert!(harness.begun.try_recv().is_err());
}

#[tokio::test]
async fn a_full_queue_refuses_until_clients_leave() {
    let harness = harness(BIG, Limits { requests_max: 1, bytes_max: 1024 });
    let mut running = harness.pool.execute(request("running"), None);
    queue(&mut running).await;
    assert_eq!(harness.begun.recv().unwrap(), "running");
    let mut waiting = harness.pool.execute(request("waiting"), None);
    queue(&mut waiting).await;
    let refused = harness.pool.execute(request("refused"), None).await;
    assert!(matches!(refused, Err(InferError::Unavailable(text)) if text.contains("full")));
    drop(waiting);
    let mut next = harness.pool.execute(request("next"), None);
    queue(&mut next).await;
    harness.go.send(Ok(())).unwrap();
    harness.go.send(Ok(())).unwrap();
    running.await.unwrap();
    next.await.unwrap();
    assert_eq!(harness.begun.recv().unwrap(), "next");
}

#[tokio::test]
async fn an_error_or_a_panic_fails_one_request_alone() {
    for run in [Duration::ZERO, BIG] {
        let harness = harness(run, Limits::default());
        for (go, fails) in [(Err("broken"), true), (Err("panic"), true), (Ok(()), false)] {
            harness.go.send(go).unwrap();
            let ran = harness.pool.execute(request("a"), None).await;
            assert_eq!(matches!(ran, Err(InferError::Internal(_))), fails);
        }
    }
}

/// A request whose one number is `value`.
fn number(id: &str, value: f32) -> InferRequest {
    let mut request = request(id);
    request.inputs[0].data = TensorData::from_vec(vec![value]);
    request
}

/// The numbers of an answer.
fn numbers(answer: Result<Executed, InferError>) -> Result<Vec<f32>, String> {
    let (outputs, _) = answer.map_err(|error| error.to_string())?;
    let TensorData::Fixed(bytes) = &outputs[0].data else { panic!("numbers") };
    Ok(bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect())
}

/// A request that holds the session, and three that wait behind it.
async fn three_waiting(harness: &Harness) -> (Execution<'_>, [Execution<'_>; 3]) {
    let mut first = harness.pool.execute(request("first"), None);
    queue(&mut first).await;
    assert_eq!(harness.begun.recv().unwrap(), "first");
    let mut waiting =
        [("a", 1.0), ("b", 2.0), ("c", 3.0)].map(|(id, value)| harness.pool.execute(number(id, value), None));
    for one in &mut waiting {
        queue(one).await;
    }
    (first, waiting)
}

fn begun(harness: &Harness) -> Vec<String> {
    harness.begun.try_iter().collect()
}

#[tokio::test]
async fn those_that_wait_run_together_and_each_gets_its_own_answer() {
    let harness = joining(Policy::default());
    let (first, waiting) = three_waiting(&harness).await;
    harness.go.send(Ok(())).unwrap();
    harness.go.send(Ok(())).unwrap();
    first.await.unwrap();
    for (one, value) in waiting.into_iter().zip([1.0, 2.0, 3.0]) {
        assert_eq!(numbers(one.await), Ok(vec![value]));
    }
    assert_eq!(begun(&harness), ["3 rows"]);
}

#[tokio::test]
async fn whose_client_has_gone_is_not_in_the_batch() {
    let harness = joining(Policy::default());
    let (first, [a, b, c]) = three_waiting(&harness).await;
    drop(b);
    harness.go.send(Ok(())).unwrap();
    harness.go.send(Ok(())).unwrap();
    first.await.unwrap();
    assert_eq!((numbers(a.await), numbers(c.await)), (Ok(vec![1.0]), Ok(vec![3.0])));
    assert_eq!(begun(&harness), ["2 rows"]);
}

#[tokio::test]
async fn a_batch_that_fails_is_run_one_by_one() {
    for failure in ["broken", "panic"] {
        let harness = joining(Policy::default());
        let (first, [a, b, c]) = three_waiting(&harness).await;
        for go in [Ok(()), Err(failure), Ok(()), Err("bad"), Ok(())] {
            harness.go.send(go).unwrap();
        }
        first.await.unwrap();
        assert_eq!((numbers(a.await), numbers(c.await)), (Ok(vec![1.0]), Ok(vec![3.0])));
        assert!(numbers(b.await).unwrap_err().contains("bad"));
        assert_eq!(begun(&harness), ["3 rows", "a", "b", "c"]);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_apart_ends_batching() {
    let harness = joining(Policy::default());
    let (first, waiting) = three_waiting(&harness).await;
    for go in [Ok(()), Err("uneven"), Ok(()), Ok(()), Ok(())] {
        harness.go.send(go).unwrap();
    }
    first.await.unwrap();
    for (one, value) in waiting.into_iter().zip([1.0, 2.0, 3.0]) {
        assert_eq!(numbers(one.await), Ok(vec![value]));
    }
    assert_eq!(begun(&harness), ["3 rows", "a", "b", "c"]);
    let (first, waiting) = three_waiting(&harness).await;
    for _ in 0..4 {
        harness.go.send(Ok(())).unwrap();
    }
    first.await.unwrap();
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(begun(&harness), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_request_waits_for_company_only_until_the_batch_is_full() {
    let hour = Duration::from_secs(3600);
    let harness = joining(Policy { rows_max: 2, latency_max: hour, ..Policy::default() });
    let mut a = harness.pool.execute(number("a", 1.0), None);
    let mut b = harness.pool.execute(number("b", 2.0), None);
    queue(&mut a).await;
    assert!(begun(&harness).is_empty());
    queue(&mut b).await;
    harness.go.send(Ok(())).unwrap();
    assert_eq!((numbers(a.await), numbers(b.await)), (Ok(vec![1.0]), Ok(vec![2.0])));
    assert_eq!(begun(&harness), ["2 rows"]);
    // It is not held beyond its deadline.
    harness.go.send(Ok(())).unwrap();
    let soon = tokio::time::Instant::now() + Duration::from_secs(60);
    assert_eq!(numbers(harness.pool.execute(number("c", 3.0), Some(soon)).await), Ok(vec![3.0]));
}

#[tokio::test]
async fn who_is_late_or_gone_is_left_out_when_a_batch_is_run_again() {
    let harness = joining(Policy::default());
    let shared = &harness.pool.shared;
    let now = Instant::now();
    let waiting = |id, deadline| {
        let (answer, answered) = oneshot::channel();
        let item = Job { request: request(id), answer };
        (Waiting { item, bytes: 4, rows: 1, group: None, arrived: now, deadline }, answered)
    };
    let ((late, late_answer), (gone, gone_answer), (last, last_answer)) =
        (waiting("late", Some(now)), waiting("gone", None), waiting("last", None));
    drop(gone_answer);
    harness.go.send(Ok(())).unwrap();
    let session = shared.take_idle(Instant::now()).unwrap();
    run_each(shared, session, vec![late, gone, last]);
    assert!(matches!(late_answer.await.unwrap(), Err(InferError::DeadlineExceeded(_))));
    assert!(last_answer.await.unwrap().is_ok());
    assert_eq!(begun(&harness), ["last"]);
    assert!(shared.take_idle(Instant::now()).is_some());
}
