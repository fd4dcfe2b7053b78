//! Decodes messages only after counting what they would allocate.

use std::{fmt, marker::PhantomData};

use bytes::Buf;
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use super::{proto, scan};

/// A message whose encoded form can be checked before it is decoded.
pub(crate) trait Bounded {
    /// Says what is too much.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` for more parts than a request may have.
    fn check(_encoded: &[u8]) -> Result<(), Status> {
        Ok(())
    }
}

impl Bounded for proto::ModelInferRequest {
    fn check(encoded: &[u8]) -> Result<(), Status> {
        scan::infer_request(encoded).map_err(Status::resource_exhausted)
    }
}

/// Why nothing is loaded and unloaded by requests.
pub(super) const NO_CHANGE: &str =
    "models are not loaded and unloaded by requests: a process serves those it was started with";

// These are refused whatever they say, so nothing of them is decoded.
impl Bounded for proto::RepositoryModelLoadRequest {
    fn check(_: &[u8]) -> Result<(), Status> {
        Err(Status::unimplemented(NO_CHANGE))
    }
}

impl Bounded for proto::RepositoryModelUnloadRequest {
    fn check(_: &[u8]) -> Result<(), Status> {
        Err(Status::unimplemented(NO_CHANGE))
    }
}

impl Bounded for proto::ServerLiveRequest {}
impl Bounded for proto::ServerReadyRequest {}
impl Bounded for proto::ServerMetadataRequest {}
impl Bounded for proto::ModelReadyRequest {}
impl Bounded for proto::ModelMetadataRequest {}
impl Bounded for proto::ServerLiveResponse {}
impl Bounded for proto::ServerReadyResponse {}
impl Bounded for proto::ServerMetadataResponse {}
impl Bounded for proto::ModelReadyResponse {}
impl Bounded for proto::ModelMetadataResponse {}
impl Bounded for proto::ModelInferResponse {}
impl Bounded for proto::ModelStatisticsRequest {}
impl Bounded for proto::ModelStatisticsResponse {}
impl Bounded for proto::RepositoryIndexRequest {}
impl Bounded for proto::RepositoryIndexResponse {}
impl Bounded for proto::RepositoryModelLoadResponse {}
impl Bounded for proto::RepositoryModelUnloadResponse {}

/// Protobuf, with [`Bounded::check`] before decoding.
pub(crate) struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for BoundedCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundedCodec")
    }
}

/// Decodes what [`Bounded::check`] lets through.
pub(crate) struct BoundedDecoder<U>(PhantomData<U>);

impl<U> fmt::Debug for BoundedDecoder<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundedDecoder")
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Bounded + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

impl<U: Message + Bounded + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A handle to the buffer that arrived: byte fields become slices of it.
        let encoded = buffer.copy_to_bytes(buffer.remaining());
        U::check(&encoded)?;
        U::decode(encoded)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("the message cannot be decoded: {error}")))
    }
}
