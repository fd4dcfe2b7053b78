//! Writes the protocol's JSON straight from buffers: shortest digits that read back as the same number.

use bytes::Bytes;
use half::{bf16, f16};

use super::request::BINARY_DATA_SIZE;
use crate::{
    Datatype, InferError, InferRequest, InferResponse, ModelMetadata, Parameter, RequestedOutput, Tensor, TensorData,
    TensorSpec,
};

/// Writes a response; an output with bytes in `binary` gets their size instead of data.
pub(crate) fn write_outputs(response: &InferResponse, binary: &[Option<Bytes>]) -> Result<Vec<u8>, InferError> {
    let mut out = Vec::with_capacity(256 + estimate(&response.outputs, binary));
    out.extend_from_slice(b"{\"model_name\":");
    string(&mut out, &response.model_name);
    out.extend_from_slice(b",\"model_version\":");
    string(&mut out, &response.model_version);
    if let Some(id) = &response.id {
        out.extend_from_slice(b",\"id\":");
        string(&mut out, id);
    }
    parameters(&mut out, &response.parameters, None);
    out.extend_from_slice(b",\"outputs\":");
    tensors(&mut out, "outputs", &response.outputs, binary)?;
    out.push(b'}');
    Ok(out)
}

/// Writes a request; an input with bytes in `binary` gets their size instead of data.
pub(crate) fn write_inputs(request: &InferRequest, binary: &[Option<Bytes>]) -> Result<Vec<u8>, InferError> {
    let mut out = Vec::with_capacity(256 + estimate(&request.inputs, binary));
    out.push(b'{');
    if let Some(id) = &request.id {
        out.extend_from_slice(b"\"id\":");
        string(&mut out, id);
        out.push(b',');
    }
    out.extend_from_slice(b"\"inputs\":");
    tensors(&mut out, "inputs", &request.inputs, binary)?;
    parameters(&mut out, &request.parameters, None);
    if !request.outputs.is_empty() {
        out.extend_from_slice(b",\"outputs\":");
        list(&mut out, &request.outputs, requested);
    }
    out.push(b'}');
    Ok(out)
}

/// Writes what a model says of itself.
pub fn write_metadata(metadata: &ModelMetadata) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"{\"name\":");
    string(&mut out, &metadata.name);
    out.extend_from_slice(b",\"versions\":");
    list(&mut out, &metadata.versions, |out, version| string(out, version));
    out.extend_from_slice(b",\"platform\":");
    string(&mut out, &metadata.platform);
    out.extend_from_slice(b",\"inputs\":");
    list(&mut out, &metadata.inputs, spec);
    out.extend_from_slice(b",\"outputs\":");
    list(&mut out, &metadata.outputs, spec);
    out.push(b'}');
    out
}

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    string(out, text);
}

/// Room for most answers, so that the buffer grows at most once or twice.
fn estimate(tensors: &[Tensor], binary: &[Option<Bytes>]) -> usize {
    let json = tensors.iter().zip(binary).filter(|(_, bytes)| bytes.is_none());
    json.map(|(tensor, _)| 128 + tensor.data.elements(tensor.datatype).saturating_mul(12)).sum()
}

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn spec(out: &mut Vec<u8>, spec: &TensorSpec) {
    out.extend_from_slice(b"{\"name\":");
    string(out, &spec.name);
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(spec.datatype.name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":");
    list(out, &spec.shape, |out, dimension| whole(out, *dimension));
    out.push(b'}');
}

fn requested(out: &mut Vec<u8>, output: &RequestedOutput) {
    out.extend_from_slice(b"{\"name\":");
    string(out, &output.name);
    parameters(out, &output.parameters, None);
    out.push(b'}');
}

