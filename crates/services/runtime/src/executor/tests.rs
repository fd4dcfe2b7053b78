//! The pool, driven by sessions that do what the test says.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use inference::{Datatype, Tensor, TensorData};

use super::*;

/// A session that says what it begins and ends when it is told to.
struct Scripted {
    begun: SyncSender<String>,
    go: Receiver<Result<(), &'static str>>,
}

impl Backend for Scripted {
    fn run(&mut self, request: &InferRequest) -> Result<Ran, InferError> {
        self.begun.send(request.id.clone().unwrap_or_default()).unwrap();
        match self.go.recv().unwrap() {
            Ok(()) => Ok(Ran { outputs: vec![], input: Duration::ZERO, infer: Duration::ZERO, output: Duration::ZERO }),
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
    let (begun, begun_here) = sync_channel(16);
    let (go, go_there) = sync_channel(16);
    let session: Box<dyn Backend> = Box::new(Scripted { begun, go: go_there });
    let cost = Cost { run, bytes: 4, typical: true };
    Harness { pool: Arc::new(Pool::new(vec![session], cost, limits).unwrap()), begun: begun_here, go }
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
