//! Compressed bodies: gzip and deflate, in both directions, never more than the limit once inflated.

use std::io::{Read, Write};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::{
    Compression,
    read::{MultiGzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use inference::InferError;

use super::body::too_large;

/// Smaller answers travel in one packet whether compressed or not.
pub(super) const COMPRESSED_BYTES_MIN: usize = 1024;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, which HTTP calls deflate.
    Deflate,
}

impl Coding {
    /// The coding of the body of a request; the error says which ones are understood.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Self, String> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else {
            return Ok(Self::Identity);
        };
        let text = value.to_str().unwrap_or("?").trim();
        let coding = if values.next().is_some() { None } else { Self::parse(text) };
        coding.ok_or_else(|| {
            format!("the content encoding `{text}` is not understood: send the body as gzip, deflate or as it is")
        })
    }

    /// The coding in which the answer is wanted. Only a client that names one alone wants it: most libraries name all they
    /// can read with every request, and compressing tensors then costs more than it saves.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::ACCEPT_ENCODING).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Self::Identity;
        };
        value.to_str().ok().and_then(Self::parse).unwrap_or(Self::Identity)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        [Self::Identity, Self::Gzip, Self::Deflate].into_iter().find(|coding| text.eq_ignore_ascii_case(coding.name()))
    }

    /// The name in HTTP headers.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// Undoes `coding`; at most `bytes_max` come out.
pub(super) fn inflate(body: Bytes, coding: Coding, bytes_max: usize) -> Result<Bytes, InferError> {
    match coding {
        Coding::Identity => Ok(body),
        Coding::Gzip => read_bounded(MultiGzDecoder::new(body.as_ref()), bytes_max),
        Coding::Deflate => read_bounded(ZlibDecoder::new(body.as_ref()), bytes_max),
    }
}

fn read_bounded(decoder: impl Read, bytes_max: usize) -> Result<Bytes, InferError> {
    let mut inflated = Vec::new();
    // One byte more than the limit tells a body at the limit from one beyond it.
    let mut bounded = decoder.take(u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1));
    bounded.read_to_end(&mut inflated).map_err(|error| {
        InferError::InvalidInput(format!("the body cannot be decompressed as its content encoding says: {error}"))
    })?;
    if inflated.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(inflated.into())
}

/// Compresses `bytes`, quickly rather than well.
pub(super) fn compress(bytes: &[u8], coding: Coding) -> Result<Vec<u8>, InferError> {
    let room = Vec::with_capacity(bytes.len() / 2);
    let done = match coding {
        Coding::Identity => return Ok(bytes.to_vec()),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(room, Compression::fast());
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(room, Compression::fast());
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
    };
    done.map_err(|error| InferError::Internal(format!("the answer cannot be compressed: {error}")))
}
