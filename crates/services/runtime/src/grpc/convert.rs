//! Between protobuf messages and tensors. Typed contents are taken over as buffers, raw contents as slices of the message.

use std::collections::BTreeMap;

use bytemuck::NoUninit;
use bytes::Bytes;
use inference::{
    Datatype, InferError, InferRequest, InferResponse, ModelMetadata, Parameter, Parameters, RequestedOutput, Tensor,
    TensorData, TensorSpec, binary,
    limits::{INPUTS_MAX, NAME_BYTES_MAX, RANK_MAX},
    tensor,
};

use super::proto::{
    self, InferTensorContents, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
    model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
};
use crate::{
    registry::Model,
    statistics::{Span, Statistics},
};

/// The request's parameter that says `false` where the answer's elements are wanted in the fields of their type. Over REST it says
/// in the same way where they are.
const RAW_OUTPUT: &str = "binary_data_output";

/// Where the elements of a message's tensors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// In the fields of their type.
    Typed,
    /// In the raw contents of the message.
    Raw,
}

/// Reads a request, and how it wants to be answered: raw, whatever the request was, unless it says otherwise. Triton answers so, and
/// its example clients that send typed contents read raw ones.
pub(super) fn request(message: proto::ModelInferRequest) -> Result<(InferRequest, Contents), InferError> {
    let (given, raw) = (message.inputs.len(), message.raw_input_contents.len());
    if raw > 0 {
        raw_alone(&message)?;
    }
    if raw > 0 && given != raw {
        return invalid(format!(
            "`raw_input_contents`: expected one entry for each of the {given} inputs, found {raw}"
        ));
    }
    if given > INPUTS_MAX {
        return invalid(format!("`inputs`: expected at most {INPUTS_MAX} inputs, found {given}"));
    }
    check_name("id", &message.id)?;
    let mut raw = message.raw_input_contents.into_iter();
    let mut inputs = Vec::with_capacity(given);
    for (index, input) in message.inputs.into_iter().enumerate() {
        let tensor = self::input(input, raw.next()).map_err(|error| within(error, index))?;
        inputs.push(tensor);
    }
    let outputs = message.outputs.into_iter().map(|output| {
        check_name("outputs", &output.name)?;
        Ok(RequestedOutput { parameters: parameters(output.parameters)?, name: output.name })
    });
    let request = InferRequest {
        id: (!message.id.is_empty()).then_some(message.id),
        parameters: parameters(message.parameters)?,
        inputs,
        outputs: outputs.collect::<Result<_, InferError>>()?,
    };
    let typed = request.parameters.iter().any(|(name, value)| name == RAW_OUTPUT && *value == Parameter::Bool(false));
    Ok((request, if typed { Contents::Typed } else { Contents::Raw }))
}

/// Whether no input has typed contents, in a message with raw ones. Published clients of Triton look for these words as they are.
fn raw_alone(message: &proto::ModelInferRequest) -> Result<(), InferError> {
    let typed =
        |input: &&InferInputTensor| input.contents.as_ref().is_some_and(|it| *it != InferTensorContents::default());
    let Some(input) = message.inputs.iter().find(typed) else { return Ok(()) };
    check_name("name", &input.name)?;
    invalid(format!(
        "contents field must not be specified when using raw_input_contents for '{}' for model '{}': give the elements of \
         all inputs in one of them",
        input.name, message.model_name
    ))
}

fn invalid<T>(message: String) -> Result<T, InferError> {
    Err(InferError::InvalidInput(message))
}

fn within(error: InferError, index: usize) -> InferError {
    match error {
        InferError::InvalidInput(message) => InferError::InvalidInput(format!("`inputs[{index}]`: {message}")),
        InferError::TooLarge(message) => InferError::TooLarge(format!("`inputs[{index}]`: {message}")),
        other => other,
    }
}

fn check_name(what: &str, name: &str) -> Result<(), InferError> {
    if name.len() > NAME_BYTES_MAX {
        return invalid(format!("`{what}`: expected at most {NAME_BYTES_MAX} bytes in a name, found {}", name.len()));
    }
    Ok(())
}

fn parameters(map: BTreeMap<String, proto::InferParameter>) -> Result<Parameters, InferError> {
    let mut list = Parameters::with_capacity(map.len());
    for (name, value) in map {
        check_name("parameters", &name)?;
        let value = match value.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Int(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::String(value),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Double(value),
            Some(ParameterChoice::Uint64Param(value)) => Parameter::Uint(value),
            None => return invalid(format!("the parameter `{name}` has no value")),
        };
        list.push((name, value));
    }
    Ok(list)
}

