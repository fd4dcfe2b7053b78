//! Reads what the store must know of an ONNX file, without its weights and without trust.
//!
//! Field numbers are those of `onnx.proto` (ONNX IR version 3 and later). The reader walks the file once, seeks over
//! what it does not need, and bounds depth, counts and the length of every text.

mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek},
};

use self::wire::{Field, Wire};
use crate::manifest::TensorInfo;

/// Graphs within graphs: `If` in `Loop` in a function; real models nest three deep.
const DEPTH_MAX: u32 = 32;
/// Inputs and outputs of a model.
const TENSORS_MAX: usize = 4096;
/// Dimensions of a tensor.
const RANK_MAX: usize = 32;
/// Operator-set imports, functions and external files.
const NAMES_MAX: usize = 4096;
/// Initialisers whose names are kept, to tell them from inputs.
const INITIALISERS_MAX: usize = 1_000_000;
/// Bytes of all the names that are kept: a thousand times what large models have.
const NAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the store must know of an ONNX file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxModel {
    /// Inputs that a request must bring.
    pub inputs: Vec<TensorInfo>,
    /// Outputs.
    pub outputs: Vec<TensorInfo>,
    /// Versions of the operator sets by domain; the empty domain reads `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Name and version of the program that made the file.
    pub producer: Option<String>,
    /// Locations of external data, as the file gives them.
    pub external: BTreeSet<String>,
}

/// Why a file is not an ONNX model that can be served.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The bytes are not an ONNX model, and why.
    #[error("not a whole ONNX model ({0})")]
    NotOnnx(String),
    /// It is an ONNX model that cannot be served.
    #[error("{0}")]
    Unsupported(String),
    /// The file could not be read.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
}

fn not_onnx(text: impl Into<String>) -> OnnxError {
    OnnxError::NotOnnx(text.into())
}

/// Domains of operators that ONNX Runtime's CPU build has.
const DOMAINS: [&str; 7] = [
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.training",
    "ai.onnx.preview.training",
    "com.microsoft",
    // In graphs that ONNX Runtime has optimised and saved.
    "com.microsoft.nchwc",
];

/// Reads the model of `length` bytes at the start of `source`.
pub fn read<R: Read + Seek>(source: R, length: u64) -> Result<OnnxModel, OnnxError> {
    let mut wire = Wire::new(source);
    let mut scan = Scan::default();
    scan.model(&mut wire, length)?;
    scan.finish()
}

/// What has been seen so far.
#[derive(Default)]
struct Scan {
    model: OnnxModel,
    initialisers: BTreeSet<String>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    used_domains: BTreeSet<String>,
    own_domains: BTreeSet<String>,
    producer_name: String,
    producer_version: String,
    has_graph: bool,
    ir_version: u64,
    name_bytes: usize,
}

