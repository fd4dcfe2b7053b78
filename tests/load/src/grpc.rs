//! Unary gRPC with as little work as can be: one HTTP/2 connection, one call at a time, headers and message encoded once.
//!
//! The frames are those of RFC 9113, written and read here without a library, whose general machinery would cost more than
//! some of the servers it measures. A call counts as answered when it brought a message: one that fails has trailers alone.

use std::time::Instant;

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{LoadArgs, PAUSE_AFTER_FAILURE, Window, header, report::Samples};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_LEN: usize = 9;
/// Largest window (RFC 9113, 6.9.1): the servers never wait for this client.
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// The window of a connection before anything was said (RFC 9113, 6.9.2).
const WINDOW_DEFAULT: i64 = 65_535;
/// Bytes taken before the server is told so.
const TAKEN_BYTES_MAX: u32 = 1 << 24;
/// Frames that one may send before the other said how large they may be (RFC 9113, 4.2).
const FRAME_BYTES_MAX: usize = 16_384;
/// Streams of one connection; far below where their numbers end.
const STREAM_MAX: u32 = 1 << 30;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
const SETTINGS_ENABLE_PUSH: u16 = 2;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

/// Asks on one connection until the window ends; a broken connection is opened anew.
pub(crate) async fn connection(args: LoadArgs, body: Vec<u8>, window: Window) -> anyhow::Result<Samples> {
    let (headers, message) = (header_block(&args)?, frame(&body)?);
    let mut samples = Samples::default();
    while Instant::now() < window.ends {
        if let Err(error) = ask_until_broken(&args.address, (&headers, &message), window, &mut samples).await {
            samples.failure(format!("{error:#}"));
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
    Ok(samples)
}

/// gRPC's length-prefixed message: not compressed, four bytes of length.
pub(crate) fn frame(body: &[u8]) -> anyhow::Result<Bytes> {
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).context("body too long for one message")?);
    framed.put_slice(body);
    Ok(framed.freeze())
}

/// The headers in HPACK (RFC 7541), each a literal that enters no table.
fn header_block(args: &LoadArgs) -> anyhow::Result<Vec<u8>> {
    // `:method: POST` and `:scheme: http` are entries 3 and 6 of the static table.
    let mut block = vec![0x83, 0x86];
    literal(&mut block, ":path", &args.path)?;
    literal(&mut block, ":authority", &args.address)?;
    literal(&mut block, "content-type", "application/grpc")?;
    literal(&mut block, "te", "trailers")?;
    for line in &args.headers {
        let (name, value) = header(line)?;
        literal(&mut block, &name.to_ascii_lowercase(), value)?;
    }
    Ok(block)
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) -> anyhow::Result<()> {
    block.push(0);
    for text in [name, value] {
        // A length below 127 is one byte; 127 and the rest in seven bits each above it (RFC 7541, 5.1).
        if let Ok(short @ ..127) = u8::try_from(text.len()) {
            block.push(short);
        } else {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128)? | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest)?);
        }
        block.extend_from_slice(text.as_bytes());
    }
    Ok(())
}

async fn ask_until_broken(
    address: &str,
    (headers, message): (&[u8], &Bytes),
    window: Window,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    for stream in (1..STREAM_MAX).step_by(2) {
        let started = Instant::now();
        if started >= window.ends {
            break;
        }
        if connection.call(stream, headers, message).await? {
            samples.success(window, started);
        } else {
            samples.failure("no message in the answer".to_owned());
        }
    }
    Ok(())
}

/// One connection with at most one stream that is open.
struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    /// What may be sent on the connection.
    window: i64,
    /// What may be sent on a new stream.
    stream_window_initial: i64,
    /// Bytes taken since the server was told.
    taken: u32,
}

/// The call under way.
struct Call {
    stream: u32,
    /// What may be sent on its stream.
    window: i64,
    answer_bytes: usize,
    ended: bool,
}

