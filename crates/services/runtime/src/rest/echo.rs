//! Models for the tests of the protocols: one gives its inputs back, one fails as it is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use inference::{Datatype, InferError, InferRequest, ModelMetadata, Tensor, TensorSpec};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::registry::{Execution, Executor, Loaded, Model, Registry, Timings};

/// Gives every input back, as far as it is asked for.
struct Echo;

impl Executor for Echo {
    fn execute(&self, request: InferRequest, deadline: Option<Instant>) -> Execution<'_> {
        Box::pin(async move {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(InferError::DeadlineExceeded("too late".to_owned()));
            }
            let wanted = |tensor: &Tensor| {
                request.outputs.is_empty() || request.outputs.iter().any(|output| output.name == tensor.name)
            };
            let outputs = request.inputs.iter().filter(|tensor| wanted(tensor)).cloned().collect();
            let timings = Timings {
                queue: Duration::from_micros(10),
                compute: Duration::from_micros(1500),
                ..Timings::default()
            };
            Ok((outputs, timings))
        })
    }
}

struct Fail(InferError);

impl Executor for Fail {
    fn execute(&self, _: InferRequest, _: Option<Instant>) -> Execution<'_> {
        Box::pin(async move { Err(self.0.clone()) })
    }
}

fn metadata(name: &str, inputs: &[(&str, Datatype, &[i64])]) -> ModelMetadata {
    let specs = inputs.iter().map(|(name, datatype, shape)| TensorSpec {
        name: (*name).to_owned(),
        datatype: *datatype,
        shape: shape.to_vec(),
    });
    let specs: Vec<TensorSpec> = specs.collect();
    ModelMetadata {
        name: name.to_owned(),
        versions: vec!["3".to_owned()],
        platform: "onnx_onnxv1".to_owned(),
        inputs: specs.clone(),
        outputs: specs,
    }
}

fn registry_of(name: &str, metadata: ModelMetadata, executor: Box<dyn Executor>) -> Registry {
    let model = Model::announced(name.to_owned(), "3".to_owned());
    // Only the first element of `x` has a label.
    let classes = BTreeMap::from([("x".to_owned(), vec!["low".to_owned()])]);
    let report = crate::registry::Report::default();
    model.load(Loaded { metadata, classes, embedder: None, executor, report });
    Registry::new(vec![Arc::new(model)], CancellationToken::new())
}

/// Version 3 of the model `echo`.
pub(crate) fn echo(inputs: &[(&str, Datatype, &[i64])]) -> Registry {
    registry_of("echo", metadata("echo", inputs), Box::new(Echo))
}

/// The model `fail`, which has one input and answers everything with `error`.
pub(crate) fn fail(error: InferError) -> Registry {
    registry_of("fail", metadata("fail", &[("x", Datatype::Fp32, &[-1])]), Box::new(Fail(error)))
}

/// A registry whose model `slow` is not loaded.
pub(crate) fn loading() -> Registry {
    Registry::new(vec![Arc::new(Model::announced("slow".to_owned(), "3".to_owned()))], CancellationToken::new())
}

/// The model `echo` with one input, in a registry that drains once the token is cancelled.
pub(crate) fn draining() -> (Registry, CancellationToken) {
    let model = Model::announced("echo".to_owned(), "3".to_owned());
    let metadata = metadata("echo", &[("x", Datatype::Fp32, &[-1])]);
    let report = crate::registry::Report::default();
    model.load(Loaded { metadata, classes: BTreeMap::new(), embedder: None, executor: Box::new(Echo), report });
    let token = CancellationToken::new();
    (Registry::new(vec![Arc::new(model)], token.clone()), token)
}

/// Every kind of error, with its HTTP status and its gRPC code.
pub(crate) fn errors() -> [(InferError, u16, i32); 8] {
    let text = || "why".to_owned();
    [
        (InferError::InvalidInput(text()), 400, 3),
        (InferError::NotFound(text()), 404, 5),
        (InferError::TooLarge(text()), 413, 8),
        (InferError::Unsupported(text()), 501, 12),
        (InferError::Unavailable(text()), 503, 14),
        (InferError::Stalled(text()), 408, 4),
        (InferError::DeadlineExceeded(text()), 504, 4),
        (InferError::Internal(text()), 500, 13),
    ]
}
