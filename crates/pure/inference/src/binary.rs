//! Tensors as bytes, and bodies that hold JSON and then bytes: the protocol's binary tensor data extension.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    Datatype, InferError, InferRequest, InferResponse, ModelMetadata, Parameter, Tensor, TensorData, TensorSpec, json,
    limits::STRINGS_MAX, tensor,
};

/// The header, in lower case, whose value is the number of bytes of JSON before the binary tensors.
pub const HEADER: &str = "inference-header-content-length";

/// Bytes of the length before each element of a `BYTES` tensor.
const PREFIX_BYTES: usize = 4;

/// Which outputs travel as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputEncoding {
    binary: bool,
    exceptions: Vec<String>,
}

/// A message ready to be sent: the JSON, then the binary tensors in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The JSON.
    pub json: Bytes,
    /// The bytes of the binary tensors.
    pub tensors: Vec<Bytes>,
    /// Whether any tensor is binary, so that the header [`HEADER`] is needed.
    pub binary: bool,
}

impl OutputEncoding {
    /// What `request` asks for by `binary_data_output`, and by `binary_data` of single outputs.
    ///
    /// # Errors
    ///
    /// [`InferError::InvalidInput`] when such a parameter is not a boolean.
    pub fn asked(request: &InferRequest) -> Result<Self, InferError> {
        let binary = flag(&request.parameters, "binary_data_output", "parameters")?.unwrap_or(false);
        let mut exceptions = Vec::new();
        for (index, output) in request.outputs.iter().enumerate() {
            if output.parameters.is_empty() {
                continue;
            }
            let place = format!("outputs[{index}].parameters");
            if flag(&output.parameters, "binary_data", &place)?.is_some_and(|wanted| wanted != binary) {
                exceptions.push(output.name.clone());
            }
        }
        Ok(Self { binary, exceptions })
    }

    /// Every output as bytes.
    pub fn binary() -> Self {
        Self { binary: true, exceptions: Vec::new() }
    }

    /// Whether the output `name` travels as bytes.
    pub fn is_binary(&self, name: &str) -> bool {
        self.binary != self.exceptions.iter().any(|exception| exception == name)
    }
}

