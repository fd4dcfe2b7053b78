//! What runs a model: one backend is one session that runs one request at a time.

use std::time::Duration;

use inference::{InferError, InferRequest, Tensor};

pub mod ort;
pub mod trees;

/// One session of a model.
pub trait Backend: Send + 'static {
    /// Runs `request`, which fits the model's inputs and outputs. Blocks.
    ///
    /// # Errors
    ///
    /// [`InferError::InvalidInput`] when the model refuses the values, [`InferError::Internal`] when it fails.
    fn run(&mut self, request: &InferRequest) -> Result<Ran, InferError>;
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Outputs, in the order asked for.
    pub outputs: Vec<Tensor>,
    /// Turning the request into the engine's values.
    pub input: Duration,
    /// Running the engine.
    pub infer: Duration,
    /// Turning the engine's values into outputs.
    pub output: Duration,
}
