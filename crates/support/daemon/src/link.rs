//! The link between a gateway and a runtime: HTTP messages as frames, many at a time over one connection of a Unix socket.
//!
//! HTTP/1.1 carries one request at a time, so that each costs its own system calls on both sides, and HTTP/2 pays for header
//! compression and priorities that two processes of one machine do not need. Here messages that are ready at the same time
//! leave in one write and arrive in one read. Methods, paths, headers, bodies and trailers mean what they mean in HTTP
//! (RFC 9110); only the framing is Berth's own.
//!
//! Flow: the client opens with [`PREFACE`]; then both send frames (`frame.rs`). A message is a head, data and perhaps
//! trailers, under the number of its stream. Either side may reset a stream. Data beyond [`WINDOW_BYTES`] waits for credit,
//! which a side gives as its reader takes data. A server that drains says which stream was the last that it took.
//!
//! Guarantees: a stream that was refused was not run. Data of a stream arrives in order. A slow reader of one stream holds
//! up no other stream.
//!
//! Caveats: streams share one connection and thus one task on either side, so large bodies are better sent over a link that
//! carries nothing else at the time.

pub use body::Body;
pub use client::Link;
pub use server::serve;

mod body;
mod client;
mod driver;
mod frame;
mod sending;
mod server;
mod shared;
#[cfg(test)]
mod tests;

/// What a client sends first.
pub const PREFACE: &[u8; 16] = b"BERTH LINK/1\r\n\r\n";
/// Data of one stream and direction that may be under way before its reader takes any: bodies of usual size never wait.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Data of one frame: what other streams of the connection may have to wait for.
const DATA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one head: the gateway lets in 32 KiB of headers and adds a few of its own.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Streams of one connection at a time; further ones are refused. A gateway opens another connection long before.
const STREAMS_MAX: usize = 4096;

/// Why a stream or a whole link ended early.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server did not take the request: nothing was run.
    #[error("the request was not taken")]
    Refused,
    /// The other side ended the stream.
    #[error("the other side ended the message early")]
    Reset,
    /// The connection ended.
    #[error("the connection closed")]
    Closed,
    /// The body that was being sent broke off on this side.
    #[error("the body that was being sent broke off")]
    Body(#[source] crate::BoxError),
    /// The head is longer than any that is let in.
    #[error("the head is larger than {HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
}
