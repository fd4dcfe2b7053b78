//! Tensors, requests and responses, and the codecs of the Open Inference Protocol v2: JSON, binary tensors, raw contents.

pub mod datatype;
pub mod error;
pub mod tensor;

pub use datatype::Datatype;
pub use error::InferError;
pub use tensor::{
    InferRequest, InferResponse, ModelMetadata, Parameter, Parameters, RequestedOutput, Tensor, TensorData, TensorSpec,
};
