//! Sentence embeddings in the form of OpenAI's API: what is asked, how a bundle wants its vectors made, what is answered.

pub mod answer;
pub mod pooling;
pub mod request;
pub mod settings;

/// Path of the one operation.
pub const PATH: &str = "/v1/embeddings";

/// Bytes of a request. 2048 inputs of a page each are about as much; the whole of it is searched for the model's name.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Inputs of one request, as OpenAI has it.
pub const INPUTS_MAX: usize = 2048;
