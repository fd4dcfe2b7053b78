//! Requests made from a model's signature.

use serde_json::{Value, json};

use super::target::{Model, Tensor};

/// One element of a datatype in JSON.
fn element(datatype: &str) -> Value {
    match datatype {
        "BOOL" => json!(true),
        "BYTES" => json!("1"),
        "FP16" | "BF16" | "FP32" | "FP64" => json!(0.5),
        _ => json!(1),
    }
}

/// Bytes of one element of a datatype in the binary extension.
fn element_bytes(datatype: &str) -> Vec<u8> {
    match datatype {
        "BOOL" | "UINT8" | "INT8" => vec![1],
        "UINT16" | "INT16" => vec![1, 0],
        "UINT32" | "INT32" => vec![1, 0, 0, 0],
        "UINT64" | "INT64" => vec![1, 0, 0, 0, 0, 0, 0, 0],
        "FP16" => 0x3800_u16.to_le_bytes().to_vec(),
        "BF16" => 0x3f00_u16.to_le_bytes().to_vec(),
        "FP32" => 0.5_f32.to_le_bytes().to_vec(),
        "FP64" => 0.5_f64.to_le_bytes().to_vec(),
        // BYTES: a length and as many bytes.
        _ => vec![1, 0, 0, 0, b'1'],
    }
}

pub(super) fn tensor_bytes(tensor: &Tensor) -> Vec<u8> {
    element_bytes(&tensor.datatype).repeat(tensor.elements())
}

fn flat(tensor: &Tensor) -> Value {
    Value::Array(vec![element(&tensor.datatype); tensor.elements()])
}

fn nested(datatype: &str, shape: &[u64]) -> Value {
    match shape.split_first() {
        None => element(datatype),
        Some((size, rest)) => {
            let size = usize::try_from(*size).unwrap_or_default();
            Value::Array(vec![nested(datatype, rest); size])
        }
    }
}

pub(super) fn input(tensor: &Tensor) -> Value {
    json!({"name": tensor.name, "shape": tensor.concrete(), "datatype": tensor.datatype, "data": flat(tensor)})
}

pub(super) fn nested_input(tensor: &Tensor) -> Value {
    let data = nested(&tensor.datatype, &tensor.concrete());
    json!({"name": tensor.name, "shape": tensor.concrete(), "datatype": tensor.datatype, "data": data})
}

/// A request with every input, flat.
pub(super) fn request(model: &Model) -> Value {
    json!({"inputs": model.inputs.iter().map(input).collect::<Vec<_>>()})
}

/// The same with one more field.
pub(super) fn request_with(model: &Model, field: &str, value: Value) -> Value {
    let mut request = request(model);
    if let Some(object) = request.as_object_mut() {
        object.insert(field.to_owned(), value);
    }
    request
}

/// The same with one field of the first input changed.
pub(super) fn request_changed(model: &Model, field: &str, value: Value) -> Value {
    let mut request = request(model);
    if let Some(input) = request.pointer_mut("/inputs/0").and_then(Value::as_object_mut) {
        input.insert(field.to_owned(), value);
    }
    request
}
