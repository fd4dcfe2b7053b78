//! Makes a ready model of files: checks them, tries the model, measures it, verifies its golden cases.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use inference::{InferRequest, ModelMetadata, contract, trees};
use ort::environment::Environment;
use resources::condition::{Condition, ConditionKind, ConditionStatus};

use crate::{
    backend::{
        Backend,
        ort::{Optimisation, OrtBackend},
    },
    batching::{
        Batching,
        join::Signature,
        policy::Policy,
        trial::{self, Doubt},
    },
    embedder::Embedder,
    executor::{Pool, Sessions, queue::Limits},
    library,
    openapi::Example,
    placement::{self, Cost, Plan},
    registry::{Loaded, PLATFORM, Report},
    size,
};
use engine::Engine;
use findings::{Circumstances, Findings, LaneTimes, Verdict};
use ladder::{Reached, Step};
use lanes::{Opened, Subject};
use source::Source;

pub mod encoder;
mod engine;
pub mod findings;
pub mod golden;
mod ladder;
mod lanes;
pub mod source;
#[cfg(test)]
mod tests;
pub mod warmup;

/// Runs that measure the cost of a model, at most; the fastest counts, which is the one nothing disturbed.
const MEASURED_RUNS: usize = 16;

/// Time to measure for, at most: a big model is known to be big after one run.
const MEASURED_TIME: Duration = Duration::from_millis(100);

/// Requests that rows are taken from to try whether they may run together.
const SAMPLES_MAX: usize = 16;

