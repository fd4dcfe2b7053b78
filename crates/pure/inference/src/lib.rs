//! Tensors, requests and responses, the codecs of the Open Inference Protocol v2 (JSON, binary tensors, raw contents), and
//! the evaluator of tree ensembles; how far two answers agree.

pub mod agreement;
pub mod binary;
pub mod classification;
pub mod contract;
pub mod datatype;
pub mod embeddings;
pub mod error;
pub mod json;
pub mod limits;
pub mod tensor;
pub mod trees;

#[cfg(test)]
mod arbitrary;

pub use binary::{Encoded, OutputEncoding};
pub use datatype::Datatype;
pub use error::InferError;
pub use tensor::{
    InferRequest, InferResponse, ModelMetadata, Parameter, Parameters, RequestedOutput, Tensor, TensorData, TensorSpec,
};