impl Connection {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let mut settings = Vec::new();
        for (name, value) in
            [(SETTINGS_HEADER_TABLE_SIZE, 0), (SETTINGS_ENABLE_PUSH, 0), (SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_MAX)]
        {
            settings.put_u16(name);
            settings.put_u32(value);
        }
        let mut hello = PREFACE.to_vec();
        put_frame(&mut hello, (SETTINGS, 0, 0), &settings)?;
        put_frame(&mut hello, (WINDOW_UPDATE, 0, 0), &(WINDOW_MAX - 65_535).to_be_bytes())?;
        stream.write_all(&hello).await.context("write")?;
        let buffer = BytesMut::with_capacity(64 * 1024);
        Ok(Self { stream, buffer, window: WINDOW_DEFAULT, stream_window_initial: WINDOW_DEFAULT, taken: 0 })
    }

    /// Sends a request and reads its answer; says whether there was a message in it.
    async fn call(&mut self, stream: u32, headers: &[u8], message: &Bytes) -> anyhow::Result<bool> {
        let mut call = Call { stream, window: self.stream_window_initial, answer_bytes: 0, ended: false };
        let mut out = Vec::with_capacity(FRAME_BYTES_MAX);
        put_frame(&mut out, (HEADERS, END_HEADERS, stream), headers)?;
        let mut rest = message.clone();
        while !rest.is_empty() && !call.ended {
            let allowed = usize::try_from(call.window.min(self.window)).unwrap_or(0).min(FRAME_BYTES_MAX);
            if allowed == 0 {
                self.stream.write_all(&std::mem::take(&mut out)).await.context("write")?;
                self.read_frame(&mut call).await?;
                continue;
            }
            let piece = rest.split_to(allowed.min(rest.len()));
            let flags = if rest.is_empty() { END_STREAM } else { 0 };
            put_frame(&mut out, (DATA, flags, stream), &piece)?;
            let sent = i64::try_from(piece.len())?;
            call.window -= sent;
            self.window -= sent;
        }
        self.stream.write_all(&out).await.context("write")?;
        while !call.ended {
            self.read_frame(&mut call).await?;
        }
        Ok(call.answer_bytes > 5)
    }

    async fn read_frame(&mut self, call: &mut Call) -> anyhow::Result<()> {
        let (len, kind, flags, stream) = self.read_head().await?;
        while self.buffer.len() < len {
            self.fill().await?;
        }
        let payload = self.buffer.split_to(len).freeze();
        match kind {
            DATA => {
                self.taken += u32::try_from(len)?;
                if stream == call.stream {
                    call.answer_bytes += len;
                    call.ended |= flags & END_STREAM != 0;
                }
                if self.taken >= TAKEN_BYTES_MAX {
                    let taken = std::mem::take(&mut self.taken);
                    self.send((WINDOW_UPDATE, 0, 0), &taken.to_be_bytes()).await?;
                }
            }
            HEADERS if stream == call.stream => call.ended |= flags & END_STREAM != 0,
            RST_STREAM if stream == call.stream => bail!("stream reset"),
            SETTINGS if flags & ACK == 0 => {
                self.take_settings(call, payload);
                self.send((SETTINGS, ACK, 0), &[]).await?;
            }
            PING if flags & ACK == 0 => self.send((PING, ACK, 0), &payload).await?,
            GOAWAY => bail!("the server says goodbye"),
            WINDOW_UPDATE => self.widen(call, stream, payload),
            _ => {}
        }
        Ok(())
    }

    async fn read_head(&mut self) -> anyhow::Result<(usize, u8, u8, u32)> {
        while self.buffer.len() < FRAME_HEAD_LEN {
            self.fill().await?;
        }
        let mut head = self.buffer.split_to(FRAME_HEAD_LEN);
        let len = usize::try_from(head.get_uint(3))?;
        Ok((len, head.get_u8(), head.get_u8(), head.get_u32() & WINDOW_MAX))
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await.context("read")? == 0 {
            bail!("closed before the answer");
        }
        Ok(())
    }

    async fn send(&mut self, head: (u8, u8, u32), payload: &[u8]) -> anyhow::Result<()> {
        let mut out = Vec::with_capacity(FRAME_HEAD_LEN + payload.len());
        put_frame(&mut out, head, payload)?;
        self.stream.write_all(&out).await.context("write")
    }

    /// A new initial window changes the stream that is open, too (RFC 9113, 6.9.2).
    fn take_settings(&mut self, call: &mut Call, mut payload: Bytes) {
        while payload.remaining() >= 6 {
            if let (SETTINGS_INITIAL_WINDOW_SIZE, value) = (payload.get_u16(), payload.get_u32()) {
                call.window += i64::from(value) - self.stream_window_initial;
                self.stream_window_initial = i64::from(value);
            }
        }
    }

    fn widen(&mut self, call: &mut Call, stream: u32, mut payload: Bytes) {
        let by = i64::from(payload.try_get_u32().unwrap_or(0) & WINDOW_MAX);
        if stream == 0 {
            self.window += by;
        } else if stream == call.stream {
            call.window += by;
        }
    }
}

fn put_frame(out: &mut Vec<u8>, (kind, flags, stream): (u8, u8, u32), payload: &[u8]) -> anyhow::Result<()> {
    out.put_uint(u64::try_from(payload.len())?, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{frame, literal, put_frame};

    #[test]
    fn frames_are_as_rfc_9113_has_them() {
        let mut out = Vec::new();
        put_frame(&mut out, (8, 0, 5), &[0, 0, 1, 0]).unwrap();
        assert_eq!(out, [0, 0, 4, 8, 0, 0, 0, 0, 5, 0, 0, 1, 0]);
        assert_eq!(&frame(b"abc").unwrap()[..], b"\x00\x00\x00\x00\x03abc");
    }

    #[test]
    fn literals_are_as_rfc_7541_has_them() {
        let mut block = Vec::new();
        literal(&mut block, "te", "trailers").unwrap();
        assert_eq!(block, b"\x00\x02te\x08trailers");
        let mut long = Vec::new();
        literal(&mut long, "a", &"x".repeat(1337)).unwrap();
        // 1337 = 127 + 1210, and 1210 = 58 + 9 * 128.
        assert_eq!(long[..6], [0, 1, b'a', 127, 58 | 128, 9]);
        assert_eq!(long.len(), 6 + 1337);
    }
}
