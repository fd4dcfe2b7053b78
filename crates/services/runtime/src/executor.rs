//! Runs requests on a model's sessions: at once when one is idle and the work is small, else on threads behind a queue.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use inference::{InferError, InferRequest};
use tokio::sync::oneshot;

use crate::{
    backend::{Backend, Ran},
    placement::Cost,
    registry::{Executed, Execution, Executor, Timings},
    size,
};
use pace::Pace;
use queue::{Limits, Next, Queue, Waiting};

mod pace;
pub mod queue;
#[cfg(test)]
mod tests;

/// Sessions of one model, the queue before them and the threads that empty it.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    pace: Pace,
    /// Signalled when a job came while a session was idle, a session came back while a job waits, or the pool closes.
    work: Condvar,
}

struct State {
    queue: Queue<Job>,
    idle: Vec<Box<dyn Backend>>,
    closed: bool,
}

struct Job {
    request: InferRequest,
    arrived: Instant,
    answer: oneshot::Sender<Result<Executed, InferError>>,
}

impl Pool {
    /// A pool of `sessions`, with as many threads.
    ///
    /// # Errors
    ///
    /// The kernel gave no thread.
    pub fn new(sessions: Vec<Box<dyn Backend>>, cost: Cost, limits: Limits) -> io::Result<Self> {
        let count = sessions.len();
        let state = State { queue: Queue::new(limits), idle: sessions, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), pace: Pace::new(cost), work: Condvar::new() });
        let mut pool = Self { shared, threads: Vec::with_capacity(count) };
        for at in 0..count {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("infer-{at}"));
            pool.threads.push(builder.spawn(move || work(&shared))?);
        }
        Ok(pool)
    }

    async fn run(&self, request: InferRequest, deadline: Option<tokio::time::Instant>) -> Result<Executed, InferError> {
        let arrived = Instant::now();
        if deadline.is_some_and(|deadline| deadline.into_std() <= arrived) {
            return Err(expired());
        }
        let bytes = size::bytes(&request);
        if self.shared.pace.inline(bytes)
            && let Some(mut session) = self.shared.take_idle()
        {
            let running = self.shared.pace.begin_inline();
            let ran = self.shared.run(session.as_mut(), &request, bytes);
            drop(running);
            self.shared.give_back(session);
            return ran.map(|ran| executed(ran, Duration::ZERO));
        }
        let (answer, answered) = oneshot::channel();
        let job = Job { request, arrived, answer };
        self.shared.push(Waiting { item: job, bytes, deadline: deadline.map(tokio::time::Instant::into_std) })?;
        let answered = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, answered).await.map_err(|_| late())?,
            None => answered.await,
        };
        answered.unwrap_or_else(|_| Err(InferError::Unavailable("the model is being unloaded".to_owned())))
    }
}

impl Executor for Pool {
    fn execute(&self, request: InferRequest, deadline: Option<tokio::time::Instant>) -> Execution<'_> {
        Box::pin(self.run(request, deadline))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = self.shared.pace.cost();
        f.debug_struct("Pool").field("threads", &self.threads.len()).field("cost", &cost).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches panics of the engine; nothing is left to do about one here.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Runs, and learns what runs cost.
    fn run(&self, session: &mut dyn Backend, request: &InferRequest, bytes: usize) -> Result<Ran, InferError> {
        let ran = run_caught(session, request);
        if let Ok(ran) = &ran {
            self.pace.learn(bytes, ran.input + ran.infer + ran.output);
        }
        ran
    }

    /// A panic never happens while the lock is held, except in the allocator: what it guards stays usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session for a request that need not wait. Those that wait go first.
    fn take_idle(&self) -> Option<Box<dyn Backend>> {
        let mut state = self.lock();
        if state.queue.is_empty() { state.idle.pop() } else { None }
    }

    fn give_back(&self, session: Box<dyn Backend>) {
        let mut state = self.lock();
        state.idle.push(session);
        let waiting = !state.queue.is_empty();
        drop(state);
        if waiting {
            self.work.notify_one();
        }
    }

    fn push(&self, waiting: Waiting<Job>) -> Result<(), InferError> {
        let full = || InferError::Unavailable("the model's queue is full: try again later".to_owned());
        let Waiting { item, bytes, deadline } = waiting;
        let mut state = self.lock();
        if let Err(item) = state.queue.push(Waiting { item, bytes, deadline }) {
            // Clients that have gone still hold their places.
            state.queue.forget(|job| job.answer.is_closed());
            state.queue.push(Waiting { item, bytes, deadline }).map_err(|_| full())?;
        }
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits for a job and a session to run it; `None` when the pool closes.
    fn next(&self) -> Option<(Job, Box<dyn Backend>)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(session) = state.idle.pop() {
                match state.queue.next(Instant::now()) {
                    Some(Next::Run(job)) if !job.answer.is_closed() => return Some((job, session)),
                    Some(Next::Run(_)) => state.idle.push(session),
                    Some(Next::Expired(job)) => {
                        state.idle.push(session);
                        drop(job.answer.send(Err(expired())));
                    }
                    None => {
                        state.idle.push(session);
                        state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

fn work(shared: &Shared) {
    while let Some((job, mut session)) = shared.next() {
        let queue = job.arrived.elapsed();
        let ran = shared.run(session.as_mut(), &job.request, size::bytes(&job.request));
        shared.give_back(session);
        // The client may have gone meanwhile.
        drop(job.answer.send(ran.map(|ran| executed(ran, queue))));
    }
}

/// A panic of the engine's binding fails one request, not the thread.
fn run_caught(session: &mut dyn Backend, request: &InferRequest) -> Result<Ran, InferError> {
    let ran = catch_unwind(AssertUnwindSafe(|| session.run(request)));
    ran.unwrap_or_else(|_| Err(InferError::Internal("the engine panicked on this request".to_owned())))
}

fn executed(ran: Ran, queue: Duration) -> Executed {
    let Ran { outputs, input, infer, output } = ran;
    (outputs, Timings { queue, compute: input + infer + output, input, output })
}

fn expired() -> InferError {
    InferError::DeadlineExceeded("the deadline passed before the model began, nothing was run".to_owned())
}

fn late() -> InferError {
    InferError::DeadlineExceeded("the deadline passed before the model had answered".to_owned())
}
