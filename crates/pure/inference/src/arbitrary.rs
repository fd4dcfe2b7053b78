//! Arbitrary tensors, for the property tests of the codecs.

use bytes::Bytes;
use half::{bf16, f16};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    Datatype, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput, Tensor, TensorData, tensor,
};

/// A parameter of any kind that reads back as itself.
fn parameter() -> impl Strategy<Value = Parameter> {
    prop_oneof![
        any::<bool>().prop_map(Parameter::Bool),
        any::<i64>().prop_map(Parameter::Int),
        (i64::MAX as u64 + 1..).prop_map(Parameter::Uint),
        prop::num::f64::NORMAL.prop_map(Parameter::Double),
        ".{0,8}".prop_map(Parameter::String),
    ]
}

pub(crate) fn parameters() -> impl Strategy<Value = Parameters> {
    prop::collection::btree_map("[a-z\"\\\\é\u{1}]{1,6}", parameter(), 0..3).prop_map(|map| map.into_iter().collect())
}

/// NaNs have many bit patterns and one name, so that only one of them survives text.
fn elements(datatype: Datatype, count: usize) -> BoxedStrategy<TensorData> {
    match datatype {
        Datatype::Bool => vec(0_u8..2, count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Uint8 => vec(any::<u8>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Uint16 => vec(any::<u16>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Uint32 => vec(any::<u32>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Uint64 => vec(any::<u64>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Int8 => vec(any::<i8>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Int16 => vec(any::<i16>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Int32 => vec(any::<i32>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Int64 => vec(any::<i64>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Fp16 => {
            let half = any::<u16>().prop_map(f16::from_bits).prop_map(|x| if x.is_nan() { f16::NAN } else { x });
            vec(half, count).prop_map(TensorData::from_vec).boxed()
        }
        Datatype::Bf16 => {
            let half = any::<u16>().prop_map(bf16::from_bits).prop_map(|x| if x.is_nan() { bf16::NAN } else { x });
            vec(half, count).prop_map(TensorData::from_vec).boxed()
        }
        Datatype::Fp32 => {
            let float = any::<u32>().prop_map(f32::from_bits).prop_map(|x| if x.is_nan() { f32::NAN } else { x });
            vec(float, count).prop_map(TensorData::from_vec).boxed()
        }
        Datatype::Fp64 => {
            let float = any::<u64>().prop_map(f64::from_bits).prop_map(|x| if x.is_nan() { f64::NAN } else { x });
            vec(float, count).prop_map(TensorData::from_vec).boxed()
        }
        Datatype::Bytes => vec(any::<String>().prop_map(Bytes::from), count).prop_map(TensorData::Strings).boxed(),
    }
}

/// A tensor of any datatype and of up to four dimensions, some of them empty. Strings are UTF-8.
pub(crate) fn tensor() -> impl Strategy<Value = Tensor> {
    let head = (any::<String>(), select(&Datatype::ALL[..]), vec(0_usize..4, 0..4), parameters());
    head.prop_flat_map(|(name, datatype, shape, parameters)| {
        let count = tensor::elements(&shape).unwrap();
        elements(datatype, count).prop_map(move |data| Tensor {
            name: name.clone(),
            datatype,
            shape: shape.clone(),
            parameters: parameters.clone(),
            data,
        })
    })
}

fn request_id() -> impl Strategy<Value = Option<String>> {
    prop::option::of(".{1,8}")
}

pub(crate) fn request() -> impl Strategy<Value = InferRequest> {
    let output = (any::<String>(), parameters()).prop_map(|(name, parameters)| RequestedOutput { name, parameters });
    (request_id(), parameters(), vec(tensor(), 0..4), vec(output, 0..3))
        .prop_map(|(id, parameters, inputs, outputs)| InferRequest { id, parameters, inputs, outputs })
}

pub(crate) fn response() -> impl Strategy<Value = InferResponse> {
    (any::<String>(), any::<String>(), request_id(), parameters(), vec(tensor(), 0..4)).prop_map(
        |(model_name, model_version, id, parameters, outputs)| InferResponse {
            model_name,
            model_version,
            id,
            parameters,
            outputs,
        },
    )
}
