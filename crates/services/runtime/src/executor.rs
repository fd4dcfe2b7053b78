//! Runs requests on a model's sessions: at once when one is idle and the work is small, else on threads behind a queue, those
//! that wait together where the model bears it, and beside each other where it has lanes.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use inference::{InferError, InferRequest, Tensor};
use tokio::sync::oneshot;

use crate::{
    backend::{Backend, Ran},
    batching::{Batching, join, join::Group, policy::Policy},
    metrics::Runs,
    placement::Cost,
    registry::{Executed, Execution, Executor, Timings},
    size,
};
use pace::Pace;
use queue::{Limits, Next, Queue, Waiting};
use turn::{Crowd, Kind, Lanes, Load};

mod pace;
pub mod queue;
#[cfg(test)]
mod tests;
pub mod turn;

/// Sessions of one model, the queue before them and the threads that empty it.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Sessions of one model, each of which has run before.
pub struct Sessions {
    /// Those whose run has all the CPUs that it takes.
    pub wide: Vec<Box<dyn Backend>>,
    /// Those that run beside each other when requests come together, if any; then there is one wide session.
    pub lanes: Vec<Box<dyn Backend>>,
    /// What a run takes on either kind, when there are lanes.
    pub times: Option<Lanes>,
}

struct Shared {
    state: Mutex<State>,
    lanes: Option<Lanes>,
    pace: Pace,
    batching: Batching,
    /// Set when a joined answer did not come apart: the model is not what the trial took it for.
    inseparable: AtomicBool,
    runs: Runs,
    /// Signalled when a job came while a session was idle, a session came back while a job waits, or the pool closes.
    work: Condvar,
}

struct State {
    queue: Queue<Job>,
    /// Wide sessions that are idle.
    wide: Vec<Box<dyn Backend>>,
    /// Lanes that are idle.
    lanes: Vec<Box<dyn Backend>>,
    /// When the runs under way began: as many as sessions that are not idle.
    running: Vec<Instant>,
    crowd: Crowd,
    closed: bool,
}

/// A session that was taken to run.
struct Taken {
    session: Box<dyn Backend>,
    kind: Kind,
    since: Instant,
}

/// Requests that run together, the oldest first; one or more.
type Batch = Vec<Waiting<Job>>;

struct Job {
    request: InferRequest,
    answer: oneshot::Sender<Result<Executed, InferError>>,
}

impl Pool {
    /// A pool of `sessions`, with as many threads as can run at a time.
    ///
    /// # Errors
    ///
    /// The kernel gave no thread.
    pub fn new(sessions: Sessions, cost: Cost, limits: Limits, batching: Batching) -> io::Result<Self> {
        let Sessions { wide, lanes, times } = sessions;
        let count = wide.len().max(lanes.len());
        let times = times.map(|times| Lanes { count: lanes.len(), ..times }).filter(|times| times.count > 0);
        let state =
            State { queue: Queue::new(limits), wide, lanes, running: Vec::new(), crowd: Crowd::NONE, closed: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            lanes: times,
            pace: Pace::new(cost),
            batching,
            inseparable: AtomicBool::new(false),
            runs: Runs::default(),
            work: Condvar::new(),
        });
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
        if !self.shared.batching.policy().waits()
            && self.shared.pace.inline(bytes)
            && let Some(mut taken) = self.shared.take_idle(arrived)
        {
            let running = self.shared.pace.begin_inline();
            let ran = self.shared.run(taken.session.as_mut(), &request, bytes);
            drop(running);
            self.shared.give_back(taken);
            return ran.map(|ran| executed(ran, Duration::ZERO));
        }
        let (answer, answered) = oneshot::channel();
        let (rows, group) = (self.shared.batching.rows(&request), self.shared.group(&request));
        let (item, until) = (Job { request, answer }, deadline.map(tokio::time::Instant::into_std));
        self.shared.push(Waiting { item, bytes, rows, group, arrived, deadline: until })?;
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

