//! One call to the gateway: in the clear or over TLS.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{Metadata, request::Body};
use crate::failure::{Exit, Failure};

/// Bytes of one answer: embeddings of a full request body, as JSON.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What the client waits beyond the time that it grants the gateway, so that the gateway's own words arrive.
const MARGIN: Duration = Duration::from_secs(3);
/// Bytes of an error that are shown.
const ERROR_CHARS_MAX: usize = 2_000;

/// A gateway and the key to it.
pub(crate) struct Door {
    base: Uri,
    key: String,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Door {
    /// The gateway at `base`, such as `http://127.0.0.1:8080`; over TLS it must show a certificate that `ca` vouches for.
    pub(crate) fn new(base: &str, key: String, ca: Option<&Path>) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!("`{base}` is not the URL of a gateway"))
                .hint("write `http://HOST:PORT` or `https://HOST:PORT`")
        };
        let base: Uri = base.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let tls = match (base.scheme_str(), ca) {
            (Some("http"), _) => None,
            (Some("https"), Some(ca)) => Some(connector(ca)?),
            (Some("https"), None) => {
                let failure = Failure::usage(format!("`{base}` needs a certificate to trust"));
                return Err(failure.hint("name the gateway's certificate, or its authority's: `--tls-ca FILE`"));
            }
            _ => return Err(wrong()),
        };
        if base.host().is_none() {
            return Err(wrong());
        }
        Ok(Self { base, key, tls })
    }

    /// What a model says of itself.
    pub(crate) async fn metadata(&self, name: &str, revision: Option<u64>, seconds: u64) -> Result<Metadata, Failure> {
        let (path, body) = (model_path(name, revision), Body { bytes: Vec::new(), json_len: None });
        let answer = self.call("GET", &path, body, seconds).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Failure::failed(format!("the model's description cannot be read: {error}")))
    }

    /// The raw answer of a model.
    pub(crate) async fn infer(
        &self,
        name: &str,
        revision: Option<u64>,
        body: Body,
        seconds: u64,
    ) -> Result<Bytes, Failure> {
        self.call("POST", &format!("{}/infer", model_path(name, revision)), body, seconds).await
    }

    async fn call(&self, method: &str, path: &str, body: Body, seconds: u64) -> Result<Bytes, Failure> {
        let time_max = Duration::from_secs(seconds) + MARGIN;
        match tokio::time::timeout(time_max, self.exchange(method, path, body, seconds)).await {
            Ok(Ok((status, body))) if status.is_success() => Ok(body),
            Ok(Ok((status, body))) => Err(refusal(status, &body)),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::new(Exit::TimedOut, format!("no answer within {seconds} s"))),
        }
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Body,
        seconds: u64,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let away = |what: &dyn std::fmt::Display| {
            let failure = Failure::failed(format!("cannot talk to the gateway at `{}`: {what}", self.base));
            failure.hint("`berth status` says whether it runs and where")
        };
        let host = self.base.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = self.base.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base.path().trim_end_matches('/')))
            .header(header::HOST, self.base.authority().map(ToString::to_string).unwrap_or_default())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header("x-berth-timeout-ms", seconds.saturating_mul(1000));
        request = match body.json_len {
            Some(length) => request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header("inference-header-content-length", length),
            None => request.header(header::CONTENT_TYPE, "application/json"),
        };
        let request = request.body(Full::new(Bytes::from(body.bytes))).map_err(|error| away(&error))?;
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| away(&error))?;
        let exchanged = match &self.tls {
            None => send(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(host).map_err(|error| away(&error))?;
                let stream = tls.connect(name, stream).await.map_err(|error| match distrusted(&error) {
                    true => Failure::failed(format!("the gateway at `{}` shows a certificate that is not trusted", self.base))
                        .hint("name its certificate, or its authority's, with `--tls-ca`; the authority's must bear the host's name"),
                    false => away(&error),
                })?;
                send(stream, request).await
            }
        };
        exchanged.map_err(|error| away(&daemon::supervisor::chain(error.as_ref())))
    }
}

/// Whether a handshake ended because of the server's certificate.
fn distrusted(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    matches!(inner, Some(TlsError::InvalidCertificate(_)))
}

/// Sends the request and takes the answer, moving the connection on meanwhile.
async fn send<T>(stream: T, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), daemon::BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut exchange = std::pin::pin!(async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok::<_, daemon::BoxError>((status, body))
    });
    tokio::select! {
        answer = exchange.as_mut() => return answer,
        // When the connection ends first, the exchange says what that means.
        _ = connection => {}
    }
    exchange.await
}

fn model_path(name: &str, revision: Option<u64>) -> String {
    let version = revision.map(|revision| format!("/versions/{revision}")).unwrap_or_default();
    format!("/v2/models/{name}{version}")
}

/// What the gateway or the runtime says no with.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let said = serde_json::from_slice::<Value>(body).ok();
    let said = said.as_ref().and_then(|body| body.get("error")).and_then(Value::as_str).map(str::to_owned);
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).trim().chars().take(ERROR_CHARS_MAX).collect());
    let message = if said.is_empty() { format!("the gateway answered {status}") } else { said };
    let (exit, hint) = match status.as_u16() {
        401 => (Exit::Failed, Some("name another with `--key-file` or BERTH_API_KEY; `berth key create` makes one")),
        403 => (Exit::Failed, Some("the key does not permit this: `berth key list` shows what keys permit")),
        404 => (Exit::NotFound, None),
        429 | 503 => (Exit::Failed, Some("ask again in a moment; `berth get` shows what is ready")),
        504 => (Exit::TimedOut, None),
        _ => (Exit::Failed, None),
    };
    let failure = Failure::new(exit, message);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn connector(ca: &Path) -> Result<TlsConnector, Failure> {
    let wrong = |what: &dyn std::fmt::Display| {
        Failure::failed(format!("cannot use the certificate `{}`: {what}", ca.display()))
    };
    let given: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_file_iter(ca).and_then(Iterator::collect);
    let given = given.map_err(|error| wrong(&error))?;
    if given.is_empty() {
        return Err(wrong(&"it holds none in PEM"));
    }
    let mut roots = RootCertStore::empty();
    // A server's own certificate is trusted by being the same; it need not be fit to vouch for others.
    roots.add_parsable_certificates(given.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = chain.build().map_err(|error| wrong(&error))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusted { given, chain }))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Trusts a server that shows one of the given certificates, or one that they vouch for and that bears the server's name.
#[derive(Debug)]
struct Trusted {
    given: Vec<CertificateDer<'static>>,
    chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.given.iter().any(|given| given.as_ref() == end_entity.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let door = |url: &str| Door::new(url, "k".to_owned(), None).map_err(|failure| failure.message);
        assert!(door("http://127.0.0.1:8080/").is_ok());
        assert!(door("http://[::1]:8080").is_ok());
        for url in ["127.0.0.1:8080", "ftp://a", "", "http://"] {
            assert!(door(url).unwrap_err().contains("is not the URL"), "{url}");
        }
        assert!(door("https://a").unwrap_err().contains("needs a certificate"));
    }

    #[test]
    fn refusals_in_the_gateways_words() {
        let failure = refusal(StatusCode::NOT_FOUND, br#"{"error": "no model"}"#);
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::NotFound, "no model"));
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"").message, "the gateway answered 502 Bad Gateway");
        assert!(refusal(StatusCode::FORBIDDEN, b"x").hint.unwrap().contains("key list"));
    }
}
