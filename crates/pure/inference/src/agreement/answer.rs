//! Answers as they are compared: outputs by name, of every form that a runtime writes.

use bytes::Bytes;
use half::{bf16, f16};
use serde_json::Value;

use crate::{Datatype, InferError, InferResponse, Tensor, TensorData, binary, limits::RANK_MAX};

/// An answer to compare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub(super) outputs: Vec<Output>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Output {
    pub(super) name: String,
    /// Nothing where the form of the answer does not say it.
    pub(super) datatype: Option<Datatype>,
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// Whole numbers and truth values, which name classes.
    Whole(Vec<i128>),
    /// Texts, which name classes too.
    Texts(Vec<Vec<u8>>),
    /// Numbers that measure.
    Numbers(Vec<f64>),
}

impl Answer {
    /// An answer of the Open Inference Protocol.
    pub fn of(response: &InferResponse) -> Self {
        let output = |tensor: &Tensor| Output {
            name: tensor.name.clone(),
            datatype: Some(tensor.datatype),
            shape: tensor.shape.clone(),
            values: values(tensor),
        };
        Self { outputs: response.outputs.iter().map(output).collect() }
    }

    /// Reads an answer of the Open Inference Protocol, where `header_length` is the value of [`binary::HEADER`].
    ///
    /// # Errors
    ///
    /// [`InferError::InvalidInput`] when it is none.
    pub fn read(body: Bytes, header_length: Option<usize>) -> Result<Self, InferError> {
        binary::read_response(body, header_length).map(|response| Self::of(&response))
    }

    /// Reads an answer of the V1 protocol: `predictions` by row or `outputs` by column.
    ///
    /// # Errors
    ///
    /// [`InferError::InvalidInput`] when it is none.
    pub fn read_v1(body: &[u8]) -> Result<Self, InferError> {
        let none = || InferError::InvalidInput("this is no answer of the V1 protocol".to_owned());
        let whole: Value = serde_json::from_slice(body).map_err(|_| none())?;
        let rows = whole.get("predictions").and_then(Value::as_array).map(Vec::as_slice);
        let Some(rows) = rows else {
            return match whole.get("outputs").ok_or_else(none)? {
                Value::Object(columns) => {
                    let column = |(name, value): (&String, &Value)| Output::read(name, std::slice::from_ref(value));
                    Ok(Self { outputs: columns.iter().map(column).collect() })
                }
                column => Ok(Self { outputs: vec![Output::read("", std::slice::from_ref(column))] }),
            };
        };
        let Some(Value::Object(first)) = rows.first() else {
            return Ok(Self { outputs: vec![Output::read("", rows)] });
        };
        if rows.iter().any(|row| row.as_object().is_none_or(|row| row.len() != first.len())) {
            return Err(none());
        }
        let column = |name: &String| {
            let values: Option<Vec<Value>> = rows.iter().map(|row| row.get(name).cloned()).collect();
            Some(Output::read(name, &values?))
        };
        Ok(Self { outputs: first.keys().map(column).collect::<Option<_>>().ok_or_else(none)? })
    }
}

impl Output {
    /// The elements of nested lists. The shape is that of the first of each: the lists of a tensor have one length.
    fn read(name: &str, rows: &[Value]) -> Self {
        let mut shape = vec![rows.len()];
        let mut inner = rows.first();
        while let Some(Value::Array(list)) = inner.filter(|_| shape.len() <= RANK_MAX) {
            shape.push(list.len());
            inner = list.first();
        }
        let mut leaves = Vec::new();
        rows.iter().for_each(|row| gather(row, &mut leaves));
        Self { name: name.to_owned(), datatype: None, shape, values: written(&leaves) }
    }
}

/// The reader of JSON bounds the depth.
fn gather<'v>(value: &'v Value, leaves: &mut Vec<&'v Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| gather(value, leaves)),
        leaf => leaves.push(leaf),
    }
}

/// Numbers that are written without a point are whole; what is not finite is written as text beside others.
fn written(leaves: &[&Value]) -> Values {
    let whole = |leaf: &&Value| match leaf {
        Value::Bool(truth) => Some(i128::from(*truth)),
        leaf => leaf.as_i64().map(i128::from).or_else(|| leaf.as_u64().map(i128::from)),
    };
    let number = |leaf: &&Value| match leaf {
        Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => text.parse().ok(),
        leaf => leaf.as_f64(),
    };
    if let Some(whole) = leaves.iter().map(whole).collect() {
        return Values::Whole(whole);
    }
    if let Some(numbers) = leaves.iter().map(number).collect() {
        return Values::Numbers(numbers);
    }
    Values::Texts(
        leaves.iter().map(|leaf| leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned).into()).collect(),
    )
}

fn values(tensor: &Tensor) -> Values {
    let bytes = match &tensor.data {
        TensorData::Strings(strings) => return Values::Texts(strings.iter().map(|text| text.to_vec()).collect()),
        TensorData::Fixed(bytes) => bytes.as_ref(),
    };
    match tensor.datatype {
        Datatype::Bool | Datatype::Uint8 => whole(bytes, |[byte]: [u8; 1]| i128::from(byte)),
        Datatype::Uint16 => whole(bytes, |bytes| i128::from(u16::from_le_bytes(bytes))),
        Datatype::Uint32 => whole(bytes, |bytes| i128::from(u32::from_le_bytes(bytes))),
        Datatype::Uint64 => whole(bytes, |bytes| i128::from(u64::from_le_bytes(bytes))),
        Datatype::Int8 => whole(bytes, |bytes| i128::from(i8::from_le_bytes(bytes))),
        Datatype::Int16 => whole(bytes, |bytes| i128::from(i16::from_le_bytes(bytes))),
        Datatype::Int32 => whole(bytes, |bytes| i128::from(i32::from_le_bytes(bytes))),
        Datatype::Int64 => whole(bytes, |bytes| i128::from(i64::from_le_bytes(bytes))),
        Datatype::Fp16 => numbers(bytes, |bytes| f16::from_le_bytes(bytes).into()),
        Datatype::Bf16 => numbers(bytes, |bytes| bf16::from_le_bytes(bytes).into()),
        Datatype::Fp32 => numbers(bytes, |bytes| f32::from_le_bytes(bytes).into()),
        Datatype::Fp64 => numbers(bytes, f64::from_le_bytes),
        // Its elements are strings, never fixed.
        Datatype::Bytes => Values::Texts(vec![bytes.to_vec()]),
    }
}

fn whole<const SIZE: usize>(bytes: &[u8], read: impl Fn([u8; SIZE]) -> i128) -> Values {
    Values::Whole(bytes.as_chunks::<SIZE>().0.iter().map(|chunk| read(*chunk)).collect())
}

fn numbers<const SIZE: usize>(bytes: &[u8], read: impl Fn([u8; SIZE]) -> f64) -> Values {
    Values::Numbers(bytes.as_chunks::<SIZE>().0.iter().map(|chunk| read(*chunk)).collect())
}