    fn runs(&self) -> Option<&Runs> {
        Some(&self.shared.runs)
    }

    fn busy(&self) -> Option<Duration> {
        self.shared.lock().running.iter().min().map(Instant::elapsed)
    }
}

impl Sessions {
    /// Sessions of one kind.
    pub fn of(wide: Vec<Box<dyn Backend>>) -> Self {
        Self { wide, lanes: Vec::new(), times: None }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wide, lanes) = (self.wide.len(), self.lanes.len());
        f.debug_struct("Sessions").field("wide", &wide).field("lanes", &lanes).field("times", &self.times).finish()
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
            self.runs.ran(self.batching.rows(request));
        }
        ran
    }

    fn group(&self, request: &InferRequest) -> Option<Group> {
        if self.inseparable.load(Ordering::Relaxed) { None } else { self.batching.group(request) }
    }

    /// Runs a batch in one run; the outputs of each, in their order. `None` when it failed, which says nothing about each.
    fn run_joined(&self, session: &mut dyn Backend, batch: &[Waiting<Job>]) -> Option<(Vec<Vec<Tensor>>, Timings)> {
        let begun = Instant::now();
        let members: Vec<&InferRequest> = batch.iter().map(|waiting| &waiting.item.request).collect();
        let joined = self.batching.signature()?.join(&members)?;
        let joining = begun.elapsed();
        let ran = run_caught(session, &joined).ok()?;
        let taken = Instant::now();
        let rows: Vec<usize> = batch.iter().map(|waiting| waiting.rows).collect();
        let mut timings = Timings { input: ran.input, output: ran.output, ..Timings::default() };
        let Some(parts) = join::split(ran.outputs, &rows) else {
            self.inseparable.store(true, Ordering::Relaxed);
            tracing::warn!("a joined answer has not the rows that were asked: requests are run one by one from now on");
            return None;
        };
        timings.input += joining;
        timings.output += taken.elapsed();
        timings.compute = begun.elapsed();
        self.pace.learn_joined(batch.iter().map(|waiting| waiting.bytes).max().unwrap_or(0), timings.compute);
        self.runs.ran(rows.iter().copied().fold(0, usize::saturating_add));
        Some((parts, timings))
    }

    /// A panic never happens while the lock is held, except in the allocator: what it guards stays usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session for a request that need not wait. Those that wait go first.
    fn take_idle(&self, now: Instant) -> Option<Taken> {
        let mut state = self.lock();
        if !state.queue.is_empty() {
            return None;
        }
        self.meet(&mut state);
        let kind = self.free(&state, 1)?;
        state.take(kind, now)
    }

    fn give_back(&self, taken: Taken) {
        let mut state = self.lock();
        state.give_back(taken);
        let waiting = !state.queue.is_empty();
        drop(state);
        if waiting {
            self.work.notify_one();
        }
    }

    /// A request has come, and does not wait yet.
    fn meet(&self, state: &mut State) {
        if let Some(lanes) = &self.lanes {
            let running = usize::from(state.wide.is_empty()) + lanes.count.saturating_sub(state.lanes.len());
            state.crowd = state.crowd.met(state.queue.len().saturating_add(running).saturating_add(1));
        }
    }

    /// What the oldest of `waiting` requests may run on now.
    fn free(&self, state: &State, waiting: usize) -> Option<Kind> {
        let Some(lanes) = &self.lanes else {
            return (!state.wide.is_empty()).then_some(Kind::Wide);
        };
        let running = lanes.count.saturating_sub(state.lanes.len());
        turn::choose(lanes, Load { waiting, wide: state.wide.is_empty(), lanes: running, crowd: state.crowd })
    }

    /// What runs together on a session of this `kind`.
    fn policy(&self, state: &State, kind: Kind) -> Policy {
        let policy = *self.batching.policy();
        if kind == Kind::Wide || policy.waits() {
            return policy;
        }
        Policy { requests_max: turn::share(state.queue.len(), state.lanes.len()), ..policy }
    }

    fn push(&self, waiting: Waiting<Job>) -> Result<(), InferError> {
        let full = || InferError::Unavailable("the model's queue is full: try again later".to_owned());
        let Waiting { item, bytes, rows, group, arrived, deadline } = waiting;
        let mut state = self.lock();
        self.meet(&mut state);
        if let Err(item) = state.queue.push(Waiting { item, bytes, rows, group: group.clone(), arrived, deadline }) {
            // Clients that have gone still hold their places.
            state.queue.forget(|job| job.answer.is_closed());
            let waiting = Waiting { item, bytes, rows, group, arrived, deadline };
            state.queue.push(waiting).map_err(|_| full())?;
        }
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits for jobs and a session to run them; `None` when the pool closes.
    fn next(&self) -> Option<(Batch, Taken)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let waiting = state.queue.len();
            let Some(kind) = self.free(&state, waiting).filter(|_| waiting > 0) else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            let policy = self.policy(&state, kind);
            state = match state.queue.next(&policy, now, |job| job.answer.is_closed()) {
                Some(Next::Run(batch)) => {
                    let taken = state.take(kind, now)?;
                    let more = state.queue.len();
                    let another = more > 0 && self.free(&state, more).is_some();
                    drop(state);
                    if another {
                        self.work.notify_one();
                    }
                    return Some((batch, taken));
                }
                Some(Next::Expired(job)) => {
                    drop(job.answer.send(Err(expired())));
                    state
                }
                Some(Next::WaitUntil(until)) => {
                    let waited = self.work.wait_timeout(state, until.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => state,
            };
        }
    }
}