fn input(input: InferInputTensor, raw: Option<Bytes>) -> Result<Tensor, InferError> {
    check_name("name", &input.name)?;
    let Some(datatype) = Datatype::parse(&input.datatype) else {
        let known = Datatype::ALL.map(Datatype::name).join(", ");
        let given: String = input.datatype.chars().take(64).collect();
        return invalid(format!("expected a datatype, one of {known}, found `{given}`"));
    };
    if input.shape.len() > RANK_MAX {
        return invalid(format!("expected at most {RANK_MAX} dimensions, found {}", input.shape.len()));
    }
    let dimensions = input.shape.iter().map(|&dimension| usize::try_from(dimension).ok());
    let Some(shape) = dimensions.collect::<Option<Vec<usize>>>() else {
        return invalid(format!("expected a shape of whole numbers from 0 on, found {:?}", input.shape));
    };
    let data = match (raw, input.contents) {
        (Some(raw), _) => binary::decode(datatype, &shape, raw)?,
        (None, contents) => typed(datatype, &shape, contents.unwrap_or_default())?,
    };
    Ok(Tensor { name: input.name, datatype, shape, parameters: parameters(input.parameters)?, data })
}

/// Takes the elements out of the one field that `datatype` uses; the others must be empty.
fn typed(datatype: Datatype, shape: &[usize], mut contents: InferTensorContents) -> Result<TensorData, InferError> {
    let data = match datatype {
        Datatype::Bool => TensorData::from_vec(std::mem::take(&mut contents.bool_contents)),
        Datatype::Int8 => narrowed::<_, i8>(std::mem::take(&mut contents.int_contents), datatype)?,
        Datatype::Int16 => narrowed::<_, i16>(std::mem::take(&mut contents.int_contents), datatype)?,
        Datatype::Int32 => TensorData::from_vec(std::mem::take(&mut contents.int_contents)),
        Datatype::Int64 => TensorData::from_vec(std::mem::take(&mut contents.int64_contents)),
        Datatype::Uint8 => narrowed::<_, u8>(std::mem::take(&mut contents.uint_contents), datatype)?,
        Datatype::Uint16 => narrowed::<_, u16>(std::mem::take(&mut contents.uint_contents), datatype)?,
        Datatype::Uint32 => TensorData::from_vec(std::mem::take(&mut contents.uint_contents)),
        Datatype::Uint64 => TensorData::from_vec(std::mem::take(&mut contents.uint64_contents)),
        Datatype::Fp32 => TensorData::from_vec(std::mem::take(&mut contents.fp32_contents)),
        Datatype::Fp64 => TensorData::from_vec(std::mem::take(&mut contents.fp64_contents)),
        Datatype::Bytes => TensorData::Strings(std::mem::take(&mut contents.bytes_contents)),
        Datatype::Fp16 | Datatype::Bf16 => {
            return invalid(format!("{datatype} has no typed contents: send it in `raw_input_contents`"));
        }
    };
    if contents != InferTensorContents::default() {
        return invalid(format!("expected the elements of {datatype} in `{}` alone", field(datatype)));
    }
    let (wanted, found) = (tensor::elements(shape), data.elements(datatype));
    if wanted != Some(found) {
        return invalid(format!(
            "expected in `{}` as many elements as shape {shape:?} has, found {found}",
            field(datatype)
        ));
    }
    Ok(data)
}

/// The field of `InferTensorContents` that `datatype` uses.
fn field(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "bool_contents",
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
        Datatype::Int64 => "int64_contents",
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
        Datatype::Uint64 => "uint64_contents",
        Datatype::Fp32 => "fp32_contents",
        Datatype::Fp64 => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        Datatype::Fp16 | Datatype::Bf16 => "raw_input_contents",
    }
}

fn narrowed<Wide, Narrow>(elements: Vec<Wide>, datatype: Datatype) -> Result<TensorData, InferError>
where
    Wide: Copy + std::fmt::Display,
    Narrow: TryFrom<Wide> + NoUninit + Send + 'static,
{
    let mut narrow = Vec::with_capacity(elements.len());
    for (index, &element) in elements.iter().enumerate() {
        let Ok(element) = Narrow::try_from(element) else {
            return invalid(format!("`contents.{}[{index}]`: {element} is not within {datatype}", field(datatype)));
        };
        narrow.push(element);
    }
    Ok(TensorData::from_vec(narrow))
}

/// Writes a response. One output that has no typed contents makes all of them raw: the protocol does not mix.
pub(super) fn response(response: InferResponse, contents: Contents) -> Result<proto::ModelInferResponse, InferError> {
    let only_raw = |output: &Tensor| matches!(output.datatype, Datatype::Fp16 | Datatype::Bf16);
    let raw = contents == Contents::Raw || response.outputs.iter().any(only_raw);
    let mut outputs = Vec::with_capacity(response.outputs.len());
    let mut raw_output_contents = Vec::new();
    for output in response.outputs {
        let contents = if raw {
            raw_output_contents.push(binary::encode(&output.data)?);
            None
        } else {
            Some(typed_contents(output.datatype, output.data))
        };
        outputs.push(InferOutputTensor {
            name: output.name,
            datatype: output.datatype.name().to_owned(),
            shape: output.shape.iter().map(|&dimension| i64::try_from(dimension).unwrap_or(i64::MAX)).collect(),
            parameters: parameter_map(output.parameters),
            contents,
        });
    }
    Ok(proto::ModelInferResponse {
        model_name: response.model_name,
        model_version: response.model_version,
        id: response.id.unwrap_or_default(),
        parameters: parameter_map(response.parameters),
        outputs,
        raw_output_contents,
    })
}

