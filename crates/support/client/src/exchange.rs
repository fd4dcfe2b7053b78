//! One call over one connection, driven by the task that makes it.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::{BASE, Client, Error, SOCKET, Status, stream::Lines};

/// Bytes of one answer: the gateway's snapshot with thousands of services and keys is some megabytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Calls `path` and reads a JSON answer.
pub(crate) async fn json<T: DeserializeOwned>(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
    time_max: Duration,
) -> Result<T, Error> {
    let (_, body) = call(client, method, path, body, time_max).await?;
    parsed(&body)
}

/// Calls `path` and reads the whole answer.
pub(crate) async fn call(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
    time_max: Duration,
) -> Result<(StatusCode, Bytes), Error> {
    let request = request(method, path, body)?;
    let exchange = async {
        let (response, mut connection) = send(client, SOCKET, request).await?;
        let status = response.status();
        let body = connection.drive(whole(response)).await?;
        if status.is_success() { Ok((status, body)) } else { Err(refusal(status, &body)) }
    };
    tokio::time::timeout(time_max, exchange).await.map_err(|_| Error::TimedOut(time_max))?
}

/// Asks what listens at `socket` for `path`, and reads the answer as text.
pub(crate) async fn text(client: &Client, socket: &str, path: &str, time_max: Duration) -> Result<String, Error> {
    let request = Request::get(path).header(header::HOST, "localhost").body(Full::default());
    let request = request.map_err(|error| Error::Unreadable(error.to_string()))?;
    let exchange = async {
        let (response, mut connection) = send(client, socket, request).await?;
        let status = response.status();
        let body = connection.drive(whole(response)).await?;
        if status.is_success() { Ok(String::from_utf8_lossy(&body).into_owned()) } else { Err(refusal(status, &body)) }
    };
    tokio::time::timeout(time_max, exchange).await.map_err(|_| Error::TimedOut(time_max))?
}

/// Calls `path` and hands over the answer line by line.
pub(crate) async fn stream(client: &Client, path: &str, time_max: Duration) -> Result<Lines, Error> {
    let request = request(Method::GET, path, None::<&()>)?;
    let begin = async {
        let (response, mut connection) = send(client, SOCKET, request).await?;
        let status = response.status();
        if !status.is_success() {
            let body = connection.drive(whole(response)).await?;
            return Err(refusal(status, &body));
        }
        Ok(Lines::new(response.into_body(), connection))
    };
    tokio::time::timeout(time_max, begin).await.map_err(|_| Error::TimedOut(time_max))?
}

/// Reads an answer.
pub(crate) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Unreadable(error.to_string()))
}

fn request(method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Request<Full<Bytes>>, Error> {
    let bytes = match body {
        Some(body) => serde_json::to_vec(body).map_err(|error| Error::Unreadable(error.to_string()))?,
        None => Vec::new(),
    };
    Request::builder()
        .method(method)
        .uri(format!("{BASE}{path}"))
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(bytes)))
        .map_err(|error| Error::Unreadable(error.to_string()))
}

/// Connects, sends, and waits for the head of the answer.
async fn send(
    client: &Client,
    socket: &str,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Connection), Error> {
    let socket = client.data_dir().join(socket);
    let stream = match UnixStream::connect(&socket).await {
        Ok(stream) => stream,
        Err(source) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(Error::NotRunning { data_dir: client.data_dir().to_owned() });
        }
        Err(source) => return Err(Error::Socket { socket, source }),
    };
    let broken = |source| Error::Broken { source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection = Connection(Some(Box::pin(connection)));
    let response = connection.drive(sender.send_request(request)).await.map_err(broken)?;
    Ok((response, connection))
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, Error> {
    let limited = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    match limited.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(source) => Error::Broken { source: *source },
            Err(_) => Error::Unreadable(format!("it has more than {ANSWER_BYTES_MAX} bytes")),
        }),
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let read: Result<Status, _> = serde_json::from_slice(body);
    Error::Refused(read.unwrap_or_else(|_| {
        let shown: String = String::from_utf8_lossy(body).chars().take(200).collect();
        Status { code: status.as_u16(), reason: String::new(), message: format!("Berth answered {status}: {shown}") }
    }))
}

/// The connection's own future; whoever waits for something from the connection drives it.
pub(crate) struct Connection(Option<Pin<Box<Transport>>>);

type Transport = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

impl Connection {
    /// Waits for `future` and moves the connection on meanwhile.
    pub(crate) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            if let Some(connection) = &mut self.0
                && connection.as_mut().poll(context).is_ready()
            {
                // However it ended, `future` says what that means.
                self.0 = None;
            }
            future.as_mut().poll(context)
        })
        .await
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}
