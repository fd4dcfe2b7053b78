//! Two answers and what they say of each other. This is the one place where the gateway reads tensors, and no client waits for it.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use inference::{
    Datatype, InferResponse, Tensor, TensorData,
    agreement::{self, Agreement, Answer},
    binary,
};
use prost::Message;

use super::{Form, Outcome, is_passing};
use crate::{
    error::Protocol,
    headers,
    peek::{PREFIX_LEN, Prefix},
};

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    status: u16,
    grpc_status: Option<u16>,
    header_length: Option<usize>,
    pieces: Vec<Bytes>,
    len: usize,
}

impl Taken {
    pub(super) fn new(status: u16, map: &HeaderMap) -> Self {
        let length = map.get(binary::HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self { status, grpc_status: headers::grpc_status(map), header_length: length, ..Self::default() }
    }

    pub(super) fn note_trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = headers::grpc_status(trailers).or(self.grpc_status);
    }

    /// Adds a piece, unless that passes `max`.
    pub(super) fn add(&mut self, data: Bytes, max: usize) -> bool {
        self.len = self.len.saturating_add(data.len());
        if self.len > max {
            return false;
        }
        self.pieces.push(data);
        true
    }

    pub(super) fn clear(&mut self) {
        self.pieces = Vec::new();
    }

    /// The outcome: gRPC's status, or HTTP's.
    fn code(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Rest => self.status,
            // A call without a status has no outcome.
            Protocol::Grpc => self.grpc_status.unwrap_or(2),
        }
    }

    fn whole(mut self) -> Bytes {
        if let ([_], Some(only)) = (self.pieces.as_slice(), self.pieces.first().cloned()) {
            return only;
        }
        let mut whole = BytesMut::with_capacity(self.len);
        self.pieces.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
        whole.freeze()
    }

    fn read(self, form: Form) -> Option<Answer> {
        let length = self.header_length;
        match form {
            Form::V1 => Answer::read_v1(&self.whole()).ok(),
            Form::V2 => Answer::read(self.whole(), length).ok(),
            Form::Grpc => read_message(&self.whole()),
        }
    }
}

/// What the two answers say of each other.
pub(super) fn judge(
    (protocol, form): (Protocol, Form),
    primary: Taken,
    mirrored: Taken,
) -> (Outcome, Option<Agreement>) {
    let (one, other) = (primary.code(protocol), mirrored.code(protocol));
    if is_passing(protocol, one) {
        return (Outcome::Dropped("primary_failed"), None);
    }
    if is_passing(protocol, other) {
        return (Outcome::Failed("status"), None);
    }
    if one != other {
        return (Outcome::Differed("status"), None);
    }
    let answered = if protocol == Protocol::Grpc { one == 0 } else { (200..300).contains(&one) };
    if !answered {
        // Both refuse it in the same way; in which words does not matter.
        return (Outcome::Agreed, None);
    }
    let Some(primary) = primary.read(form) else { return (Outcome::Dropped("unreadable"), None) };
    let Some(mirrored) = mirrored.read(form) else { return (Outcome::Failed("unreadable"), None) };
    let agreement = agreement::compare(&primary, &mirrored);
    let outcome = match agreement {
        _ if agreement.agrees() => Outcome::Agreed,
        Agreement { same_form: false, .. } => Outcome::Differed("form"),
        Agreement { same_classes: Some(_), .. } => Outcome::Differed("class"),
        _ => Outcome::Differed("score"),
    };
    (outcome, Some(agreement))
}

/// `ModelInferResponse`, as far as answers are compared.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<OutputTensor>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    raw: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct OutputTensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(bool, repeated, tag = "1")]
    bools: Vec<bool>,
    #[prost(int32, repeated, tag = "2")]
    ints: Vec<i32>,
    #[prost(int64, repeated, tag = "3")]
    longs: Vec<i64>,
    #[prost(uint32, repeated, tag = "4")]
    uints: Vec<u32>,
    #[prost(uint64, repeated, tag = "5")]
    ulongs: Vec<u64>,
    #[prost(float, repeated, tag = "6")]
    floats: Vec<f32>,
    #[prost(double, repeated, tag = "7")]
    doubles: Vec<f64>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    texts: Vec<Bytes>,
}

fn read_message(framed: &Bytes) -> Option<Answer> {
    let prefix = Prefix::read(framed).filter(|prefix| !prefix.compressed)?;
    let end = usize::try_from(prefix.len).ok()?.checked_add(PREFIX_LEN)?;
    let message = framed.get(PREFIX_LEN..end).map(|message| framed.slice_ref(message))?;
    let Response { outputs, raw } = Response::decode(message).ok()?;
    let mut raw = raw.into_iter();
    let outputs = outputs.into_iter().map(|output| tensor(output, raw.next())).collect::<Option<_>>()?;
    let (model_name, model_version) = (String::new(), String::new());
    Some(Answer::of(&InferResponse { model_name, model_version, id: None, parameters: Vec::new(), outputs }))
}

fn tensor(output: OutputTensor, raw: Option<Bytes>) -> Option<Tensor> {
    let datatype = Datatype::parse(&output.datatype)?;
    let shape =
        output.shape.iter().map(|&dimension| usize::try_from(dimension).ok()).collect::<Option<Vec<usize>>>()?;
    let data = match raw {
        Some(raw) => binary::decode(datatype, &shape, raw).ok()?,
        None => typed(datatype, output.contents.unwrap_or_default())?,
    };
    Some(Tensor { name: output.name, datatype, shape, parameters: Vec::new(), data })
}

/// The elements in the field of their type, as the datatype has them.
fn typed(datatype: Datatype, contents: Contents) -> Option<TensorData> {
    let fixed = |bytes: Vec<u8>| Some(TensorData::Fixed(bytes.into()));
    let Contents { bools, ints, longs, uints, ulongs, floats, doubles, texts } = contents;
    match datatype {
        Datatype::Bool => fixed(bools.into_iter().map(u8::from).collect()),
        Datatype::Int8 => {
            fixed(ints.into_iter().filter_map(|n| i8::try_from(n).ok()).flat_map(i8::to_le_bytes).collect())
        }
        Datatype::Int16 => {
            fixed(ints.into_iter().filter_map(|n| i16::try_from(n).ok()).flat_map(i16::to_le_bytes).collect())
        }
        Datatype::Int32 => fixed(ints.into_iter().flat_map(i32::to_le_bytes).collect()),
        Datatype::Int64 => fixed(longs.into_iter().flat_map(i64::to_le_bytes).collect()),
        Datatype::Uint8 => fixed(uints.into_iter().filter_map(|n| u8::try_from(n).ok()).collect()),
        Datatype::Uint16 => {
            fixed(uints.into_iter().filter_map(|n| u16::try_from(n).ok()).flat_map(u16::to_le_bytes).collect())
        }
        Datatype::Uint32 => fixed(uints.into_iter().flat_map(u32::to_le_bytes).collect()),
        Datatype::Uint64 => fixed(ulongs.into_iter().flat_map(u64::to_le_bytes).collect()),
        Datatype::Fp32 => fixed(floats.into_iter().flat_map(f32::to_le_bytes).collect()),
        Datatype::Fp64 => fixed(doubles.into_iter().flat_map(f64::to_le_bytes).collect()),
        Datatype::Bytes => Some(TensorData::Strings(texts)),
        // They have no field of their type.
        Datatype::Fp16 | Datatype::Bf16 => None,
    }
}

#[cfg(test)]
mod tests;
