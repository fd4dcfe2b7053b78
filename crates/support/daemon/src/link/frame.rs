//! Frames as bytes. A frame is ten bytes and a payload: length of the payload (u32), stream (u32), kind (u8), flags (u8), all
//! little-endian. The payload of a head is the length of its fields (u32), the fields, and the first data of the body.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, uri::PathAndQuery};

use super::{DATA_BYTES_MAX, HEAD_BYTES_MAX};

/// Bytes before the payload.
pub(super) const HEADER_LEN: usize = 10;
/// The longest payload: a head with the longest data.
const PAYLOAD_BYTES_MAX: usize = 4 + HEAD_BYTES_MAX + DATA_BYTES_MAX;
const END: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The head of a message, and its first data.
    Head,
    /// More data.
    Data,
    /// The trailers, which end the message.
    Trailers,
    /// The stream is over; with the end flag it was refused and nothing was run.
    Reset,
    /// So many bytes (u32) more may be sent on the stream.
    Credit,
    /// Streams after this one are not taken.
    Leaving,
}

const KINDS: [Kind; 6] = [Kind::Head, Kind::Data, Kind::Trailers, Kind::Reset, Kind::Credit, Kind::Leaving];

/// The ten bytes before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) stream: u32,
    pub(super) kind: Kind,
    /// Whether the message ends with this frame.
    pub(super) end: bool,
}

/// The bytes are no frame; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side sent no valid frame")]
pub(super) struct Malformed;

/// The fields do not fit into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Header {
    /// Reads it off the beginning of `bytes`; nothing while it is not all there.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if bytes.len() < HEADER_LEN {
            return Ok(None);
        }
        let (len, stream, kind, flags) = (bytes.get_u32_le(), bytes.get_u32_le(), bytes.get_u8(), bytes.get_u8());
        let len = usize::try_from(len).ok().filter(|len| *len <= PAYLOAD_BYTES_MAX).ok_or(Malformed)?;
        let kind = *KINDS.get(usize::from(kind)).ok_or(Malformed)?;
        Ok(Some(Self { len, stream, kind, end: flags & END != 0 }))
    }

    /// Writes it. The payload, which is to follow, is never longer than a frame's.
    pub(super) fn write(self, out: &mut BytesMut) {
        out.put_u32_le(u32::try_from(self.len).unwrap_or(u32::MAX));
        out.put_u32_le(self.stream);
        out.put_u8(KINDS.iter().position(|kind| *kind == self.kind).and_then(|at| u8::try_from(at).ok()).unwrap_or(0));
        out.put_u8(u8::from(self.end) * END);
    }
}

/// Writes a head whose fields `write` gives, with the first data after it. Nothing is written when the fields are too long.
pub(super) fn write_head(
    out: &mut BytesMut,
    (stream, end): (u32, bool),
    data: &[u8],
    write: impl FnOnce(&mut BytesMut) -> Result<(), TooLarge>,
) -> Result<(), TooLarge> {
    let begin = out.len();
    out.put_bytes(0, HEADER_LEN + 4);
    let fields = out.len();
    let written = write(out);
    let head_len = out.len() - fields;
    if written.is_err() || head_len > HEAD_BYTES_MAX {
        out.truncate(begin);
        return Err(TooLarge);
    }
    out.put_slice(data);
    let mut opening = BytesMut::with_capacity(HEADER_LEN + 4);
    Header { len: 4 + head_len + data.len(), stream, kind: Kind::Head, end }.write(&mut opening);
    opening.put_u32_le(u32::try_from(head_len).map_err(|_| TooLarge)?);
    if let Some(place) = out.get_mut(begin..fields) {
        place.copy_from_slice(&opening);
    }
    Ok(())
}

/// Writes a frame of trailers.
pub(super) fn write_trailers(out: &mut BytesMut, stream: u32, trailers: &HeaderMap) -> Result<(), TooLarge> {
    let mut fields = BytesMut::new();
    write_headers(&mut fields, trailers)?;
    if fields.len() > HEAD_BYTES_MAX {
        return Err(TooLarge);
    }
    Header { len: fields.len(), stream, kind: Kind::Trailers, end: true }.write(out);
    out.put_slice(&fields);
    Ok(())
}

/// Writes the fields of a request. Of the URI only path and query go along.
pub(super) fn write_request(
    out: &mut BytesMut,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
) -> Result<(), TooLarge> {
    write_text(out, method.as_str().as_bytes())?;
    write_text(out, uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes())?;
    write_headers(out, headers)
}

/// Writes the fields of an answer.
pub(super) fn write_answer(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) -> Result<(), TooLarge> {
    out.put_u16_le(status.as_u16());
    write_headers(out, headers)
}

fn write_text(out: &mut BytesMut, text: &[u8]) -> Result<(), TooLarge> {
    out.put_u16_le(u16::try_from(text.len()).map_err(|_| TooLarge)?);
    out.put_slice(text);
    Ok(())
}

fn write_headers(out: &mut BytesMut, headers: &HeaderMap) -> Result<(), TooLarge> {
    out.put_u16_le(u16::try_from(headers.len()).map_err(|_| TooLarge)?);
    for (name, value) in headers {
        write_text(out, name.as_str().as_bytes())?;
        write_text(out, value.as_bytes())?;
    }
    Ok(())
}

