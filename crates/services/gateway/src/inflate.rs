//! The beginning of a compressed gRPC message, as far as routing looks at it. The rest passes as it came: the runtime inflates it
//! within its limit on messages, and a message that would pass it is refused there.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use flate2::read::{GzDecoder, ZlibDecoder};
use http::HeaderMap;

use crate::{
    error::{Kind, Refusal},
    headers,
};

/// What a runtime reads, for `grpc-accept-encoding`.
pub(crate) const ACCEPTED: &str = "identity,gzip,deflate";

/// How the messages of a call are compressed when they say that they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, as in HTTP.
    Deflate,
}

impl Coding {
    /// What `grpc-encoding` says.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(headers::GRPC_ENCODING) else { return Ok(Self::Identity) };
        match value.as_bytes() {
            b"identity" => Ok(Self::Identity),
            b"gzip" => Ok(Self::Gzip),
            b"deflate" => Ok(Self::Deflate),
            _ => {
                let text = "the message's compression is not understood: send it as gzip, deflate or as it is";
                Err(Refusal::new(Kind::Unimplemented, text))
            }
        }
    }

    /// Inflates the beginning of a message; at most `bytes_max` come out, and fewer when `message` is itself cut off.
    pub(crate) fn beginning(self, message: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, Refusal> {
        match self {
            Self::Identity => {
                let text = "a message says that it is compressed, and `grpc-encoding` does not say how";
                Err(Refusal::new(Kind::Malformed, text))
            }
            Self::Gzip => read(GzDecoder::new(message), bytes_max),
            Self::Deflate => read(ZlibDecoder::new(message), bytes_max),
        }
    }
}

fn read(decoder: impl Read, bytes_max: usize) -> Result<Cow<'static, [u8]>, Refusal> {
    let mut inflated = Vec::new();
    let max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    match decoder.take(max).read_to_end(&mut inflated) {
        // What was there before the cut counts.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(Refusal::new(Kind::Malformed, "the message is not compressed as `grpc-encoding` says"))
        }
        _ => Ok(Cow::Owned(inflated)),
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, read};
    use proptest::prelude::*;

    use super::*;

    fn deflated(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Identity => out.extend_from_slice(bytes),
            Coding::Gzip => drop(read::GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut out).unwrap()),
            Coding::Deflate => drop(read::ZlibEncoder::new(bytes, Compression::fast()).read_to_end(&mut out).unwrap()),
        }
        out
    }

    #[test]
    fn no_more_comes_out_than_is_looked_at() {
        let bomb = vec![0; 8 * 1024 * 1024];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let small = deflated(coding, &bomb);
            assert!(small.len() < bomb.len() / 100);
            let beginning = coding.beginning(&small, 1000).unwrap();
            assert_eq!(beginning.len(), 1000);
        }
    }

    #[test]
    fn what_was_there_before_the_cut_counts() {
        let bytes: Vec<u8> = (0..20_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Deflate] {
            let whole = deflated(coding, &bytes);
            let beginning = coding.beginning(&whole[..whole.len() / 2], usize::MAX).unwrap();
            assert!(beginning.len() > 1000 && bytes.starts_with(&beginning));
            assert_eq!(coding.beginning(&whole, usize::MAX).unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_not_so_compressed_is_malformed() {
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
            let refused = coding.beginning(b"not compressed at all", 1000).unwrap_err();
            assert_eq!(refused.kind, Kind::Malformed);
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), gzip in any::<bool>()) {
            let coding = if gzip { Coding::Gzip } else { Coding::Deflate };
            let _ = coding.beginning(&bytes, 100);
        }
    }
}
