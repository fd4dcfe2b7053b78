//! The models of this process: found by name and version, ready or not, and the one way to run them.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use inference::{InferError, InferRequest, InferResponse, ModelMetadata, Tensor, contract};
use resources::condition::Condition;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::ort::Optimisation,
    embedder::Embedder,
    load::findings::Findings,
    metrics::{Counters, Runs},
    openapi::Example,
    size,
};

/// `platform` of an ONNX model, `<project>_<format>` as the protocol spells it, and of one that is not loaded yet.
pub const PLATFORM: &str = "onnx_onnxv1";

/// Every model of this process. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    models: Arc<[Arc<Model>]>,
    draining: CancellationToken,
}

/// One model: its name and version are known from the start, the rest once it is loaded.
pub struct Model {
    /// What is said before the model is loaded: name and version, no inputs, no outputs.
    announced: ModelMetadata,
    version: String,
    counters: Counters,
    loaded: OnceLock<Loaded>,
    failure: OnceLock<String>,
    /// Notified when either is set.
    settled: Notify,
}

/// A model that answers.
pub struct Loaded {
    /// Inputs and outputs, with name and version.
    pub metadata: ModelMetadata,
    /// Labels of the elements of an output, by the output's name.
    pub classes: BTreeMap<String, Vec<String>>,
    /// Makes embeddings of texts, when the model came with a tokeniser.
    pub embedder: Option<Arc<Embedder>>,
    /// Runs requests.
    pub executor: Box<dyn Executor>,
    /// What loading found out.
    pub report: Report,
}

/// What loading a model found out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How far the graph was rewritten.
    pub optimisation: Option<Optimisation>,
    /// Statements about the model.
    pub conditions: Vec<Condition>,
    /// A request that the model is known to answer.
    pub example: Option<Example>,
    /// What the trials came to, where that holds for other replicas too.
    pub findings: Option<Findings>,
}

/// Runs requests against one loaded model.
pub trait Executor: Send + Sync {
    /// Runs `request`; `deadline` bounds its wait for a turn. Dropping the future before the run begins cancels it.
    fn execute(&self, request: InferRequest, deadline: Option<Instant>) -> Execution<'_>;

    /// What it counts of its runs, if it does.
    fn runs(&self) -> Option<&Runs> {
        None
    }

    /// How long the oldest run under way has taken, if there is one.
    fn busy(&self) -> Option<Duration> {
        None
    }
}

/// Outputs in the order asked for, and how long they took.
pub type Executed = (Vec<Tensor>, Timings);

/// The future of an execution.
pub type Execution<'a> = Pin<Box<dyn Future<Output = Result<Executed, InferError>> + Send + 'a>>;

/// How long the parts of an inference took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for a turn.
    pub queue: Duration,
    /// Running the model, conversions included.
    pub compute: Duration,
    /// The part of `compute` that turned the request into the engine's values.
    pub input: Duration,
    /// The part of `compute` that turned the engine's values into outputs.
    pub output: Duration,
}

/// An answered inference.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the model said.
    pub response: InferResponse,
    /// How long it took.
    pub timings: Timings,
}

impl Registry {
    /// A registry of `models`; it drains from the moment `draining` is cancelled.
    pub fn new(models: Vec<Arc<Model>>, draining: CancellationToken) -> Self {
        Self { models: models.into(), draining }
    }

    /// The model `name`, loaded or not; `version`, when given, must be the one that is here.
    ///
    /// # Errors
    ///
    /// [`InferError::NotFound`] for an unknown name or version.
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<Model>, InferError> {
        let known = self.models.iter().find(|model| model.name() == name);
        let model = known.ok_or_else(|| InferError::NotFound(format!("there is no model `{name}` here")))?;
        match version {
            Some(asked) if asked != model.version && !asked.is_empty() => {
                let here = &model.version;
                Err(InferError::NotFound(format!("model `{name}` has no version `{asked}` here: ask for `{here}`")))
            }
            _ => Ok(Arc::clone(model)),
        }
    }

    /// Whether every model is loaded and the process does not drain.
    pub fn ready(&self) -> bool {
        !self.draining() && self.models.iter().all(|model| model.ready())
    }

