//! Tells HTTP/2 and links from HTTP/1.1 by the first bytes of a connection, and keeps them for whoever reads it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::link;

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1, or nothing that is known.
    One,
    /// HTTP/2.
    Two,
    /// Not HTTP: a link, whose preface is over.
    Link,
}

const LONGEST: usize = PREFACE.len();

/// A connection whose first bytes were looked at.
#[derive(Debug)]
pub(super) struct Opened<T> {
    seen: [u8; LONGEST],
    /// What of `seen` is not handed on yet.
    left: std::ops::Range<usize>,
    stream: T,
}

/// Reads until the version is known. Nothing when the client closes without a word.
pub(super) async fn open<T: AsyncRead + Unpin>(mut stream: T) -> io::Result<Option<(Version, Opened<T>)>> {
    let mut seen = [0; LONGEST];
    let mut len = 0;
    loop {
        let read = stream.read(seen.get_mut(len..).unwrap_or_default()).await?;
        if read == 0 && len == 0 {
            return Ok(None);
        }
        len += read;
        let so_far = seen.get(..len).unwrap_or_default();
        if so_far.starts_with(link::PREFACE) {
            return Ok(Some((Version::Link, Opened { seen, left: link::PREFACE.len()..len, stream })));
        }
        let alike = PREFACE.starts_with(so_far);
        let perhaps = alike || link::PREFACE.starts_with(so_far);
        if read == 0 || !perhaps || len == LONGEST {
            let version = if alike && len == LONGEST { Version::Two } else { Version::One };
            return Ok(Some((version, Opened { seen, left: 0..len, stream })));
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Opened<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let end = self.left.end.min(self.left.start + buf.remaining());
        buf.put_slice(self.seen.get(self.left.start..end).unwrap_or_default());
        self.left.start = end;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Opened<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn opened(pieces: &[&[u8]]) -> Option<(Version, Vec<u8>)> {
        let (mut client, server) = tokio::io::duplex(1);
        let write = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
            }
            drop(client);
        };
        let read = async {
            let (version, mut stream) = open(server).await.unwrap()?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            Some((version, bytes))
        };
        tokio::join!(write, read).1
    }

    #[tokio::test]
    async fn the_version_is_told_and_no_byte_is_lost() {
        assert_eq!(opened(&[]).await, None);
        for (bytes, version) in [
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes".as_slice(), Version::Two),
            (b"GET / HTTP/1.1\r\n\r\n", Version::One),
            (b"PRI * HTTP/2.0\r\n\r\nXM\r\n\r\nframes", Version::One),
            (b"PRI", Version::One),
            (b"P", Version::One),
            (b"BERTH LINK/2\r\n\r\n", Version::One),
            (b"BERTH", Version::One),
        ] {
            assert_eq!(opened(&[bytes]).await, Some((version, bytes.to_vec())));
        }
        let link = opened(&[b"BERTH LINK", b"/1\r\n\r\nframes"]).await;
        assert_eq!(link, Some((Version::Link, b"frames".to_vec())));
    }
}
