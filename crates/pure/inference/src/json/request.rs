//! Requests and responses as the protocol's JSON has them.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    elements::{self, Budget},
    fault::{Fault, Parsed, quoted},
    reader::{Literals, Reader},
};
use crate::{
    Datatype, InferError, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput, Tensor, TensorData,
    binary,
    limits::{INPUTS_MAX, NAME_BYTES_MAX, OUTPUTS_MAX, PARAMETERS_MAX, RANK_MAX},
};

/// Name of the parameter that says how many bytes of the binary part belong to a tensor.
pub(super) const BINARY_DATA_SIZE: &str = "binary_data_size";

/// Reads a request; tensors with `binary_data_size` take their bytes from `binary`, in order.
pub(crate) fn read_request(json: &Bytes, binary: Bytes) -> Result<InferRequest, InferError> {
    let mut reader = Reader::new(json)?;
    let mut tensors = Tensors { binary, budget: Budget::new(), list: Vec::new() };
    let (mut id, mut parameters, mut outputs) = (None, None, None);
    let mut inputs_given = false;
    reader.object(|reader, key| match key {
        "id" => once(&mut id, request_id(reader)?),
        "parameters" => once(&mut parameters, self::parameters(reader)?),
        "inputs" => {
            first(&mut inputs_given)?;
            tensors.read(reader, INPUTS_MAX)
        }
        "outputs" => once(&mut outputs, requested(reader)?),
        _ => reader.skip(Literals::Strict),
    })?;
    reader.end()?;
    if !inputs_given {
        return Err(Fault::new("expected an array of tensors, found nothing").within("inputs").into());
    }
    let inputs = tensors.finish()?;
    let parameters = parameters.unwrap_or_default();
    Ok(InferRequest { id: id.flatten(), parameters, inputs, outputs: outputs.unwrap_or_default() })
}

/// Reads a response, as a client does; `binary` is what follows the JSON.
///
/// # Errors
///
/// [`InferError::InvalidInput`] with the place of what is wrong.
pub fn read_response(json: &Bytes, binary: Bytes) -> Result<InferResponse, InferError> {
    let mut reader = Reader::new(json)?;
    let mut tensors = Tensors { binary, budget: Budget::new(), list: Vec::new() };
    let (mut id, mut parameters, mut model_name, mut model_version) = (None, None, None, None);
    let mut outputs_given = false;
    reader.object(|reader, key| match key {
        "id" => once(&mut id, request_id(reader)?),
        "model_name" => once(&mut model_name, name(reader)?),
        "model_version" => once(&mut model_version, name(reader)?),
        "parameters" => once(&mut parameters, self::parameters(reader)?),
        "outputs" => {
            first(&mut outputs_given)?;
            tensors.read(reader, OUTPUTS_MAX)
        }
        _ => reader.skip(Literals::Strict),
    })?;
    reader.end()?;
    if !outputs_given {
        return Err(Fault::new("expected an array of tensors, found nothing").within("outputs").into());
    }
    Ok(InferResponse {
        model_name: model_name.unwrap_or_default(),
        model_version: model_version.unwrap_or_default(),
        id: id.flatten(),
        parameters: parameters.unwrap_or_default(),
        outputs: tensors.finish()?,
    })
}

/// Puts `value` into its place, which must be empty: a key that stands twice has no meaning.
fn once<T>(place: &mut Option<T>, value: T) -> Parsed<()> {
    if place.is_some() {
        return Err(twice());
    }
    *place = Some(value);
    Ok(())
}

fn first(given: &mut bool) -> Parsed<()> {
    if *given {
        return Err(twice());
    }
    *given = true;
    Ok(())
}

fn twice() -> Box<Fault> {
    Fault::new("the key stands twice: give it once")
}

/// An empty id is none: clients send it when their user gave none.
fn request_id(reader: &mut Reader<'_>) -> Parsed<Option<String>> {
    if reader.peek() == Some(b'n') && reader.take_word("null") {
        return Ok(None);
    }
    let id = name(reader)?;
    Ok((!id.is_empty()).then_some(id))
}

fn name(reader: &mut Reader<'_>) -> Parsed<String> {
    let text = reader.string()?;
    check_name(&text)?;
    Ok(text.into_owned())
}