/// Why a model did not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path is no model.
    #[error("`{path}` is not a model: {reason}", path = .path.display())]
    Source {
        /// The path.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read `{path}`", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The bundle is not what its digests say.
    #[error("the bundle cannot be used, push the model again")]
    Bundle(#[from] store::StoreError),
    /// ONNX Runtime refused the model.
    #[error("ONNX Runtime refused the model: {0}")]
    Refused(String),
    /// The trees cannot be evaluated.
    #[error("the model cannot be evaluated: {0}")]
    Trees(#[from] trees::TreeError),
    /// The model's tokeniser or settings do not make embeddings of it.
    #[error("the bundle has a tokeniser, but the model makes no embeddings with it: {0}")]
    Embeddings(String),
    /// The model has an input or output that cannot be served.
    #[error("{0}")]
    Signature(String),
    /// The golden cases cannot be read.
    #[error("`{path}` cannot be used: {reason}", path = .path.display())]
    GoldenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model failed on an input that came with it.
    #[error("golden case `{case}` failed: {reason}")]
    Golden {
        /// The case.
        case: String,
        /// The difference.
        reason: String,
    },
    /// The kernel gave no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// What a model is loaded with.
#[derive(Clone, Debug)]
pub struct Loader {
    /// ONNX Runtime.
    pub environment: Environment,
    /// CPUs to use.
    pub cpus: usize,
    /// Which requests run together, where the model bears it.
    pub batching: Policy,
    /// What the process may use.
    pub memory_bytes_max: Option<u64>,
    /// The kind of CPU, where what the trials come to may be handed on.
    pub cpu: Option<String>,
    /// What the trials of an earlier replica came to.
    pub known: Option<Findings>,
}

/// A model that was opened, and ran if anything is known that it runs on.
struct Tried<'a> {
    engine: Engine<'a>,
    /// The first session.
    session: Box<dyn Backend>,
    metadata: ModelMetadata,
    /// A request it answers; `None` when none could be made up.
    works: Option<InferRequest>,
    /// What did not work at first.
    trouble: Option<String>,
}

impl Loader {
    /// Loads the model at `path` to be served as `announced`. Blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// [`LoadError`] says why the model cannot be served.
    pub fn load(&self, announced: &ModelMetadata, path: &Path) -> Result<Loaded, LoadError> {
        let source = Source::open(path)?;
        let Tried { engine, mut session, metadata, works, trouble } = match source.format {
            store::Format::Onnx => self.open(announced, &source)?,
            store::Format::Trees(format) => open_trees(announced, &source, format)?,
        };
        let optimisation = engine.optimisation();
        let typical = !source.golden.is_empty() || metadata.inputs.iter().all(size::is_known_but_batch);
        let circumstances = self.circumstances(&source).filter(|_| works.is_some());
        let known = self.known.as_ref().filter(|known| known.hold(circumstances.as_ref(), optimisation));
        let cost = match known {
            Some(known) => known.cost(typical),
            None => measure(session.as_mut(), works.as_ref(), typical),
        };
        let plan = engine.plan(cost, source.bytes, self.cpus);
        tracing::info!(
            model = %metadata.name, platform = metadata.platform, ?optimisation, run_us = cost.run.as_micros(), sessions = plan.sessions,
            threads = plan.threads, trials = known.is_none(), "model measured"
        );
        let mut sessions = self.sessions(&engine, session, plan, &source)?;
        let Opened { mut lanes, times, condition: parallel } = match sessions.first_mut() {
            Some(first) => Subject {
                engine: &engine,
                source: &source,
                metadata: &metadata,
                plan,
                works: works.as_ref(),
                cpus: self.cpus,
                memory_bytes_max: self.memory_bytes_max,
            }
            .open(first.as_mut(), cost, known),
            None => return Err(LoadError::Refused("no session".to_owned())),
        };
        let golden = verify(sessions.iter_mut().chain(&mut lanes), &metadata, &source)?;
        let (embedder, texts) = embedder(sessions.first_mut(), &metadata, &source)?;
        // Texts first: made-up inputs are all alike and say little of rows that differ.
        let requests = texts.into_iter().chain(works.clone()).collect();
        let (batching, batched) = match known.and_then(|known| self.known_batching(known, &metadata)) {
            Some(decided) => decided,
            None => self.batching(sessions.first_mut(), &metadata, &source, requests),
        };
        let findings = circumstances.map(|circumstances| Findings {
            circumstances,
            optimisation,
            run_nanos: findings::nanos(cost.run),
            run_bytes: cost.bytes,
            batched: Verdict::of(&batched),
            parallel: Verdict::of(&parallel),
            lanes: times.as_ref().map(LaneTimes::of),
        });
        let conditions = vec![optimised(optimisation, works.is_some(), trouble.as_deref()), golden, batched, parallel];
        let sessions = Sessions { wide: sessions, lanes, times };
        let pool = Pool::new(sessions, cost.unproven(), Limits::default(), batching).map_err(LoadError::Thread)?;
        let version = metadata.versions.first().map_or("", String::as_str);
        let example = source.golden.first().and_then(|case| Example::of(case, &metadata, version));
        Ok(Loaded {
            metadata,
            classes: source.classes,
            embedder,
            executor: Box::new(pool),
            report: Report { optimisation, conditions, example, findings },
        })
    }

    /// What decides how the trials of `source` end; `None` when they say nothing of another replica.
    fn circumstances(&self, source: &Source) -> Option<Circumstances> {
        Some(Circumstances {
            bundle: source.bundle.clone()?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            library: library::VERSION.to_owned(),
            cpu: self.cpu.clone()?,
            cpus: self.cpus,
            memory_bytes_max: self.memory_bytes_max,
            rows_max: self.batching.rows_max,
        })
    }

    /// How requests are joined, as `known` says.
    fn known_batching(&self, known: &Findings, metadata: &ModelMetadata) -> Option<(Batching, Condition)> {
        let condition = known.batched.condition(ConditionKind::Batched);
        if condition.status != ConditionStatus::True {
            return Some((Batching::off(metadata.clone()), condition));
        }
        let signature = Signature::of(metadata).filter(|_| self.batching.joins())?;
        Some((Batching::on(self.batching, signature, metadata.clone()), condition))
    }

    /// Opens the model at the highest level of optimisation at which it runs.
    fn open<'a>(&'a self, announced: &ModelMetadata, source: &'a Source) -> Result<Tried<'a>, LoadError> {
        let threads = placement::guess(source.bytes, self.cpus).threads;
        let reached = ladder::climb_down(|optimisation| {
            let opened = OrtBackend::open(&self.environment, &source.model, optimisation, threads);
            let mut backend = opened.map_err(|error| Step::Down(LoadError::Refused(error)))?;
            let (inputs, outputs) = backend.signature().map_err(|error| Step::Stop(LoadError::Signature(error)))?;
            let metadata = ModelMetadata { inputs, outputs, platform: PLATFORM.to_owned(), ..announced.clone() };
            let warm = warm_up(&mut backend, &metadata, source);
            let engine = Engine::Ort { environment: &self.environment, path: &source.model, optimisation };
            let tried =
                |works| Tried { engine, session: Box::new(backend), metadata: metadata.clone(), works, trouble: None };
            match (warm, source.golden.first()) {
                (Ok(works), _) => Ok(tried(Some(works))),
                (Err(reason), Some(case)) => Err(Step::Down(LoadError::Golden { case: case.name.clone(), reason })),
                // Made-up inputs may not suit the model: it can be served all the same.
                (Err(reason), None) => Err(Step::Doubt(Box::new(tried(None)), reason)),
            }
        })?;
        let Reached { model, optimisation, trouble } = reached;
        if let Some(trouble) = &trouble {
            tracing::warn!(%optimisation, trouble, "the model did not run with every optimisation");
        }
        Ok(Tried { trouble, ..model })
    }

    /// How requests are joined, and why not.
    fn batching(
        &self,
        session: Option<&mut Box<dyn Backend>>,
        metadata: &ModelMetadata,
        source: &Source,
        known: Vec<InferRequest>,
    ) -> (Batching, Condition) {
        let batched = |status, reason, message: &str| condition(ConditionKind::Batched, status, reason, message);
        let off = |reason, message: &str| {
            tracing::info!(model = %metadata.name, reason, message, "every request runs by itself");
            (Batching::off(metadata.clone()), batched(ConditionStatus::False, reason, message))
        };
        if !self.batching.joins() {
            return off("SwitchedOff", "every request runs by itself, as was asked for");
        }
        let (Some(signature), Some(session)) = (Signature::of(metadata), session) else {
            return off("FixedBatch", "not every input and output of the model has a variable first dimension");
        };
        let golden = source.golden.iter().map(|case| case.request.clone());
        let samples: Vec<InferRequest> = golden.chain(known).take(SAMPLES_MAX).collect();
        match trial::examine(|request| session.run(request).map(|ran| ran.outputs), &signature, &samples) {
            Ok(()) => {
                let message = format!("requests that wait run together, up to {} rows", self.batching.rows_max);
                let batching = Batching::on(self.batching, signature, metadata.clone());
                (batching, batched(ConditionStatus::True, "SameAnswers", &message))
            }
            Err(Doubt::Differs(how)) => {
                off("AnswersDiffer", &format!("the model answers rows otherwise when they run together: {how}"))
            }
            Err(Doubt::NotTried(why)) => off(
                "NotTried",
                &format!("no different rows are known that the model answers, add some to `golden.json`: {why}"),
            ),
        }
    }

    /// The sessions of `plan`. `first`, which was opened as guessed, is the first if the guess was right.
    fn sessions(
        &self,
        engine: &Engine<'_>,
        first: Box<dyn Backend>,
        plan: Plan,
        source: &Source,
    ) -> Result<Vec<Box<dyn Backend>>, LoadError> {
        let mut sessions = Vec::with_capacity(plan.sessions);
        if engine.guess(source.bytes, self.cpus).threads == plan.threads {
            sessions.push(first);
        } else {
            // Dropped before the next is opened, so that memory holds the weights once.
            drop(first);
        }
        while sessions.len() < plan.sessions {
            sessions.push(engine.session(plan.threads)?);
        }
        Ok(sessions)
    }
}

/// What makes embeddings of texts, tried on the model, and the requests that it made of them.
fn embedder(
    session: Option<&mut Box<dyn Backend>>,
    metadata: &ModelMetadata,
    source: &Source,
) -> Result<(Option<Arc<Embedder>>, Vec<InferRequest>), LoadError> {
    let (Some(files), Some(session)) = (&source.encoder, session) else { return Ok((None, Vec::new())) };
    let mut embedder = Embedder::new(files, metadata).map_err(LoadError::Embeddings)?;
    let run = |request: &InferRequest| session.run(request).map(|ran| ran.outputs);
    let texts = embedder.try_on(run).map_err(LoadError::Embeddings)?;
    Ok((Some(Arc::new(embedder)), texts))
}

/// Reads the trees of `source` and tries them.
fn open_trees<'a>(announced: &ModelMetadata, source: &Source, format: trees::Format) -> Result<Tried<'a>, LoadError> {
    let (engine, metadata) = Engine::trees(format, &source.model, announced)?;
    let mut session = engine.session(1)?;
    match (warm_up(session.as_mut(), &metadata, source), source.golden.first()) {
        (Ok(works), _) => Ok(Tried { engine, session, metadata, works: Some(works), trouble: None }),
        (Err(reason), Some(case)) => Err(LoadError::Golden { case: case.name.clone(), reason }),
        (Err(reason), None) => Ok(Tried { engine, session, metadata, works: None, trouble: Some(reason) }),
    }
}

/// Runs requests until one is answered, and gives it back; else the first error.
fn warm_up(backend: &mut dyn Backend, metadata: &ModelMetadata, source: &Source) -> Result<InferRequest, String> {
    let given: Vec<_> = source.golden.iter().take(1).map(|case| case.request.clone()).collect();
    let requests = if given.is_empty() { warmup::requests(&metadata.inputs) } else { given };
    let mut first_error = None;
    for request in requests {
        let ran = contract::check(&request, metadata).and_then(|()| backend.run(&request));
        match ran {
            Ok(_) => return Ok(request),
            Err(error) => drop(first_error.get_or_insert(error.to_string())),
        }
    }
    Err(first_error.unwrap_or_else(|| "its inputs are too big to make up".to_owned()))
}

fn measure(backend: &mut dyn Backend, works: Option<&InferRequest>, typical: bool) -> Cost {
    // Nothing is known of a model that no made-up input suits: it is served like a big one, in which nobody has to wait
    // for a thread that reads requests.
    let unknown = Cost { run: placement::TINY_COST_MAX, bytes: 0, typical: false };
    let Some(request) = works else { return unknown };
    let begun = Instant::now();
    let mut fastest: Option<Duration> = None;
    for _ in 0..MEASURED_RUNS {
        let run = Instant::now();
        if backend.run(request).is_err() {
            break;
        }
        let took = run.elapsed();
        fastest = Some(fastest.map_or(took, |fastest| fastest.min(took)));
        if begun.elapsed() > MEASURED_TIME {
            break;
        }
    }
    fastest.map_or(unknown, |run| Cost { run, bytes: size::bytes(request), typical })
}

/// Runs every golden case, in turn on every session, so that each has run before it serves.
fn verify<'s>(
    sessions: impl Iterator<Item = &'s mut Box<dyn Backend>>,
    metadata: &ModelMetadata,
    source: &Source,
) -> Result<Condition, LoadError> {
    if source.golden.is_empty() {
        let message =
            "the model came without golden cases: add `golden.json` to have its answers checked at each start";
        return Ok(condition(ConditionKind::GoldenVerified, ConditionStatus::Unknown, "NoGoldenCases", message));
    }
    for session in sessions {
        for case in &source.golden {
            let ran = contract::check(&case.request, metadata).and_then(|()| session.run(&case.request));
            let compared = ran.map_err(|error| error.to_string()).and_then(|ran| golden::compare(case, &ran.outputs));
            compared.map_err(|reason| LoadError::Golden { case: case.name.clone(), reason })?;
        }
    }
    let message = format!("{} golden cases gave the expected outputs", source.golden.len());
    Ok(condition(ConditionKind::GoldenVerified, ConditionStatus::True, "CasesMatch", &message))
}

fn optimised(optimisation: Option<Optimisation>, works: bool, trouble: Option<&str>) -> Condition {
    let kind = ConditionKind::Optimised;
    let trouble = trouble.unwrap_or_default();
    if !works {
        let message = format!(
            "no made-up input suited the model, so it was not tried before serving: add `golden.json` with one \
             request that it answers ({trouble})"
        );
        return condition(kind, ConditionStatus::Unknown, "NotTried", &message);
    }
    let Some(optimisation) = optimisation else {
        return condition(kind, ConditionStatus::True, "NothingToOptimise", "the trees are evaluated as they are");
    };
    if optimisation == Optimisation::All {
        return condition(kind, ConditionStatus::True, "AllOptimisations", "the model runs with every optimisation");
    }
    let message = format!("the model runs at `{optimisation}`, since above that it failed: {trouble}");
    condition(kind, ConditionStatus::False, "FailedWhenOptimised", &message)
}

fn condition(kind: ConditionKind, status: ConditionStatus, reason: &str, message: &str) -> Condition {
    let last_transition_time = Some(daemon::time::rfc3339(daemon::time::now_ms()));
    Condition { kind, status, reason: reason.to_owned(), message: message.to_owned(), last_transition_time }
}

fn read_error(path: &Path, source: io::Error) -> LoadError {
    LoadError::Read { path: path.to_owned(), source }
}
