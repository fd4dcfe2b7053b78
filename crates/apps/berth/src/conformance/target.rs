//! The server under test and the model that requests are made for.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{ANSWER_TIMEOUT, ConformanceError};

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A server of the REST protocol.
#[derive(Debug)]
pub(super) struct Target {
    authority: String,
    prefix: String,
    key: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("the body is not JSON ({error}): {}", self.excerpt()))
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Status and the start of the body, for messages.
    pub(super) fn excerpt(&self) -> String {
        let text: String = String::from_utf8_lossy(&self.body).chars().take(120).collect();
        format!("HTTP {} `{}`", self.status, text.replace('\n', " "))
    }
}

impl Target {
    pub(super) fn new(url: &str, key: Option<String>) -> Result<Self, ConformanceError> {
        let wrong = || ConformanceError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        let authority = if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
        Ok(Self { authority, prefix: uri.path().trim_end_matches('/').to_owned(), key })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Answer, String> {
        self.send(Method::POST, path, &[("content-type", "application/json".to_owned())], body.into()).await
    }

    /// Sends one request on a connection of its own, so that no check can spoil another.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let exchange = self.exchange(method, path, headers, body);
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(|_| format!("no answer in {} s", ANSWER_TIMEOUT.as_secs()))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|error| format!("cannot connect to {}: {error}", self.authority))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.authority);
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| format!("the answer broke off: {error}"))?;
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes() })
        };
        let drive = async {
            drop(connection.await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = answer => answer,
            () = drive => Err("the connection closed without an answer".to_owned()),
        }
    }

    /// The first model of the repository index, or of `GET /v2/models`.
    pub(super) async fn first_model(&self) -> Option<String> {
        let index = self.post("/v2/repository/index", "{}").await.ok().filter(Answer::is_success);
        let listed = match index {
            Some(answer) => Some(answer),
            None => self.get("/v2/models").await.ok().filter(Answer::is_success),
        };
        let listed = listed?.json().ok()?;
        let models = listed.as_array().or_else(|| listed.get("models")?.as_array())?;
        let first = models.first()?;
        first.as_str().or_else(|| first.get("name")?.as_str()).map(str::to_owned)
    }
}

/// A tensor of the model's signature.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
}

impl Tensor {
    fn read(value: &Value) -> Option<Self> {
        let shape = value.get("shape")?.as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?;
        let name = value.get("name")?.as_str()?.to_owned();
        Some(Self { name, datatype: value.get("datatype")?.as_str()?.to_owned(), shape })
    }

    /// A shape that the model should take: 1 for every variable dimension.
    pub(super) fn concrete(&self) -> Vec<u64> {
        self.shape.iter().map(|dimension| u64::try_from(*dimension).unwrap_or(1)).collect()
    }

    pub(super) fn elements(&self) -> usize {
        usize::try_from(self.concrete().iter().product::<u64>()).unwrap_or(usize::MAX)
    }
}

/// The model that requests are made for.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
}

impl Model {
    pub(super) async fn read(target: &Target, name: &str) -> Result<Self, ConformanceError> {
        let wrong = |reason: String| ConformanceError::Metadata { model: name.to_owned(), reason };
        let answer = target.get(&format!("/v2/models/{name}")).await.map_err(wrong)?;
        if !answer.is_success() {
            return Err(wrong(answer.excerpt()));
        }
        let metadata = answer.json().map_err(wrong)?;
        let tensors = |field: &str| {
            let list = metadata.get(field).and_then(Value::as_array);
            list.and_then(|list| list.iter().map(Tensor::read).collect::<Option<Vec<_>>>())
        };
        let inputs = tensors("inputs").ok_or_else(|| wrong("`inputs` is not a list of tensors".to_owned()))?;
        let outputs = tensors("outputs").ok_or_else(|| wrong("`outputs` is not a list of tensors".to_owned()))?;
        let version = metadata.get("versions").and_then(|versions| versions.get(0)?.as_str().map(str::to_owned));
        Ok(Self { name: name.to_owned(), version, inputs, outputs })
    }

    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v2/models/{}{rest}", self.name)
    }
}
