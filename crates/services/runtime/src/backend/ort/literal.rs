//! Strings with zero bytes as a value of ONNX Runtime.
//!
//! Its strings know their length and may hold any byte, but `ort` fills them by the call that takes C strings, which end at a
//! zero. A string written in a graph comes with its length: a graph of one constant, made for the request and gone with it,
//! gives the value. It costs about a millisecond, which only requests with such strings pay.

use bytes::Bytes;
use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
};
use prost::Message;

/// ONNX's number of the element type `string`.
const STRING: i32 = 8;
/// Version of the format, and of the operators; the constant has been the same since the first.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;
const NAME: &str = "strings";
const OUTPUT: &str = "value";

// What is needed of `onnx.proto`, with its field numbers.

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Strings>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct Strings {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    string_data: Vec<Bytes>,
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
}

/// A value with these strings.
pub(super) fn value(
    environment: &Environment,
    shape: &[usize],
    strings: &[Bytes],
) -> Result<SessionInputValue<'static>, ort::Error> {
    let mut builder = Session::builder(environment)?
        .with_log_level(LogLevel::Fatal)?
        .with_optimization_level(GraphOptimizationLevel::Disable)?
        .with_inter_threads(1)?
        .with_intra_threads(1)?;
    let mut session = builder.commit_from_memory(&model(shape, strings).encode_to_vec())?;
    let none: Vec<(&str, SessionInputValue<'_>)> = Vec::new();
    let mut outputs = session.run(none)?;
    let value = outputs.remove(OUTPUT).ok_or_else(|| ort::Error::new("the strings did not come back"))?;
    Ok(value.into())
}

fn model(shape: &[usize], strings: &[Bytes]) -> Model {
    let constant = Strings {
        dims: shape.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
        data_type: STRING,
        string_data: strings.to_vec(),
        name: NAME.to_owned(),
    };
    let node = Node { input: vec![NAME.to_owned()], output: vec![OUTPUT.to_owned()], op_type: "Identity".to_owned() };
    let output = ValueInfo {
        name: OUTPUT.to_owned(),
        r#type: Some(Type { tensor_type: Some(TensorType { elem_type: STRING }) }),
    };
    let graph = Graph { node: vec![node], name: NAME.to_owned(), initializer: vec![constant], output: vec![output] };
    let opset_import = vec![Opset { domain: String::new(), version: OPSET }];
    Model { ir_version: IR_VERSION, graph: Some(graph), opset_import }
}