impl Scan {
    /// `ModelProto`.
    fn model<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64) -> Result<(), OnnxError> {
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Varint(1, version) => self.ir_version = version,
                Field::Bytes(2, length) => self.producer_name = wire.text(length, end)?,
                Field::Bytes(3, length) => self.producer_version = wire.text(length, end)?,
                Field::Bytes(7, length) => {
                    self.has_graph = true;
                    self.graph(wire, wire.end(length, end)?, 0)?;
                }
                Field::Bytes(8, length) => self.opset(wire, wire.end(length, end)?)?,
                Field::Bytes(20, length) => self.training(wire, wire.end(length, end)?)?,
                Field::Bytes(25, length) => self.function(wire, wire.end(length, end)?)?,
                other => wire.skip(other, end)?,
            }
        }
        Ok(())
    }

    /// `OperatorSetIdProto`.
    fn opset<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64) -> Result<(), OnnxError> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Bytes(1, length) => domain = wire.text(length, end)?,
                Field::Varint(2, number) => version = number,
                other => wire.skip(other, end)?,
            }
        }
        let domain = if domain.is_empty() { "ai.onnx".to_owned() } else { domain };
        self.model.opsets.insert(domain, i64::try_from(version).unwrap_or_default());
        bounded(self.model.opsets.len(), NAMES_MAX, "operator sets")
    }

    /// `TrainingInfoProto`: its graphs are not run, but their external data would be read.
    fn training<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64) -> Result<(), OnnxError> {
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Bytes(1 | 2, length) => self.graph(wire, wire.end(length, end)?, 1)?,
                other => wire.skip(other, end)?,
            }
        }
        Ok(())
    }

    /// `FunctionProto`: its domain is the model's own.
    fn function<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64) -> Result<(), OnnxError> {
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Bytes(7, length) => self.node(wire, wire.end(length, end)?, 1)?,
                Field::Bytes(11, length) => self.attribute(wire, wire.end(length, end)?, 1)?,
                Field::Bytes(10, length) => {
                    self.own_domains.insert(wire.text(length, end)?);
                }
                other => wire.skip(other, end)?,
            }
        }
        bounded(self.own_domains.len(), NAMES_MAX, "functions")
    }

    /// `GraphProto`. Inputs and outputs count at depth 0 only: those of inner graphs are not the model's.
    fn graph<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64, depth: u32) -> Result<(), OnnxError> {
        if depth > DEPTH_MAX {
            return Err(not_onnx(format!("graphs are nested more than {DEPTH_MAX} deep")));
        }
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Bytes(1, length) => self.node(wire, wire.end(length, end)?, depth)?,
                Field::Bytes(5, length) => self.tensor(wire, wire.end(length, end)?, depth)?,
                Field::Bytes(15, length) => self.sparse_tensor(wire, wire.end(length, end)?, depth)?,
                Field::Bytes(11, length) if depth == 0 => {
                    let input = value_info(wire, wire.end(length, end)?)?;
                    self.keeps(&input.name)?;
                    self.inputs.push(input);
                    bounded(self.inputs.len(), TENSORS_MAX + INITIALISERS_MAX, "inputs")?;
                }
                Field::Bytes(12, length) if depth == 0 => {
                    let output = value_info(wire, wire.end(length, end)?)?;
                    self.outputs.push(output);
                    bounded(self.outputs.len(), TENSORS_MAX, "outputs")?;
                }
                other => wire.skip(other, end)?,
            }
        }
        Ok(())
    }

    /// `NodeProto`.
    fn node<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64, depth: u32) -> Result<(), OnnxError> {
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Bytes(5, length) => self.attribute(wire, wire.end(length, end)?, depth)?,
                Field::Bytes(7, length) => {
                    self.used_domains.insert(wire.text(length, end)?);
                    bounded(self.used_domains.len(), NAMES_MAX, "operator domains")?;
                }
                other => wire.skip(other, end)?,
            }
        }
        Ok(())
    }

    /// `AttributeProto`: may hold tensors and graphs.
    fn attribute<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64, depth: u32) -> Result<(), OnnxError> {
        while let Some(field) = wire.field(end)? {
            match field {
                // Tensors of attributes are no initialisers: depth 1 keeps their names out.
                Field::Bytes(5 | 10, length) => self.tensor(wire, wire.end(length, end)?, 1)?,
                Field::Bytes(22 | 23, length) => self.sparse_tensor(wire, wire.end(length, end)?, 1)?,
                Field::Bytes(6 | 11, length) => self.graph(wire, wire.end(length, end)?, depth + 1)?,
                other => wire.skip(other, end)?,
            }
        }
        Ok(())
    }

    /// `SparseTensorProto`.
    fn sparse_tensor<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64, depth: u32) -> Result<(), OnnxError> {
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Bytes(1 | 2, length) => self.tensor(wire, wire.end(length, end)?, depth)?,
                other => wire.skip(other, end)?,
            }
        }
        Ok(())
    }

    /// `TensorProto`: its name, and where its data is when that is outside the file.
    fn tensor<R: Read + Seek>(&mut self, wire: &mut Wire<R>, end: u64, depth: u32) -> Result<(), OnnxError> {
        while let Some(field) = wire.field(end)? {
            match field {
                Field::Bytes(8, length) if depth == 0 => {
                    let name = wire.text(length, end)?;
                    self.keeps(&name)?;
                    self.initialisers.insert(name);
                    bounded(self.initialisers.len(), INITIALISERS_MAX, "initialisers")?;
                }
                Field::Bytes(13, length) => {
                    if let Some(location) = external_location(wire, wire.end(length, end)?)? {
                        self.keeps(&location)?;
                        self.model.external.insert(location);
                        bounded(self.model.external.len(), NAMES_MAX, "files of external data")?;
                    }
                }
                other => wire.skip(other, end)?,
            }
        }
        Ok(())
    }

    /// Counts a name that is kept.
    fn keeps(&mut self, name: &str) -> Result<(), OnnxError> {
        self.name_bytes += name.len();
        bounded(self.name_bytes, NAME_BYTES_MAX, "bytes of names")
    }

    fn finish(mut self) -> Result<OnnxModel, OnnxError> {
        if !self.has_graph || self.ir_version == 0 || self.model.opsets.is_empty() {
            return Err(not_onnx("it has no graph, no IR version or no operator set"));
        }
        let foreign = |domain: &&String| !DOMAINS.contains(&domain.as_str()) && !self.own_domains.contains(*domain);
        if let Some(domain) = self.used_domains.iter().find(foreign) {
            return Err(OnnxError::Unsupported(format!(
                "the model uses operators of the domain `{domain}`, which ONNX Runtime does not have: export it with standard operators only"
            )));
        }
        let initialisers = &self.initialisers;
        self.model.inputs = self
            .inputs
            .into_iter()
            .filter(|input| !initialisers.contains(&input.name))
            .map(tensor_info)
            .collect::<Result<_, _>>()?;
        self.model.outputs = self.outputs.into_iter().map(tensor_info).collect::<Result<_, _>>()?;
        bounded(self.model.inputs.len(), TENSORS_MAX, "inputs")?;
        if self.model.outputs.is_empty() {
            return Err(OnnxError::Unsupported("the model has no outputs".to_owned()));
        }
        let producer = format!("{} {}", self.producer_name, self.producer_version);
        self.model.producer = Some(producer.trim().to_owned()).filter(|producer| !producer.is_empty());
        Ok(self.model)
    }
}

