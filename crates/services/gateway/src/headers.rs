//! Which headers pass the door, and which the gateway writes itself.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, AsHeaderName},
};

/// The service a request is for; a runtime answers for no other.
pub(crate) const SERVICE: HeaderName = HeaderName::from_static("x-berth-service");
/// Milliseconds a request may take.
pub(crate) const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-berth-timeout-ms");
/// `safe` on an answer of a runtime that ran nothing.
pub(crate) const RETRY: HeaderName = HeaderName::from_static("x-berth-retry");
/// `1` on a copy of a request, whose answer no client gets.
pub(crate) const SHADOW: HeaderName = HeaderName::from_static("x-berth-shadow");
/// Id of a request, in logs and answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Time that a gRPC call may take.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Status of a gRPC call.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Message of a gRPC status.
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How the messages of a gRPC call are compressed.
pub(crate) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Compressions that a gRPC server reads.
pub(crate) const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Content type of gRPC.
pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Content type of JSON.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// `te` of gRPC, which names the one transfer coding that HTTP/2 allows.
pub(crate) const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Longest `x-request-id` that is kept.
pub(crate) const REQUEST_ID_LEN_MAX: usize = 128;
/// Names in `Connection` that are followed; a client needs one or two.
const CONNECTION_NAMES_MAX: usize = 16;

const PREFIX: &str = "x-berth-";
/// Hop-by-hop (RFC 9110, 7.6.1), with the old names that proxies still meet.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Takes from a request what must not reach a runtime: hop-by-hop headers, credentials, the gateway's own names, and
/// `Expect`, which the gateway has answered.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove(headers, header::AUTHORIZATION);
    remove(headers, header::PROXY_AUTHORIZATION);
    remove(headers, header::COOKIE);
    remove(headers, header::EXPECT);
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with(PREFIX)).cloned() {
        headers.remove(name);
    }
}

/// Takes from an answer what must not reach a client.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove(headers, RETRY);
}

fn remove(headers: &mut HeaderMap, name: impl AsHeaderName) {
    headers.remove(name);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .take(CONNECTION_NAMES_MAX)
        .collect()
}

/// The one value of `Authorization`. Two values are two claims, and neither is believed.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next()?;
    if values.next().is_some() { Some(b"") } else { Some(first.as_bytes()) }
}

/// Whether a request or an answer is gRPC (gRPC over HTTP/2: `application/grpc`, `+proto` and the like after it).
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// The status of a gRPC call in its headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Whether an answer says that nothing was run and that another replica may answer.
pub(crate) fn is_declined(headers: &HeaderMap) -> bool {
    headers.get(RETRY).is_some_and(|value| value.as_bytes() == b"safe")
}

/// How a request is known in logs and traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `x-request-id`.
    pub request: HeaderValue,
    /// `traceparent`; nothing when the client sent one, which then passes as it is.
    pub trace: Option<HeaderValue>,
}

impl Identity {
    /// Keeps what the client sent where it is valid, and makes the rest out of `random`.
    pub(crate) fn of(headers: &HeaderMap, random: [u64; 3]) -> Self {
        let sent = headers.get(REQUEST_ID).filter(|id| is_request_id(id.as_bytes()));
        let traced = headers.get(TRACEPARENT).is_some_and(|value| is_traceparent(value.as_bytes()));
        if let (Some(sent), true) = (sent, traced) {
            return Self { request: sent.clone(), trace: None };
        }
        let made = traceparent(random);
        let request = match sent {
            Some(sent) => sent.clone(),
            // The id of a trace that begins here is as good an id of the request, and shares its bytes.
            None => value(made.slice(TRACE_ID)),
        };
        Self { request, trace: (!traced).then(|| value(made)) }
    }
}

const TRACE_ID: std::ops::Range<usize> = 3..35;

fn value(bytes: bytes::Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static("0"))
}

/// `00-<trace id>-<span id>-01`: version 0, sampled.
fn traceparent([high, low, span]: [u64; 3]) -> bytes::Bytes {
    let mut text = Vec::with_capacity(55);
    text.extend_from_slice(b"00-");
    hexadecimal(&mut text, high);
    // An id of zeros alone is invalid.
    hexadecimal(&mut text, low | 1);
    text.push(b'-');
    hexadecimal(&mut text, span | 1);
    text.extend_from_slice(b"-01");
    bytes::Bytes::from(text)
}

fn hexadecimal(text: &mut Vec<u8>, number: u64) {
    for shift in (0..16).rev().map(|digit| 4 * digit) {
        let digit = (number >> shift & 0xf) as u8;
        text.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
}

fn is_request_id(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= REQUEST_ID_LEN_MAX && value.iter().all(u8::is_ascii_graphic)
}

/// Form of version 0 and of later versions, which may go on after the flags (W3C Trace Context, 3.2).
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let Some((known, rest)) = value.split_at_checked(55) else { return false };
    let form = known.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => hex(byte),
    });
    let version_ok = if known.starts_with(b"00") { rest.is_empty() } else { rest.is_empty() || rest.starts_with(b"-") };
    let nonzero =
        |range: std::ops::Range<usize>| known.get(range).is_some_and(|id| id.iter().any(|byte| *byte != b'0'));
    form && version_ok && !known.starts_with(b"ff") && nonzero(TRACE_ID) && nonzero(36..52)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn requests_lose_what_is_not_for_the_runtime() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Private ,upgrade"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("authorization", "Bearer x"),
            ("proxy-authorization", "Basic x"),
            ("x-berth-service", "other"),
            ("x-berth-retry", "safe"),
            ("x-berth-anything", "1"),
            ("content-type", "application/json"),
            ("inference-header-content-length", "12"),
        ]);
        clean_request(&mut headers);
        assert_eq!(headers, map(&[("content-type", "application/json"), ("inference-header-content-length", "12")]));
    }

    #[test]
    fn two_authorizations_are_none_that_is_believed() {
        let mut headers = map(&[("authorization", "Bearer a")]);
        assert_eq!(authorization(&headers), Some(b"Bearer a".as_slice()));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(authorization(&headers), Some(b"".as_slice()));
        assert_eq!(authorization(&HeaderMap::new()), None);
    }

    #[test]
    fn content_types_of_grpc() {
        for (value, wanted) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(
                is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))])),
                wanted
            );
        }
    }

    #[test]
    fn identities_are_kept_when_valid_and_made_when_not() {
        let random = [0x0123, 0x4567, 0x89ab];
        let made = Identity::of(&HeaderMap::new(), random);
        assert_eq!(made.request, "00000000000001230000000000004567");
        assert_eq!(made.trace.unwrap(), "00-00000000000001230000000000004567-00000000000089ab-01");

        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let kept = Identity::of(&map(&[("x-request-id", "abc-1"), ("traceparent", trace)]), random);
        assert_eq!(kept, Identity { request: HeaderValue::from_static("abc-1"), trace: None });

        for wrong in ["", "a b", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"] {
            let made = Identity::of(&map(&[("x-request-id", "a b"), ("traceparent", wrong)]), random);
            assert_eq!(made.request.len(), 32);
            assert!(made.trace.is_some());
        }
    }

    #[test]
    fn forms_of_traceparent() {
        let cases = [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later", true),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c", false),
        ];
        for (text, wanted) in cases {
            assert_eq!(is_traceparent(text.as_bytes()), wanted, "{text}");
        }
    }
}