fn check_name(text: &str) -> Parsed<()> {
    if text.len() > NAME_BYTES_MAX {
        return Err(Fault::new(format!("expected at most {NAME_BYTES_MAX} bytes, found {}", text.len())));
    }
    Ok(())
}

fn parameters(reader: &mut Reader<'_>) -> Parsed<Parameters> {
    let mut list = Parameters::new();
    reader.object(|reader, key| {
        check_name(key)?;
        if list.iter().any(|(known, _)| known == key) {
            return Err(twice());
        }
        if list.len() == PARAMETERS_MAX {
            return Err(Fault::new(format!("expected at most {PARAMETERS_MAX} parameters")));
        }
        list.push((key.to_owned(), parameter(reader)?));
        Ok(())
    })?;
    Ok(list)
}

fn parameter(reader: &mut Reader<'_>) -> Parsed<Parameter> {
    match reader.peek() {
        Some(b'"') => Ok(Parameter::String(reader.string()?.into_owned())),
        Some(b't' | b'f') => Ok(Parameter::Bool(reader.boolean()?)),
        Some(b'-' | b'0'..=b'9') => {
            let number = reader.number()?;
            let whole = if number.written_whole() { number.to_whole() } else { None };
            if let Some(value) = whole.and_then(|value| i64::try_from(value).ok()) {
                return Ok(Parameter::Int(value));
            }
            if let Some(value) = whole.and_then(|value| u64::try_from(value).ok()) {
                return Ok(Parameter::Uint(value));
            }
            let beyond = || Fault::new(format!("expected a number within the range of FP64, found {}", number.shown()));
            number.to_f64().map(Parameter::Double).ok_or_else(beyond)
        }
        _ => Err(reader.fault("a string, a number, `true` or `false`")),
    }
}

fn requested(reader: &mut Reader<'_>) -> Parsed<Vec<RequestedOutput>> {
    let mut list = Vec::new();
    reader.array(|reader, index| {
        if index == OUTPUTS_MAX {
            return Err(Fault::new(format!("expected at most {OUTPUTS_MAX} outputs")));
        }
        let (mut name, mut parameters) = (None, None);
        reader.object(|reader, key| match key {
            "name" => once(&mut name, self::name(reader)?),
            "parameters" => once(&mut parameters, self::parameters(reader)?),
            _ => reader.skip(Literals::Strict),
        })?;
        let name = name.ok_or_else(|| missing("name", "a string"))?;
        list.push(RequestedOutput { name, parameters: parameters.unwrap_or_default() });
        Ok(())
    })?;
    Ok(list)
}

fn missing(key: &str, expected: &str) -> Box<Fault> {
    Fault::new(format!("expected {expected}, found nothing")).within(key)
}

fn shape(reader: &mut Reader<'_>) -> Parsed<Vec<usize>> {
    let mut shape = Vec::with_capacity(4);
    reader.array(|reader, index| {
        if index == RANK_MAX {
            return Err(Fault::new(format!("expected at most {RANK_MAX} dimensions")));
        }
        let number = reader.number()?;
        let dimension = number.to_whole().and_then(|value| usize::try_from(value).ok());
        let refused = || Fault::new(format!("expected a whole number from 0 on, found {}", number.shown()));
        shape.push(dimension.ok_or_else(refused)?);
        Ok(())
    })?;
    Ok(shape)
}

fn datatype(reader: &mut Reader<'_>) -> Parsed<Datatype> {
    let text: Cow<'_, str> = reader.string()?;
    Datatype::parse(&text).ok_or_else(|| {
        let known = Datatype::ALL.map(Datatype::name).join(", ");
        Fault::new(format!("expected a datatype, one of {known}, found {}", quoted(&text)))
    })
}

/// The tensors of a body, in order, with the binary part that they share.
struct Tensors {
    binary: Bytes,
    budget: Budget,
    list: Vec<Tensor>,
}

/// A tensor on the way in.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    datatype: Option<Datatype>,
    shape: Option<Vec<usize>>,
    parameters: Option<Parameters>,
    data: Option<TensorData>,
    /// Where `data` stands, when it came before `datatype` or `shape`.
    postponed: Option<usize>,
}

