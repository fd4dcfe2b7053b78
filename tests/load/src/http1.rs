//! HTTP/1.1 with as little work as can be: the request is rendered once, answers are only measured out.

use std::time::Instant;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{LoadArgs, PAUSE_AFTER_FAILURE, Window, header, report::Samples};

/// Most headers of an answer; servers send a dozen.
const HEADERS_MAX: usize = 64;
/// Largest answer; the benchmarks ask for a few kilobytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks on one connection until the window ends; a broken connection is opened anew.
pub(crate) async fn connection(args: LoadArgs, body: Vec<u8>, window: Window) -> anyhow::Result<Samples> {
    let request = render(&args, &body)?;
    let mut samples = Samples::default();
    while Instant::now() < window.ends {
        if let Err(error) = ask_until_broken(&args.address, &request, window, &mut samples).await {
            samples.failure(format!("{error:#}"));
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
    Ok(samples)
}

fn render(args: &LoadArgs, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut text =
        format!("POST {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n", args.path, args.address, body.len());
    for line in &args.headers {
        let (name, value) = header(line)?;
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut request = text.into_bytes();
    request.extend_from_slice(body);
    Ok(request)
}

async fn ask_until_broken(address: &str, request: &[u8], window: Window, samples: &mut Samples) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    loop {
        let started = Instant::now();
        if started >= window.ends {
            return Ok(());
        }
        stream.write_all(request).await.context("write")?;
        let status = read_answer(&mut stream, &mut buffer).await?;
        if status == 200 {
            samples.success(window, started);
        } else {
            samples.failure(format!("status {status}"));
        }
    }
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<u16> {
    loop {
        if let Some(head) = parse_head(buffer)? {
            buffer.advance(head.bytes);
            match head.length {
                Some(length) => skip(stream, buffer, length).await?,
                None => skip_chunks(stream, buffer).await?,
            }
            return Ok(head.status);
        }
        fill(stream, buffer).await?;
    }
}

struct Head {
    status: u16,
    bytes: usize,
    /// `None` for a chunked body.
    length: Option<usize>,
}

fn parse_head(buffer: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = response.parse(buffer).context("answer")? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    let mut length = Some(0);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = Some(std::str::from_utf8(header.value)?.trim().parse().context("content-length")?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            length = None;
        }
    }
    Ok(Some(Head { status, bytes, length }))
}

async fn skip(stream: &mut TcpStream, buffer: &mut BytesMut, length: usize) -> anyhow::Result<()> {
    if length > ANSWER_BYTES_MAX {
        bail!("answer too long");
    }
    while buffer.len() < length {
        fill(stream, buffer).await?;
    }
    buffer.advance(length);
    Ok(())
}

async fn skip_chunks(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<()> {
    loop {
        match httparse::parse_chunk_size(buffer) {
            Ok(httparse::Status::Complete((bytes, size))) => {
                let size = usize::try_from(size)?;
                // Each chunk, the last one too when it has no trailers, ends with a line break.
                skip(stream, buffer, bytes + size + 2).await?;
                if size == 0 {
                    return Ok(());
                }
            }
            Ok(httparse::Status::Partial) => fill(stream, buffer).await?,
            Err(_) => bail!("chunk size"),
        }
    }
}

async fn fill(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<()> {
    if buffer.len() > ANSWER_BYTES_MAX {
        bail!("answer too long");
    }
    if stream.read_buf(buffer).await.context("read")? == 0 {
        bail!("closed before the answer");
    }
    Ok(())
}
