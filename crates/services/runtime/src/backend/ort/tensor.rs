//! Tensors of the protocol as values of ONNX Runtime and back, without copies where memory is aligned.

use std::fmt::Debug;

use bytemuck::{NoUninit, Pod};
use bytes::Bytes;
use half::{bf16, f16};
use inference::{Datatype, InferError, Tensor, TensorData};
use ort::{
    environment::Environment,
    session::SessionInputValue,
    value::{self, DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, TensorValueType},
};

use super::literal;

/// The protocol's name for ONNX Runtime's element type, if it has one.
pub(super) const fn datatype(element: TensorElementType) -> Option<Datatype> {
    Some(match element {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// A value that borrows the tensor's memory when it is aligned.
pub(super) fn to_value<'t>(environment: &Environment, tensor: &'t Tensor) -> Result<SessionInputValue<'t>, InferError> {
    let shape = tensor.shape.as_slice();
    let made = match (&tensor.data, tensor.datatype) {
        (TensorData::Strings(strings), Datatype::Bytes) => return strings_value(environment, tensor, strings),
        (TensorData::Fixed(bytes), Datatype::Bool) => return bool_value(tensor, bytes),
        (TensorData::Fixed(bytes), Datatype::Uint8) => view::<u8>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Uint16) => view::<u16>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Uint32) => view::<u32>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Uint64) => view::<u64>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Int8) => view::<i8>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Int16) => view::<i16>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Int32) => view::<i32>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Int64) => view::<i64>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Fp16) => view::<f16>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Bf16) => view::<bf16>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Fp32) => view::<f32>(shape, bytes),
        (TensorData::Fixed(bytes), Datatype::Fp64) => view::<f64>(shape, bytes),
        (TensorData::Fixed(_), Datatype::Bytes) | (TensorData::Strings(_), _) => {
            return Err(unfit(tensor, "its elements are not of its datatype"));
        }
    };
    made.map_err(|error| unfit(tensor, &error.to_string()))
}

/// The tensor of an output. Its memory stays ONNX Runtime's until the last byte of the answer is sent.
pub(super) fn from_value(name: &str, value: DynValue) -> Result<Tensor, InferError> {
    let element = value.dtype().tensor_type();
    let dims = value.dtype().tensor_shape();
    let shape = dims.and_then(|dims| dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<_>>>());
    let (Some(datatype), Some(shape)) = (element.and_then(datatype), shape) else {
        return Err(InferError::Internal(format!("output `{name}` is not a tensor that the protocol can carry")));
    };
    let data = match datatype {
        Datatype::Bytes => strings(&value),
        Datatype::Bool => lent::<bool>(value),
        Datatype::Uint8 => lent::<u8>(value),
        Datatype::Uint16 => lent::<u16>(value),
        Datatype::Uint32 => lent::<u32>(value),
        Datatype::Uint64 => lent::<u64>(value),
        Datatype::Int8 => lent::<i8>(value),
        Datatype::Int16 => lent::<i16>(value),
        Datatype::Int32 => lent::<i32>(value),
        Datatype::Int64 => lent::<i64>(value),
        Datatype::Fp16 => lent::<f16>(value),
        Datatype::Bf16 => lent::<bf16>(value),
        Datatype::Fp32 => lent::<f32>(value),
        Datatype::Fp64 => lent::<f64>(value),
    };
    let data = data.map_err(|error| InferError::Internal(format!("output `{name}` cannot be read: {error}")))?;
    Ok(Tensor { name: name.to_owned(), datatype, shape, parameters: Vec::new(), data })
}

fn view<'a, T>(shape: &'a [usize], bytes: &'a [u8]) -> Result<SessionInputValue<'a>, ort::Error>
where
    T: PrimitiveTensorElementType + Pod + Debug,
{
    match bytemuck::try_cast_slice::<u8, T>(bytes) {
        Ok(elements) => TensorRef::from_array_view((shape, elements)).map(Into::into),
        Err(_) => {
            let elements: Vec<T> = bytemuck::allocation::pod_collect_to_vec(bytes);
            value::Tensor::from_array((shape.to_vec(), elements)).map(Into::into)
        }
    }
}

fn bool_value<'a>(tensor: &'a Tensor, bytes: &'a [u8]) -> Result<SessionInputValue<'a>, InferError> {
    let cast = bytemuck::checked::try_cast_slice::<u8, bool>(bytes);
    let elements = cast.map_err(|_| unfit(tensor, "an element of a BOOL tensor is one byte, 0 or 1"))?;
    let made = TensorRef::from_array_view((tensor.shape.as_slice(), elements));
    made.map(Into::into).map_err(|error| unfit(tensor, &error.to_string()))
}

fn strings_value<'a>(
    environment: &Environment,
    tensor: &Tensor,
    strings: &[Bytes],
) -> Result<SessionInputValue<'a>, InferError> {
    let mut texts = Vec::with_capacity(strings.len());
    for bytes in strings {
        let text = std::str::from_utf8(bytes).map_err(|_| unfit(tensor, "the strings of an ONNX model are UTF-8"))?;
        texts.push(text.to_owned());
    }
    let made = if texts.iter().any(|text| text.contains('\0')) {
        literal::value(environment, &tensor.shape, strings)
    } else {
        value::Tensor::from_string_array((tensor.shape.as_slice(), texts.as_slice())).map(Into::into)
    };
    made.map_err(|error| unfit(tensor, &error.to_string()))
}

fn strings(value: &DynValue) -> Result<TensorData, ort::Error> {
    let (_, strings) = value.try_extract_strings()?;
    Ok(TensorData::Strings(strings.into_iter().map(Bytes::from).collect()))
}

fn unfit(tensor: &Tensor, why: &str) -> InferError {
    InferError::InvalidInput(format!("input `{}`: {why}", tensor.name))
}

/// Memory of ONNX Runtime, lent to the answer.
struct Lent<T: PrimitiveTensorElementType + Debug>(value::Tensor<T>);

impl<T: PrimitiveTensorElementType + NoUninit + Debug> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self.0.extract_tensor().1)
    }
}

fn lent<T>(value: DynValue) -> Result<TensorData, ort::Error>
where
    T: PrimitiveTensorElementType + NoUninit + Debug + Send + Sync + 'static,
{
    let tensor = value.downcast::<TensorValueType<T>>()?;
    Ok(TensorData::Fixed(Bytes::from_owner(Lent(tensor))))
}