/// Takes the fields off the payload of a head; what is left of it is data.
pub(super) fn split_head(payload: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = payload.try_get_u32_le().map_err(|_| Malformed)?;
    take(payload, usize::try_from(len).map_err(|_| Malformed)?)
}

/// Reads the fields of a request.
pub(super) fn read_request(mut fields: Bytes) -> Result<(Method, Uri, HeaderMap), Malformed> {
    let method = Method::from_bytes(&read_text(&mut fields)?).map_err(|_| Malformed)?;
    let path = PathAndQuery::from_maybe_shared(read_text(&mut fields)?).map_err(|_| Malformed)?;
    let headers = read_headers(fields)?;
    Ok((method, Uri::from(path), headers))
}

/// Reads the fields of an answer.
pub(super) fn read_answer(mut fields: Bytes) -> Result<(StatusCode, HeaderMap), Malformed> {
    let status = fields.try_get_u16_le().map_err(|_| Malformed)?;
    Ok((StatusCode::from_u16(status).map_err(|_| Malformed)?, read_headers(fields)?))
}

/// Reads headers up to the end of `fields`.
pub(super) fn read_headers(mut fields: Bytes) -> Result<HeaderMap, Malformed> {
    let count = usize::from(fields.try_get_u16_le().map_err(|_| Malformed)?);
    // A promise alone takes no memory: each header has at least the two lengths.
    let mut headers = HeaderMap::with_capacity(count.min(fields.len() / 4));
    for _ in 0..count {
        let name = HeaderName::from_bytes(&read_text(&mut fields)?).map_err(|_| Malformed)?;
        let value = HeaderValue::from_maybe_shared(read_text(&mut fields)?).map_err(|_| Malformed)?;
        headers.try_append(name, value).map_err(|_| Malformed)?;
    }
    if fields.is_empty() { Ok(headers) } else { Err(Malformed) }
}

fn read_text(fields: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = fields.try_get_u16_le().map_err(|_| Malformed)?;
    take(fields, usize::from(len))
}

fn take(bytes: &mut Bytes, len: usize) -> Result<Bytes, Malformed> {
    if len <= bytes.len() { Ok(bytes.split_to(len)) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers() -> impl Strategy<Value = HeaderMap> {
        let one = ("[a-z][a-z0-9-]{0,20}", "[ -~]{0,40}");
        proptest::collection::vec(one, 0..12).prop_map(|pairs| {
            let pair = |(name, value): (String, String)| {
                (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
            };
            let mut map = HeaderMap::new();
            for (name, value) in pairs.into_iter().map(pair) {
                map.append(name, value);
            }
            map
        })
    }

    proptest! {
        #[test]
        fn requests_come_back_as_they_were(
            headers in headers(), stream: u32, end: bool, data: Vec<u8>, path in "/[a-z0-9/:%?=&-]{0,60}",
        ) {
            let (method, uri) = (Method::POST, Uri::try_from(path.replace('%', "%20")).unwrap());
            let mut out = BytesMut::new();
            write_head(&mut out, (stream, end), &data, |out| write_request(out, (&method, &uri, &headers))).unwrap();
            let header = Header::read(&out).unwrap().unwrap();
            prop_assert_eq!(header, Header { len: out.len() - HEADER_LEN, stream, kind: Kind::Head, end });
            let mut payload = out.split_off(HEADER_LEN).freeze();
            let fields = split_head(&mut payload).unwrap();
            prop_assert_eq!(&payload[..], &data[..]);
            prop_assert_eq!(read_request(fields).unwrap(), (method, uri, headers));
        }

        #[test]
        fn answers_and_trailers_come_back_as_they_were(headers in headers(), status in 100u16..1000) {
            let status = StatusCode::from_u16(status).unwrap();
            let mut out = BytesMut::new();
            write_answer(&mut out, status, &headers).unwrap();
            prop_assert_eq!(read_answer(out.freeze()).unwrap(), (status, headers.clone()));
            let mut out = BytesMut::new();
            write_trailers(&mut out, 7, &headers).unwrap();
            prop_assert_eq!(read_headers(out.split_off(HEADER_LEN).freeze()).unwrap(), headers);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Header::read(&bytes);
            let mut payload = Bytes::from(bytes.clone());
            let _ = split_head(&mut payload);
            let _ = read_request(bytes.clone().into());
            let _ = read_answer(bytes.into());
        }
    }

    #[test]
    fn fields_that_are_too_long_write_nothing() {
        let headers: HeaderMap = (0..3)
            .map(|at| (HeaderName::try_from(format!("h{at}")).unwrap(), "x".repeat(30_000).try_into().unwrap()))
            .collect();
        let mut out = BytesMut::from(&b"before"[..]);
        let written = write_head(&mut out, (1, true), b"", |out| write_answer(out, StatusCode::OK, &headers));
        assert_eq!((written, &out[..]), (Err(TooLarge), b"before".as_slice()));
        assert_eq!(write_trailers(&mut out, 1, &headers), Err(TooLarge));
        assert_eq!(&out[..], b"before");
    }

    #[test]
    fn lengths_over_the_limit_and_unknown_kinds_are_refused() {
        for bytes in [[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, 9, 0]] {
            assert_eq!(Header::read(&bytes), Err(Malformed));
        }
        assert_eq!(Header::read(&[0; 9]), Ok(None));
    }
}