    /// Waits until no model is being loaded any more, or the process drains.
    pub async fn settled(&self) {
        let models = async {
            for model in self.models.iter() {
                model.settled().await;
            }
        };
        tokio::select! {
            () = models => {}
            () = self.draining.cancelled() => {}
        }
    }

    /// Every model, loaded or not.
    pub fn models(&self) -> Vec<Arc<Model>> {
        self.models.to_vec()
    }

    /// Whether the process finishes its last requests and wants no new ones.
    pub fn draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

impl Model {
    /// A model that is not loaded yet.
    pub fn announced(name: String, version: String) -> Self {
        let announced = ModelMetadata {
            name,
            versions: vec![version.clone()],
            platform: PLATFORM.to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        Self {
            announced,
            version,
            counters: Counters::default(),
            loaded: OnceLock::new(),
            failure: OnceLock::new(),
            settled: Notify::new(),
        }
    }

    /// Makes the model ready. A second call changes nothing: a model is loaded once.
    pub fn load(&self, loaded: Loaded) {
        drop(self.loaded.set(loaded));
        self.settled.notify_waiters();
    }

    /// Says why the model will not become ready.
    pub fn fail(&self, reason: String) {
        drop(self.failure.set(reason));
        self.settled.notify_waiters();
    }

    /// Waits until the model is loaded or has failed.
    pub async fn settled(&self) {
        let notified = self.settled.notified();
        let mut notified = std::pin::pin!(notified);
        // Before the look, so that what happens between the two is not missed.
        notified.as_mut().enable();
        if !self.ready() && self.failure().is_none() {
            notified.await;
        }
    }

    /// Why the model will not become ready.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// What loading found out, once it is over.
    pub fn report(&self) -> Option<&Report> {
        self.loaded.get().map(|loaded| &loaded.report)
    }

    /// What was counted of this model.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was counted of the model's runs.
    pub fn runs(&self) -> Option<&Runs> {
        self.loaded.get()?.executor.runs()
    }

    /// How long the oldest run under way has taken, if there is one.
    pub fn busy(&self) -> Option<Duration> {
        self.loaded.get()?.executor.busy()
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.announced.name
    }

    /// The model's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the model says of itself; without inputs and outputs until it is loaded.
    pub fn metadata(&self) -> &ModelMetadata {
        self.loaded.get().map_or(&self.announced, |loaded| &loaded.metadata)
    }

    /// Labels of the elements of `output`, for the classification extension.
    pub fn classes(&self, output: &str) -> Option<&[String]> {
        self.loaded.get()?.classes.get(output).map(Vec::as_slice)
    }

    /// Makes embeddings of texts, when the model came with a tokeniser.
    pub fn embedder(&self) -> Option<&Arc<Embedder>> {
        self.loaded.get()?.embedder.as_ref()
    }

    /// Whether the model is loaded.
    pub fn ready(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// Runs `request`. Names, datatypes and shapes are checked against the model.
    ///
    /// # Errors
    ///
    /// [`InferError::Unavailable`] when nothing was run and another replica may answer,
    /// [`InferError::DeadlineExceeded`] when `deadline` passed before the run began,
    /// [`InferError::InvalidInput`] when the request does not fit the model.
    pub async fn infer(&self, request: InferRequest, deadline: Option<Instant>) -> Result<Answer, InferError> {
        let begun = Instant::now();
        let counting = self.counters.begin();
        let batch = size::batch(self.metadata(), &request);
        let answered = self.answer(request, deadline).await;
        match &answered {
            Ok(answer) => counting.succeeded(batch, begun.elapsed(), &answer.timings),
            Err(error) => counting.failed(error),
        }
        answered
    }

    async fn answer(&self, mut request: InferRequest, deadline: Option<Instant>) -> Result<Answer, InferError> {
        let Some(loaded) = self.loaded.get() else {
            return Err(InferError::Unavailable(format!("model `{}` is still loading", self.name())));
        };
        contract::check(&request, &loaded.metadata)?;
        let id = request.id.take();
        let (outputs, timings) = loaded.executor.execute(request, deadline).await?;
        let response = InferResponse {
            model_name: self.name().to_owned(),
            model_version: self.version.clone(),
            id,
            parameters: Vec::new(),
            outputs,
        };
        Ok(Answer { response, timings })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.models.iter()).finish()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("metadata", self.metadata()).field("ready", &self.ready()).finish()
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}