fn tensors(out: &mut Vec<u8>, key: &str, tensors: &[Tensor], binary: &[Option<Bytes>]) -> Result<(), InferError> {
    out.push(b'[');
    let sizes = binary.iter().map(|bytes| bytes.as_ref().map(Bytes::len));
    for (index, (tensor, size)) in tensors.iter().zip(sizes).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        string(out, &tensor.name);
        out.extend_from_slice(b",\"datatype\":\"");
        out.extend_from_slice(tensor.datatype.name().as_bytes());
        out.extend_from_slice(b"\",\"shape\":");
        list(out, &tensor.shape, |out, dimension| whole(out, *dimension));
        parameters(out, &tensor.parameters, size);
        if size.is_none() {
            out.extend_from_slice(b",\"data\":");
            data(out, tensor).map_err(|at| {
                InferError::InvalidInput(format!(
                    "`{key}[{index}].data[{at}]`: `{}` holds bytes that are not UTF-8, so they cannot be JSON: ask for binary data by the parameter `binary_data`",
                    tensor.name
                ))
            })?;
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Writes `,"parameters":{…}`, or nothing when there are none. A tensor's size in bytes comes first.
fn parameters(out: &mut Vec<u8>, parameters: &[(String, Parameter)], binary_size: Option<usize>) {
    if parameters.is_empty() && binary_size.is_none() {
        return;
    }
    out.extend_from_slice(b",\"parameters\":{");
    if let Some(size) = binary_size {
        string(out, BINARY_DATA_SIZE);
        out.push(b':');
        whole(out, size);
    }
    for (index, (name, value)) in parameters.iter().enumerate() {
        if index > 0 || binary_size.is_some() {
            out.push(b',');
        }
        string(out, name);
        out.push(b':');
        match value {
            Parameter::Bool(value) => boolean(out, *value),
            Parameter::Int(value) => whole(out, *value),
            Parameter::Uint(value) => whole(out, *value),
            Parameter::Double(value) => float(out, *value),
            Parameter::String(value) => string(out, value),
        }
    }
    out.push(b'}');
}

/// Writes the elements, flat. The error is the index of a string that is not UTF-8.
fn data(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), usize> {
    out.push(b'[');
    match &tensor.data {
        TensorData::Strings(strings) => {
            for (index, bytes) in strings.iter().enumerate() {
                string(out, std::str::from_utf8(bytes).map_err(|_| index)?);
                out.push(b',');
            }
        }
        TensorData::Fixed(bytes) => fixed(out, tensor.datatype, bytes),
    }
    // Each element was followed by a comma: the last one becomes the end of the array.
    match out.last_mut() {
        Some(last) if *last == b',' => *last = b']',
        _ => out.push(b']'),
    }
    Ok(())
}

/// Writes elements, a comma after each.
pub(super) fn fixed(out: &mut Vec<u8>, datatype: Datatype, bytes: &[u8]) {
    match datatype {
        Datatype::Bool => each(out, bytes, |out, [byte]: [u8; 1]| boolean(out, byte != 0)),
        Datatype::Uint8 => each(out, bytes, |out, element| whole(out, u8::from_le_bytes(element))),
        Datatype::Uint16 => each(out, bytes, |out, element| whole(out, u16::from_le_bytes(element))),
        Datatype::Uint32 => each(out, bytes, |out, element| whole(out, u32::from_le_bytes(element))),
        Datatype::Uint64 => each(out, bytes, |out, element| whole(out, u64::from_le_bytes(element))),
        Datatype::Int8 => each(out, bytes, |out, element| whole(out, i8::from_le_bytes(element))),
        Datatype::Int16 => each(out, bytes, |out, element| whole(out, i16::from_le_bytes(element))),
        Datatype::Int32 => each(out, bytes, |out, element| whole(out, i32::from_le_bytes(element))),
        Datatype::Int64 => each(out, bytes, |out, element| whole(out, i64::from_le_bytes(element))),
        Datatype::Fp16 => each(out, bytes, |out, element| float(out, f16::from_le_bytes(element).to_f32())),
        Datatype::Bf16 => each(out, bytes, |out, element| float(out, bf16::from_le_bytes(element).to_f32())),
        Datatype::Fp32 => each(out, bytes, |out, element| float(out, f32::from_le_bytes(element))),
        Datatype::Fp64 => each(out, bytes, |out, element| float(out, f64::from_le_bytes(element))),
        // Strings are never held as fixed-size elements.
        Datatype::Bytes => {}
    }
}

fn each<const N: usize>(out: &mut Vec<u8>, bytes: &[u8], write: impl Fn(&mut Vec<u8>, [u8; N])) {
    let (elements, _) = bytes.as_chunks::<N>();
    for element in elements {
        write(out, *element);
        out.push(b',');
    }
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends the digits.
pub(crate) fn whole<T: itoa::Integer>(out: &mut Vec<u8>, value: T) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A float that JSON may have no number for.
pub(crate) trait Float: zmij::Float + Copy {
    /// The same value.
    fn as_double(self) -> f64;
}

impl Float for f32 {
    fn as_double(self) -> f64 {
        f64::from(self)
    }
}

impl Float for f64 {
    fn as_double(self) -> f64 {
        self
    }
}

/// Writes a number; what is not finite becomes a string, which keeps the text valid JSON.
fn float<F: Float>(out: &mut Vec<u8>, value: F) {
    if value.as_double().is_finite() {
        plain_float(out, value);
    } else {
        out.push(b'"');
        plain_float(out, value);
        out.push(b'"');
    }
}

/// Appends the shortest digits that read back as the same number, or `NaN`, `Infinity`, `-Infinity`.
pub(crate) fn plain_float<F: Float>(out: &mut Vec<u8>, value: F) {
    let double = value.as_double();
    if double.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if double.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if double > 0.0 { b"Infinity".as_slice() } else { b"-Infinity" });
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let plain = super::text::plain_prefix(rest);
        let (before, from) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let Some((&special, after)) = from.split_first() else { break };
        escape(out, special);
        rest = after;
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            let digits = [byte >> 4, byte & 15].map(|nibble| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
            out.extend_from_slice(&digits);
        }
    }
}
