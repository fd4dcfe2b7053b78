//! Tensors, requests and responses as every codec and backend sees them.

use bytes::Bytes;

use crate::Datatype;

/// A value of a `parameters` object.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// JSON `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond `i64` (gRPC `uint64_param`).
    Uint(u64),
    /// Any other number.
    Double(f64),
    /// A string.
    String(String),
}

/// A `parameters` object, in the order of the request. A list: these objects are tiny.
pub type Parameters = Vec<(String, Parameter)>;

/// The elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Fixed-size elements, little-endian, without padding. May be unaligned: a slice of a request body.
    Fixed(Bytes),
    /// Elements of a `BYTES` tensor.
    Strings(Vec<Bytes>),
}

/// A named tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name of the input or output.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Size of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// `parameters` of this tensor.
    pub parameters: Parameters,
    /// The elements; their number is the product of `shape`, checked by the codecs.
    pub data: TensorData,
}

/// Whether and how an output is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedOutput {
    /// Name of the output.
    pub name: String,
    /// `parameters` of the output: `binary_data`, `classification`.
    pub parameters: Parameters,
}

/// An inference request, whatever protocol brought it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct InferRequest {
    /// Id that the answer repeats.
    pub id: Option<String>,
    /// `parameters` of the request.
    pub parameters: Parameters,
    /// Inputs.
    pub inputs: Vec<Tensor>,
    /// Wanted outputs; empty means all.
    pub outputs: Vec<RequestedOutput>,
}

/// An inference response.
#[derive(Clone, Debug, PartialEq)]
pub struct InferResponse {
    /// The model that answered.
    pub model_name: String,
    /// Its version.
    pub model_version: String,
    /// The request's id.
    pub id: Option<String>,
    /// `parameters` of the response.
    pub parameters: Parameters,
    /// Outputs, in the order asked for.
    pub outputs: Vec<Tensor>,
}

/// Name, datatype and shape of an input or output; -1 stands for a variable dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Dimensions.
    pub shape: Vec<i64>,
}

/// What a model says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelMetadata {
    /// Name.
    pub name: String,
    /// Versions that are loaded.
    pub versions: Vec<String>,
    /// `onnx_onnxv1`.
    pub platform: String,
    /// Inputs.
    pub inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
}