fn parameter_map(parameters: Parameters) -> BTreeMap<String, proto::InferParameter> {
    let choice = |value| match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int(value) => ParameterChoice::Int64Param(value),
        Parameter::Uint(value) => ParameterChoice::Uint64Param(value),
        Parameter::Double(value) => ParameterChoice::DoubleParam(value),
        Parameter::String(value) => ParameterChoice::StringParam(value),
    };
    let entry = |(name, value)| (name, proto::InferParameter { parameter_choice: Some(choice(value)) });
    parameters.into_iter().map(entry).collect()
}

fn typed_contents(datatype: Datatype, data: TensorData) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    let bytes = match data {
        TensorData::Strings(strings) => {
            contents.bytes_contents = strings;
            return contents;
        }
        TensorData::Fixed(bytes) => bytes,
    };
    match datatype {
        Datatype::Bool => contents.bool_contents = bytes.iter().map(|&byte| byte != 0).collect(),
        Datatype::Int8 => contents.int_contents = elements(&bytes, |element| i8::from_le_bytes(element).into()),
        Datatype::Int16 => contents.int_contents = elements(&bytes, |element| i16::from_le_bytes(element).into()),
        Datatype::Int32 => contents.int_contents = elements(&bytes, i32::from_le_bytes),
        Datatype::Int64 => contents.int64_contents = elements(&bytes, i64::from_le_bytes),
        Datatype::Uint8 => contents.uint_contents = bytes.iter().map(|&byte| byte.into()).collect(),
        Datatype::Uint16 => contents.uint_contents = elements(&bytes, |element| u16::from_le_bytes(element).into()),
        Datatype::Uint32 => contents.uint_contents = elements(&bytes, u32::from_le_bytes),
        Datatype::Uint64 => contents.uint64_contents = elements(&bytes, u64::from_le_bytes),
        Datatype::Fp32 => contents.fp32_contents = elements(&bytes, f32::from_le_bytes),
        Datatype::Fp64 => contents.fp64_contents = elements(&bytes, f64::from_le_bytes),
        // Sent raw, or never held as fixed-size elements.
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Bytes => {}
    }
    contents
}

fn elements<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&element| read(element)).collect()
}

/// Writes what a model says of itself.
pub(super) fn metadata(metadata: &ModelMetadata) -> proto::ModelMetadataResponse {
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor_metadata).collect();
    proto::ModelMetadataResponse {
        name: metadata.name.clone(),
        versions: metadata.versions.clone(),
        platform: metadata.platform.clone(),
        inputs: tensors(&metadata.inputs),
        outputs: tensors(&metadata.outputs),
        properties: BTreeMap::new(),
    }
}

fn tensor_metadata(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata { name: spec.name.clone(), datatype: spec.datatype.name().to_owned(), shape: spec.shape.clone() }
}

/// What a model did.
pub(super) fn statistics(statistics: Statistics) -> proto::ModelStatistics {
    let span = |span: Span| Some(proto::StatisticDuration { count: span.count, ns: span.ns });
    let spans = statistics.inference_stats;
    proto::ModelStatistics {
        name: statistics.name,
        version: statistics.version,
        last_inference: statistics.last_inference,
        inference_count: statistics.inference_count,
        execution_count: statistics.execution_count,
        inference_stats: Some(proto::InferStatistics {
            success: span(spans.success),
            fail: span(spans.fail),
            queue: span(spans.queue),
            compute_input: span(spans.compute_input),
            compute_infer: span(spans.compute_infer),
            compute_output: span(spans.compute_output),
            cache_hit: span(spans.cache_hit),
            cache_miss: span(spans.cache_miss),
        }),
        batch_stats: Vec::new(),
    }
}

/// A model and whether it is ready.
pub(super) fn index(model: &Model) -> proto::repository_index_response::ModelIndex {
    let (state, reason) = match (model.ready(), model.failure()) {
        (true, _) => ("READY", ""),
        (false, Some(reason)) => ("UNAVAILABLE", reason),
        (false, None) => ("UNAVAILABLE", "loading"),
    };
    proto::repository_index_response::ModelIndex {
        name: model.name().to_owned(),
        version: model.version().to_owned(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    }
}
