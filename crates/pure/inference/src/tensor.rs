//! Tensors, requests and responses as every codec and backend sees them.

use bytemuck::NoUninit;
use bytes::Bytes;

use crate::Datatype;

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian in memory and on the wire; a big-endian machine would have to swap");

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

/// Keeps a typed buffer alive behind [`Bytes`].
struct Typed<T>(Vec<T>);

impl<T: NoUninit> AsRef<[u8]> for Typed<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl TensorData {
    /// Takes over fixed-size elements without a copy; the bytes keep the alignment of `T`.
    pub fn from_vec<T: NoUninit + Send + 'static>(elements: Vec<T>) -> Self {
        Self::Fixed(Bytes::from_owner(Typed(elements)))
    }

    /// Number of elements, given their type. Bytes left over do not count.
    pub fn elements(&self, datatype: Datatype) -> usize {
        match self {
            Self::Fixed(bytes) => bytes.len() / datatype.size().unwrap_or(1),
            Self::Strings(strings) => strings.len(),
        }
    }
}

/// Number of elements of `shape`; `None` when it does not fit in memory. A scalar has one.
pub fn elements(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes it zero, even beside dimensions whose product would overflow.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension))
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
