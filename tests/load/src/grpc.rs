//! Unary gRPC over HTTP/2: one connection, one call at a time, the message encoded once.

use std::time::Instant;

use anyhow::{Context, bail};
use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{LoadArgs, PAUSE_AFTER_FAILURE, Window, header, report::Samples};

/// Asks on one connection until the window ends; a broken connection is opened anew.
pub(crate) async fn connection(args: LoadArgs, body: Vec<u8>, window: Window) -> anyhow::Result<Samples> {
    let message = frame(&body)?;
    let mut samples = Samples::default();
    while Instant::now() < window.ends {
        if let Err(error) = ask_until_broken(&args, &message, window, &mut samples).await {
            samples.failure(format!("{error:#}"));
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
    Ok(samples)
}

/// gRPC's length-prefixed message: not compressed, four bytes of length.
fn frame(body: &[u8]) -> anyhow::Result<Bytes> {
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).context("body too long for one message")?);
    framed.put_slice(body);
    Ok(framed.freeze())
}

async fn ask_until_broken(
    args: &LoadArgs,
    message: &Bytes,
    window: Window,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(&args.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (mut sender, driver) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("handshake")?;
    let asking = async {
        loop {
            let started = Instant::now();
            if started >= window.ends {
                return anyhow::Ok(());
            }
            match call(&mut sender, request(args, message)?).await? {
                0 => samples.success(window, started),
                status => samples.failure(format!("grpc-status {status}")),
            }
        }
    };
    tokio::select! {
        ended = asking => ended,
        broken = driver => bail!("connection ended: {broken:?}"),
    }
}

fn request(args: &LoadArgs, message: &Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut builder = Request::post(format!("http://{}{}", args.address, args.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for line in &args.headers {
        let (name, value) = header(line)?;
        builder = builder.header(name, value);
    }
    Ok(builder.body(Full::new(message.clone()))?)
}

/// The call's `grpc-status`, from the trailers or, when there is no message, from the head.
async fn call(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> anyhow::Result<u16> {
    let response = sender.send_request(request).await.context("call")?;
    let (head, body) = response.into_parts();
    let collected = body.collect().await.context("answer")?;
    let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status"));
    match status.or_else(|| head.headers.get("grpc-status")) {
        Some(status) => Ok(status.to_str()?.parse()?),
        None => bail!("no grpc-status, HTTP status {}", head.status),
    }
}