impl Tensors {
    fn read(&mut self, reader: &mut Reader<'_>, count_max: usize) -> Parsed<()> {
        reader.array(|reader, index| {
            if index == count_max {
                return Err(Fault::new(format!("expected at most {count_max} tensors")));
            }
            let tensor = self.tensor(reader)?;
            self.list.push(tensor);
            Ok(())
        })
    }

    fn tensor(&mut self, reader: &mut Reader<'_>) -> Parsed<Tensor> {
        let mut draft = Draft::default();
        reader.object(|reader, key| match key {
            "name" => once(&mut draft.name, name(reader)?),
            "datatype" => once(&mut draft.datatype, datatype(reader)?),
            "shape" => once(&mut draft.shape, shape(reader)?),
            "parameters" => once(&mut draft.parameters, parameters(reader)?),
            "data" => self.data(reader, &mut draft),
            _ => reader.skip(Literals::Strict),
        })?;
        let name = draft.name.ok_or_else(|| missing("name", "a string"))?;
        let datatype = draft.datatype.ok_or_else(|| missing("datatype", "a string"))?;
        let shape = draft.shape.ok_or_else(|| missing("shape", "an array of whole numbers"))?;
        if let Some(at) = draft.postponed {
            let data = elements::read(&mut reader.rewound(at), datatype, &shape, &mut self.budget);
            draft.data = Some(data.map_err(|fault| fault.within("data"))?);
        }
        let mut parameters = draft.parameters.unwrap_or_default();
        let size = take_binary_size(&mut parameters).map_err(|fault| fault.within("parameters"))?;
        let data = match (draft.data, size) {
            (Some(data), None) => data,
            (None, Some(size)) => self.take_binary(datatype, &shape, size)?,
            (None, None) => return Err(missing("data", "an array, or the parameter `binary_data_size`")),
            (Some(_), Some(_)) => {
                return Err(Fault::new("found both `data` and `binary_data_size`: give one of them"));
            }
        };
        Ok(Tensor { name, datatype, shape, parameters, data })
    }

    fn data(&mut self, reader: &mut Reader<'_>, draft: &mut Draft) -> Parsed<()> {
        if draft.data.is_some() || draft.postponed.is_some() {
            return Err(twice());
        }
        if let (Some(datatype), Some(shape)) = (draft.datatype, &draft.shape) {
            draft.data = Some(elements::read(reader, datatype, shape, &mut self.budget)?);
            return Ok(());
        }
        reader.peek();
        draft.postponed = Some(reader.position());
        reader.skip(Literals::WithNonFinite)
    }

    fn take_binary(&mut self, datatype: Datatype, shape: &[usize], size: usize) -> Parsed<TensorData> {
        let left = self.binary.len();
        if size > left {
            return Err(Fault::new(format!(
                "`binary_data_size` is {size}, but only {left} bytes of binary data are left: check the header `Inference-Header-Content-Length`"
            )));
        }
        let bytes = self.binary.split_to(size);
        let data = binary::decode(datatype, shape, bytes).map_err(|error| match error {
            InferError::TooLarge(text) => Fault::too_large(text),
            other => Fault::new(other.to_string()),
        })?;
        Ok(data)
    }

    fn finish(self) -> Result<Vec<Tensor>, InferError> {
        if self.binary.is_empty() {
            return Ok(self.list);
        }
        let left = self.binary.len();
        Err(InferError::InvalidInput(format!(
            "{left} bytes of binary data belong to no tensor: give each binary tensor the parameter `binary_data_size`"
        )))
    }
}

/// Takes `binary_data_size` out: it describes the transport, not the tensor.
fn take_binary_size(parameters: &mut Parameters) -> Parsed<Option<usize>> {
    let Some(index) = parameters.iter().position(|(name, _)| name == BINARY_DATA_SIZE) else {
        return Ok(None);
    };
    let (_, value) = parameters.remove(index);
    match value {
        Parameter::Int(size) if usize::try_from(size).is_ok() => Ok(usize::try_from(size).ok()),
        _ => Err(Fault::new("expected a whole number of bytes").within(BINARY_DATA_SIZE)),
    }
}