impl Encoded {
    /// Bytes of the whole message.
    pub fn len(&self) -> usize {
        self.tensors.iter().fold(self.json.len(), |sum, bytes| sum.saturating_add(bytes.len()))
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole message in one piece; copies unless it is JSON alone.
    pub fn into_bytes(self) -> Bytes {
        if self.tensors.is_empty() {
            return self.json;
        }
        let mut whole = BytesMut::with_capacity(self.len());
        whole.extend_from_slice(&self.json);
        for tensor in &self.tensors {
            whole.extend_from_slice(tensor);
        }
        whole.freeze()
    }
}

fn flag(parameters: &[(String, Parameter)], name: &str, place: &str) -> Result<Option<bool>, InferError> {
    match parameters.iter().find(|(known, _)| known == name) {
        None => Ok(None),
        Some((_, Parameter::Bool(value))) => Ok(Some(*value)),
        Some(_) => Err(InferError::InvalidInput(format!("`{place}.{name}`: expected `true` or `false`"))),
    }
}

/// Reads the body of a request. `header_length` is the value of [`HEADER`]; `None` means that all of it is JSON, and zero that
/// all of it is the one input of the model, whose outputs are then all sent as bytes.
///
/// Binary tensors and plain strings are slices of `body`; nothing of it is copied but numbers written as JSON.
///
/// # Errors
///
/// [`InferError::InvalidInput`] with the place of what is wrong, [`InferError::TooLarge`] when a limit is passed.
pub fn read_request(
    body: Bytes,
    header_length: Option<usize>,
    metadata: &ModelMetadata,
) -> Result<(InferRequest, OutputEncoding), InferError> {
    if header_length == Some(0) {
        return Ok((raw_request(body, metadata)?, OutputEncoding::binary()));
    }
    let (json, binary) = split(body, header_length)?;
    let request = json::read_request(&json, binary)?;
    let encoding = OutputEncoding::asked(&request)?;
    Ok((request, encoding))
}

/// Reads the body of a response, as a client does.
///
/// # Errors
///
/// [`InferError::InvalidInput`] with the place of what is wrong.
pub fn read_response(body: Bytes, header_length: Option<usize>) -> Result<InferResponse, InferError> {
    let (json, binary) = split(body, header_length)?;
    json::read_response(&json, binary)
}

fn split(mut body: Bytes, header_length: Option<usize>) -> Result<(Bytes, Bytes), InferError> {
    let Some(length) = header_length else {
        return Ok((body, Bytes::new()));
    };
    if length > body.len() {
        return Err(InferError::InvalidInput(format!(
            "the header `Inference-Header-Content-Length` is {length}, but the body has only {} bytes",
            body.len()
        )));
    }
    let binary = body.split_off(length);
    Ok((body, binary))
}

fn raw_request(body: Bytes, metadata: &ModelMetadata) -> Result<InferRequest, InferError> {
    let [input] = metadata.inputs.as_slice() else {
        return Err(InferError::InvalidInput(format!(
            "a raw request (header `Inference-Header-Content-Length: 0`) needs a model with one input, `{}` has {}: describe the inputs in JSON",
            metadata.name,
            metadata.inputs.len()
        )));
    };
    let (shape, data) = match input.datatype.size() {
        Some(size) => {
            let shape = raw_shape(input, body.len(), size)?;
            let data = decode(input.datatype, &shape, body)?;
            (shape, data)
        }
        None => (raw_text_shape(input)?, TensorData::Strings(vec![body])),
    };
    let tensor = Tensor { name: input.name.clone(), datatype: input.datatype, shape, parameters: Vec::new(), data };
    Ok(InferRequest { inputs: vec![tensor], ..InferRequest::default() })
}

/// Solves the variable dimension from the size of the body. Where two are variable the first one is the batch, which is one.
fn raw_shape(input: &TensorSpec, body_len: usize, size: usize) -> Result<Vec<usize>, InferError> {
    let variable = input.shape.iter().filter(|&&dimension| dimension < 0).count();
    let batch_is_one = variable == 2 && input.shape.first().is_some_and(|&first| first < 0);
    if variable > 1 && !batch_is_one {
        return Err(InferError::InvalidInput(format!(
            "a raw request cannot tell the {variable} variable dimensions of input `{}` {:?}: give its shape in JSON",
            input.name, input.shape
        )));
    }
    let known = |index: usize, dimension: i64| match usize::try_from(dimension) {
        Ok(dimension) => Some(dimension),
        Err(_) if batch_is_one && index == 0 => Some(1),
        Err(_) => None,
    };
    let shape: Vec<Option<usize>> =
        input.shape.iter().enumerate().map(|(index, &dimension)| known(index, dimension)).collect();
    let fixed: Vec<usize> = shape.iter().copied().flatten().collect();
    let refused = || {
        InferError::InvalidInput(format!(
            "a body of {body_len} bytes is not a whole number of rows of input `{}` {} {:?}",
            input.name, input.datatype, input.shape
        ))
    };
    let step = tensor::elements(&fixed).and_then(|elements| elements.checked_mul(size)).ok_or_else(refused)?;
    let solved = body_len.checked_div(step).unwrap_or(0);
    if solved.checked_mul(step) != Some(body_len) || (fixed.len() == shape.len() && solved != 1 && body_len != 0) {
        return Err(refused());
    }
    Ok(shape.into_iter().map(|dimension| dimension.unwrap_or(solved)).collect())
}

fn raw_text_shape(input: &TensorSpec) -> Result<Vec<usize>, InferError> {
    if input.shape.iter().all(|&dimension| dimension == 1 || dimension < 0) {
        return Ok(vec![1; input.shape.len()]);
    }
    Err(InferError::InvalidInput(format!(
        "a raw request is one string, but input `{}` has shape {:?}: describe the input in JSON",
        input.name, input.shape
    )))
}

/// Takes `bytes` over as the elements of a tensor; their number must be that of `shape`, to the byte.
///
/// # Errors
///
/// [`InferError::InvalidInput`] when sizes differ or a `BOOL` is neither 0 nor 1, [`InferError::TooLarge`] for too many strings.
pub fn decode(datatype: Datatype, shape: &[usize], bytes: Bytes) -> Result<TensorData, InferError> {
    let too_large = || InferError::TooLarge(format!("shape {shape:?} has more elements than fit in memory"));
    let elements = tensor::elements(shape).ok_or_else(too_large)?;
    let Some(size) = datatype.size() else {
        return decode_strings(elements, bytes).map(TensorData::Strings);
    };
    let wanted = elements.checked_mul(size).ok_or_else(too_large)?;
    if bytes.len() != wanted {
        return Err(InferError::InvalidInput(format!(
            "expected {wanted} bytes for {datatype} of shape {shape:?}, found {}",
            bytes.len()
        )));
    }
    if datatype == Datatype::Bool
        && let Some(index) = bytes.iter().position(|&byte| byte > 1)
    {
        return Err(InferError::InvalidInput(format!(
            "expected 0 or 1 in each byte of a BOOL tensor, not so byte {index}"
        )));
    }
    Ok(TensorData::Fixed(bytes))
}

fn decode_strings(elements: usize, mut bytes: Bytes) -> Result<Vec<Bytes>, InferError> {
    if elements > STRINGS_MAX {
        return Err(InferError::TooLarge(format!("expected at most {STRINGS_MAX} strings, the shape has {elements}")));
    }
    let mut strings = Vec::with_capacity(elements.min(bytes.len() / PREFIX_BYTES));
    while let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() {
        let index = strings.len();
        if index == elements {
            break;
        }
        let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        let left = bytes.len() - PREFIX_BYTES;
        if length > left {
            return Err(InferError::InvalidInput(format!(
                "element {index} says that it has {length} bytes, but only {left} are left: each BYTES element begins with its length in four bytes, little-endian"
            )));
        }
        let mut element = bytes.split_to(PREFIX_BYTES + length);
        strings.push(element.split_off(PREFIX_BYTES));
    }
    if strings.len() != elements || !bytes.is_empty() {
        let (found, left) = (strings.len(), bytes.len());
        return Err(InferError::InvalidInput(format!(
            "expected {elements} BYTES elements, found {found} and {left} bytes after them: each begins with its length in four bytes, little-endian"
        )));
    }
    Ok(strings)
}

/// The bytes of a tensor; fixed-size elements are not copied.
///
/// # Errors
///
/// [`InferError::TooLarge`] when a string has more bytes than its length prefix can say.
pub fn encode(data: &TensorData) -> Result<Bytes, InferError> {
    match data {
        TensorData::Fixed(bytes) => Ok(bytes.clone()),
        TensorData::Strings(strings) => {
            let total = strings.iter().map(|string| string.len() + PREFIX_BYTES).fold(0, usize::saturating_add);
            let mut out = BytesMut::with_capacity(total);
            for string in strings {
                let length = u32::try_from(string.len())
                    .map_err(|_| InferError::TooLarge("a string has more than 4 GiB".to_owned()))?;
                out.put_u32_le(length);
                out.put_slice(string);
            }
            Ok(out.freeze())
        }
    }
}

/// Writes a response, each output as `encoding` says.
///
/// # Errors
///
/// [`InferError::InvalidInput`] when an output cannot be JSON: a `BYTES` element that is not UTF-8.
pub fn write_response(response: &InferResponse, encoding: &OutputEncoding) -> Result<Encoded, InferError> {
    let mut tensors = Vec::new();
    let mut binary = false;
    for output in &response.outputs {
        tensors.push(if encoding.is_binary(&output.name) { Some(encode(&output.data)?) } else { None });
        binary |= tensors.last().is_some_and(Option::is_some);
    }
    let json = json::write_outputs(response, &tensors)?;
    Ok(Encoded { json: json.into(), tensors: tensors.into_iter().flatten().collect(), binary })
}

/// Writes a request, as a client does, with inputs as bytes or as JSON.
///
/// # Errors
///
/// [`InferError::InvalidInput`] when an input cannot be JSON: a `BYTES` element that is not UTF-8.
pub fn write_request(request: &InferRequest, binary: bool) -> Result<Encoded, InferError> {
    let encoded = |input: &Tensor| if binary { encode(&input.data).map(Some) } else { Ok(None) };
    let tensors = request.inputs.iter().map(encoded).collect::<Result<Vec<_>, _>>()?;
    let json = json::write_inputs(request, &tensors)?;
    let binary = binary && !request.inputs.is_empty();
    Ok(Encoded { json: json.into(), tensors: tensors.into_iter().flatten().collect(), binary })
}

#[cfg(test)]
mod tests;