fn bounded(count: usize, most: usize, what: &str) -> Result<(), OnnxError> {
    if count <= most { Ok(()) } else { Err(OnnxError::Unsupported(format!("the model has more than {most} {what}"))) }
}

/// `StringStringEntryProto` with the key `location`.
fn external_location<R: Read + Seek>(wire: &mut Wire<R>, end: u64) -> Result<Option<String>, OnnxError> {
    let (mut key, mut value) = (String::new(), String::new());
    while let Some(field) = wire.field(end)? {
        match field {
            Field::Bytes(1, length) => key = wire.text(length, end)?,
            Field::Bytes(2, length) => value = wire.text(length, end)?,
            other => wire.skip(other, end)?,
        }
    }
    Ok((key == "location").then_some(value))
}

/// A `ValueInfoProto`: what is known of an input or output.
#[derive(Debug, Default)]
struct ValueInfo {
    name: String,
    element: u64,
    shape: Vec<i64>,
    is_tensor: bool,
}

fn value_info<R: Read + Seek>(wire: &mut Wire<R>, end: u64) -> Result<ValueInfo, OnnxError> {
    let mut info = ValueInfo::default();
    while let Some(field) = wire.field(end)? {
        match field {
            Field::Bytes(1, length) => info.name = wire.text(length, end)?,
            Field::Bytes(2, length) => type_proto(wire, wire.end(length, end)?, &mut info)?,
            other => wire.skip(other, end)?,
        }
    }
    Ok(info)
}

/// `TypeProto`: only `tensor_type` (1) can be served.
fn type_proto<R: Read + Seek>(wire: &mut Wire<R>, end: u64, info: &mut ValueInfo) -> Result<(), OnnxError> {
    while let Some(field) = wire.field(end)? {
        match field {
            Field::Bytes(1, length) => {
                info.is_tensor = true;
                tensor_type(wire, wire.end(length, end)?, info)?;
            }
            other => wire.skip(other, end)?,
        }
    }
    Ok(())
}

fn tensor_type<R: Read + Seek>(wire: &mut Wire<R>, end: u64, info: &mut ValueInfo) -> Result<(), OnnxError> {
    while let Some(field) = wire.field(end)? {
        match field {
            Field::Varint(1, element) => info.element = element,
            Field::Bytes(2, length) => {
                let end = wire.end(length, end)?;
                while let Some(field) = wire.field(end)? {
                    match field {
                        Field::Bytes(1, length) => info.shape.push(dimension(wire, wire.end(length, end)?)?),
                        other => wire.skip(other, end)?,
                    }
                    bounded(info.shape.len(), RANK_MAX, "dimensions in one tensor")?;
                }
            }
            other => wire.skip(other, end)?,
        }
    }
    Ok(())
}

/// A size, or -1 for a named or unknown one.
fn dimension<R: Read + Seek>(wire: &mut Wire<R>, end: u64) -> Result<i64, OnnxError> {
    let mut size = -1;
    while let Some(field) = wire.field(end)? {
        match field {
            Field::Varint(1, value) => size = i64::try_from(value).unwrap_or(-1),
            other => wire.skip(other, end)?,
        }
    }
    Ok(size)
}

/// `TensorProto.DataType` to the protocol's name.
fn tensor_info(info: ValueInfo) -> Result<TensorInfo, OnnxError> {
    let datatype = match info.element {
        1 => "FP32",
        2 => "UINT8",
        3 => "INT8",
        4 => "UINT16",
        5 => "INT16",
        6 => "INT32",
        7 => "INT64",
        8 => "BYTES",
        9 => "BOOL",
        10 => "FP16",
        11 => "FP64",
        12 => "UINT32",
        13 => "UINT64",
        16 => "BF16",
        _ if !info.is_tensor => {
            return Err(OnnxError::Unsupported(format!(
                "`{}` is a sequence or a map, not a tensor: export the model with `options={{'zipmap': False}}`",
                info.name
            )));
        }
        other => {
            return Err(OnnxError::Unsupported(format!(
                "`{}` has the element type {other} of ONNX, which the Open Inference Protocol does not have",
                info.name
            )));
        }
    };
    Ok(TensorInfo { name: info.name, datatype: datatype.to_owned(), shape: info.shape })
}

#[cfg(test)]
mod tests;
