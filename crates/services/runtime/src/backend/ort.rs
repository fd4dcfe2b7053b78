//! ONNX Runtime through the `ort` crate, which is used nowhere else but to load the library.

use std::{borrow::Cow, fmt, path::Path, time::Instant};

use inference::{InferError, InferRequest, RequestedOutput, Tensor, TensorSpec};
use ort::{
    ErrorCode,
    environment::Environment,
    logging::LogLevel,
    session::{
        OutputSelector, RunOptions, Session, SessionInputValue, SessionOutputs, builder::GraphOptimizationLevel,
    },
    value::{Outlet, ValueType},
};

use super::{Backend, Ran};

mod literal;
mod tensor;
#[cfg(test)]
pub(crate) mod tests;

/// How far a graph is rewritten before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimisation {
    /// Everything, data layouts included.
    All,
    /// Fusions of nodes.
    Extended,
    /// Constant folding and removal of what has no effect.
    Basic,
    /// The graph as it is.
    Disabled,
}

impl Optimisation {
    /// Below [`Self::All`], from the fastest to the safest.
    pub const LOWER: [Self; 3] = [Self::Extended, Self::Basic, Self::Disabled];

    /// The name in status and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Extended => "extended",
            Self::Basic => "basic",
            Self::Disabled => "disabled",
        }
    }

    const fn level(self) -> GraphOptimizationLevel {
        match self {
            Self::All => GraphOptimizationLevel::All,
            Self::Extended => GraphOptimizationLevel::Level2,
            Self::Basic => GraphOptimizationLevel::Level1,
            Self::Disabled => GraphOptimizationLevel::Disable,
        }
    }
}

impl fmt::Display for Optimisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long a thread waits for its next operator before it sleeps; a machine that is busy with something else loses no more.
const SPIN_MICROS: &str = "50";

/// One session of ONNX Runtime.
#[derive(Debug)]
pub struct OrtBackend {
    environment: Environment,
    session: Session,
}

impl OrtBackend {
    /// Opens the model at `path` with `threads` threads per run.
    ///
    /// # Errors
    ///
    /// ONNX Runtime's own words.
    pub fn open(
        environment: &Environment,
        path: &Path,
        optimisation: Optimisation,
        threads: usize,
    ) -> Result<Self, String> {
        open(environment, path, optimisation, threads)
            .map(|session| Self { environment: environment.clone(), session })
            .map_err(|error| error.to_string())
    }

    /// Inputs and outputs of the model.
    ///
    /// # Errors
    ///
    /// An input or output that the protocol cannot carry, with what to do about it.
    pub fn signature(&self) -> Result<(Vec<TensorSpec>, Vec<TensorSpec>), String> {
        let inputs = self.session.inputs().iter().map(|outlet| spec("input", outlet)).collect::<Result<Vec<_>, _>>()?;
        let outputs =
            self.session.outputs().iter().map(|outlet| spec("output", outlet)).collect::<Result<Vec<_>, _>>()?;
        if inputs.is_empty() {
            return Err("the model has no inputs, so every request would have the same answer".to_owned());
        }
        if outputs.is_empty() {
            return Err("the model has no outputs".to_owned());
        }
        Ok((inputs, outputs))
    }
}

impl Backend for OrtBackend {
    fn run(&mut self, request: &InferRequest) -> Result<Ran, InferError> {
        let begun = Instant::now();
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(request.inputs.len());
        for tensor in &request.inputs {
            inputs.push((Cow::Borrowed(tensor.name.as_str()), tensor::to_value(&self.environment, tensor)?));
        }
        let converted = Instant::now();
        let (outputs, ran) = if same_outputs(self.session.outputs(), &request.outputs) {
            let values = self.session.run(inputs);
            let ran = Instant::now();
            (to_tensors(values)?, ran)
        } else {
            let options = select(&request.outputs).map_err(|error| refused(&error))?;
            let values = self.session.run_with_options(inputs, &options);
            let ran = Instant::now();
            (to_tensors(values)?, ran)
        };
        Ok(Ran { outputs, input: converted - begun, infer: ran - converted, output: ran.elapsed() })
    }
}

fn open(
    environment: &Environment,
    path: &Path,
    optimisation: Optimisation,
    threads: usize,
) -> Result<Session, ort::Error> {
    let builder = Session::builder(environment)?
        // What an operator says of a client's inputs is in the answer, and no error of ours.
        .with_log_level(LogLevel::Fatal)?
        .with_optimization_level(optimisation.level())?
        .with_inter_threads(1)?
        .with_intra_threads(threads)?
        // Between two operators of a run its threads wait for some microseconds, in which to sleep and be woken costs more than
        // the wait. Between runs they sleep: there they would take the CPU from the other replicas of this machine.
        .with_intra_op_spinning(threads > 1)?
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_config_entry("session.intra_op.spin_duration_us", SPIN_MICROS)?;
    let mut builder = builder;
    builder.commit_from_file(path)
}

/// Whether `wanted` is what a run gives when nothing is selected.
fn same_outputs(all: &[Outlet], wanted: &[RequestedOutput]) -> bool {
    wanted.is_empty()
        || wanted.len() == all.len() && all.iter().zip(wanted).all(|(outlet, wanted)| outlet.name() == wanted.name)
}

/// Options of a run that computes `wanted` alone, in that order.
fn select(wanted: &[RequestedOutput]) -> Result<RunOptions<ort::session::HasSelectedOutputs>, ort::Error> {
    let names = wanted.iter().map(|wanted| wanted.name.as_str());
    let selector = names.fold(OutputSelector::no_default(), |selector, name| selector.with(name));
    Ok(RunOptions::new()?.with_outputs(selector))
}

fn to_tensors(values: Result<SessionOutputs<'_>, ort::Error>) -> Result<Vec<Tensor>, InferError> {
    let values = values.map_err(|error| refused(&error))?;
    values.into_iter().map(|(name, value)| tensor::from_value(name, value)).collect()
}

/// How ONNX Runtime begins what an operator says.
const OPERATOR_FAILED: &str = "Non-zero status code returned while running";

/// An error of a run. The model ran once when it was loaded, so an operator that fails now does so on these inputs: sizes
/// that do not agree, an index out of range. What is left is memory and faults of the engine.
fn refused(error: &ort::Error) -> InferError {
    let text = error.to_string();
    let text = text.trim_end();
    let memory = text.contains("allocate memory") || text.contains("bad_alloc");
    if error.code() == ErrorCode::InvalidArgument || text.starts_with(OPERATOR_FAILED) && !memory {
        return InferError::InvalidInput(format!("the model cannot run on these inputs: {text}"));
    }
    InferError::Internal(format!("the model failed: {text}"))
}

fn spec(what: &str, outlet: &Outlet) -> Result<TensorSpec, String> {
    let name = outlet.name();
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => match tensor::datatype(*ty) {
            Some(datatype) => Ok(TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() }),
            None => Err(format!(
                "{what} `{name}` has elements of type {ty}, which the protocol has no name for: cast it in the graph"
            )),
        },
        ValueType::Sequence(_) | ValueType::Map { .. } => Err(format!(
            "{what} `{name}` is a sequence or a map, not a tensor: a scikit-learn classifier is to be exported with \
             `options={{'zipmap': False}}` (skl2onnx) or `zipmap=False` (onnxmltools)"
        )),
        ValueType::Optional(_) => {
            Err(format!("{what} `{name}` is optional, which the protocol cannot say: export the model with it fixed"))
        }
    }
}
