//! Lanes of a model: sessions with a part of the CPUs each, kept where a trial shows that together they answer more.

use std::{
    thread,
    time::{Duration, Instant},
};

use inference::{InferRequest, ModelMetadata};
use resources::condition::{Condition, ConditionKind, ConditionStatus};
use rustix::time::{ClockId, clock_gettime};

use super::{MEASURED_RUNS, MEASURED_TIME, condition, engine::Engine, findings::Findings, measure, source::Source};
use crate::{
    backend::Backend,
    batching::trial,
    executor::turn::Lanes,
    placement::{self, Cost, Plan},
};

/// Requests whose answers on a lane are compared with those of the first session.
const COMPARED_MAX: usize = 16;

/// Trials, at most: one that is disturbed by what else the machine does must not decide.
const TRIALS_MAX: usize = 3;

/// Lanes of one model, with what came of their trial.
pub(super) struct Opened {
    /// The lanes; none when they do not win.
    pub(super) lanes: Vec<Box<dyn Backend>>,
    /// What runs take, when there are lanes.
    pub(super) times: Option<Lanes>,
    /// Whether requests run beside each other, and why not.
    pub(super) condition: Condition,
}

/// What is known of the model that gets lanes.
pub(super) struct Subject<'a> {
    pub(super) engine: &'a Engine<'a>,
    pub(super) source: &'a Source,
    pub(super) metadata: &'a ModelMetadata,
    /// How its first kind of sessions was planned.
    pub(super) plan: Plan,
    /// A request that it answers.
    pub(super) works: Option<&'a InferRequest>,
    pub(super) cpus: usize,
    /// What the process may use.
    pub(super) memory_bytes_max: Option<u64>,
}