impl State {
    fn take(&mut self, kind: Kind, now: Instant) -> Option<Taken> {
        let idle = match kind {
            Kind::Wide => &mut self.wide,
            Kind::Lane => &mut self.lanes,
        };
        let session = idle.pop()?;
        self.running.push(now);
        Some(Taken { session, kind, since: now })
    }

    fn give_back(&mut self, Taken { session, kind, since }: Taken) {
        if let Some(at) = self.running.iter().position(|begun| *begun == since) {
            self.running.swap_remove(at);
        }
        match kind {
            Kind::Wide => self.wide.push(session),
            Kind::Lane => self.lanes.push(session),
        }
    }
}

fn work(shared: &Shared) {
    while let Some((batch, mut taken)) = shared.next() {
        if taken.kind == Kind::Lane {
            shared.runs.ran_on_lane();
        }
        let begun = Instant::now();
        let joined = if batch.len() > 1 { shared.run_joined(taken.session.as_mut(), &batch) } else { None };
        match joined {
            Some((parts, timings)) => {
                shared.give_back(taken);
                for (waiting, outputs) in batch.into_iter().zip(parts) {
                    let queue = begun.saturating_duration_since(waiting.arrived);
                    // The client may have gone meanwhile.
                    drop(waiting.item.answer.send(Ok((outputs, Timings { queue, ..timings }))));
                }
            }
            None => run_each(shared, taken, batch),
        }
    }
}

/// Runs one by one: a request that the model cannot run on fails alone.
fn run_each(shared: &Shared, mut taken: Taken, batch: Batch) {
    let mut batch = batch.into_iter().peekable();
    while let Some(waiting) = batch.next() {
        let Waiting { item: Job { request, answer }, bytes, arrived, .. } = &waiting;
        let queue = arrived.elapsed();
        let ran = if answer.is_closed() || waiting.is_expired(Instant::now()) {
            Err(expired())
        } else {
            shared.run(taken.session.as_mut(), request, *bytes).map(|ran| executed(ran, queue))
        };
        if batch.peek().is_none() {
            // Before the last answer, so that who asks again at once finds the session idle.
            shared.give_back(taken);
            drop(waiting.item.answer.send(ran));
            return;
        }
        drop(waiting.item.answer.send(ran));
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