impl Subject<'_> {
    /// Opens and tries lanes beside `wide`, whose run takes `cost`.
    ///
    /// With `known`, what an earlier trial came to is taken, unless lanes cannot be had as they were.
    pub(super) fn open(&self, wide: &mut dyn Backend, cost: Cost, known: Option<&Findings>) -> Opened {
        if let Some(opened) = known.and_then(|known| self.reopen(known)) {
            return opened;
        }
        match self.attempt(wide, cost) {
            Ok((lanes, times)) => {
                let gain = times.percent().saturating_sub(100);
                let message = format!(
                    "requests that come together run beside each other, {} at a time, which answers {gain} % more than \
                     one after the other on all CPUs",
                    lanes.len()
                );
                let condition = parallel(ConditionStatus::True, "Faster", &message);
                Opened { lanes, times: Some(times), condition }
            }
            Err(condition) => Opened { lanes: Vec::new(), times: None, condition },
        }
    }

    fn reopen(&self, known: &Findings) -> Option<Opened> {
        let condition = known.parallel.condition(ConditionKind::Parallel);
        if known.lanes.is_none() {
            return Some(Opened { lanes: Vec::new(), times: None, condition });
        }
        let plan = placement::lanes(self.source.bytes, self.cpus, self.memory_bytes_max)?;
        let times = known.lanes(plan).filter(|_| self.plan.sessions == 1)?;
        // Most of the time of opening one is spent on one thread.
        let lanes = thread::scope(|scope| {
            let opening: Vec<_> =
                (0..plan.sessions).map(|_| scope.spawn(|| self.engine.session(plan.threads))).collect();
            opening.into_iter().map(|one| one.join().ok()?.ok()).collect::<Option<Vec<_>>>()
        });
        Some(Opened { lanes: lanes?, times: Some(times), condition })
    }

    fn attempt(&self, wide: &mut dyn Backend, cost: Cost) -> Result<(Vec<Box<dyn Backend>>, Lanes), Condition> {
        let Plan { sessions, threads } = self.plan;
        let off = |reason, message: &str| parallel(ConditionStatus::False, reason, message);
        if sessions > 1 {
            let message = format!("requests run beside each other, on {sessions} sessions");
            return Err(parallel(ConditionStatus::True, "SessionPerCpu", &message));
        }
        if self.cpus < 2 || threads < 2 {
            return Err(off("OneCpu", "there is one session, whose run takes one CPU"));
        }
        let Some(plan) = placement::lanes(self.source.bytes, self.cpus, self.memory_bytes_max) else {
            return Err(off("TooBig", "the model is too big to be held once more for each CPU"));
        };
        let Some(works) = self.works else {
            return Err(off("NotTried", "no request is known that the model answers: add some to `golden.json`"));
        };
        let mut lanes = Vec::with_capacity(plan.sessions);
        for _ in 0..plan.sessions {
            // The model is served without them.
            let failed = |error: super::LoadError| off("NotOpened", &format!("a second session failed: {error}"));
            lanes.push(self.engine.session(plan.threads).map_err(failed)?);
        }
        self.compare(wide, &mut lanes, works).map_err(|how| off("AnswersDiffer", &how))?;
        let times = self.race(wide, (&mut lanes, plan.threads), cost, works);
        tracing::info!(
            model = %self.metadata.name, lanes = times.count, threads = plan.threads, lane_us = times.lane.as_micros(),
            wide_us = times.wide.as_micros(), percent = times.percent(), "lanes tried"
        );
        if times.win() {
            return Ok((lanes, times));
        }
        let rate = times.percent();
        let text =
            format!("{} requests beside each other are answered at {rate} % of the rate of one by one", times.count);
        Err(off("NotFaster", &text))
    }

    /// Whether every lane answers as the first session does.
    fn compare(
        &self,
        wide: &mut dyn Backend,
        lanes: &mut [Box<dyn Backend>],
        works: &InferRequest,
    ) -> Result<(), String> {
        let golden = self.source.golden.iter().map(|case| &case.request);
        for request in golden.take(COMPARED_MAX).chain([works]) {
            let failed = |error: inference::InferError| format!("a run failed: {error}");
            let wanted = wide.run(request).map_err(failed)?.outputs;
            for lane in lanes.iter_mut() {
                let found = lane.run(request).map_err(failed)?.outputs;
                if wanted.len() != found.len() {
                    return Err("another number of outputs".to_owned());
                }
                wanted.iter().zip(&found).try_for_each(|(wanted, found)| trial::compare(wanted, found))?;
            }
        }
        Ok(())
    }

    /// Times of runs on either kind, until lanes win or have lost often enough.
    fn race(
        &self,
        wide: &mut dyn Backend,
        (lanes, threads): (&mut [Box<dyn Backend>], usize),
        cost: Cost,
        works: &InferRequest,
    ) -> Lanes {
        let mut times = Lanes { count: lanes.len(), lane: Duration::MAX, wide: cost.run };
        for trial in 0..TRIALS_MAX {
            if trial > 0 {
                times.wide = times.wide.min(measure(wide, Some(works), cost.typical).run);
            }
            times.lane = times.lane.min(together(lanes, threads, works));
            if times.win() {
                break;
            }
        }
        times
    }
}

/// Time of a run of `threads` on the slowest of `lanes` while all of them run.
fn together(lanes: &mut [Box<dyn Backend>], threads: usize, works: &InferRequest) -> Duration {
    let slowest = thread::scope(|scope| {
        let run = move |lane: &mut dyn Backend| {
            if threads > 1 { measure(lane, Some(works), true).run } else { working_time(lane, works) }
        };
        let started: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || run(lane.as_mut()))).collect();
        started.into_iter().map(|one| one.join().unwrap_or(Duration::MAX)).max()
    });
    slowest.unwrap_or(Duration::MAX)
}

/// Time that a run takes of the CPU of its one thread, which others on the machine do not lengthen as they do the time by the
/// clock: a model is often loaded while much else begins.
fn working_time(lane: &mut dyn Backend, works: &InferRequest) -> Duration {
    let begun = Instant::now();
    let mut fastest = Duration::MAX;
    for _ in 0..MEASURED_RUNS {
        let before = thread_time();
        if lane.run(works).is_err() {
            return Duration::MAX;
        }
        fastest = fastest.min(thread_time().saturating_sub(before));
        if begun.elapsed() > MEASURED_TIME {
            break;
        }
    }
    fastest
}

/// What this thread has had of a CPU.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    Duration::new(seconds, nanos)
}

fn parallel(status: ConditionStatus, reason: &str, message: &str) -> Condition {
    condition(ConditionKind::Parallel, status, reason, message)
}
