//! The gateway's certificate: read at the start, read again when its files change or on SIGHUP.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use daemon::{BoxError, Supervisor, http::TlsConfig};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;

/// How often the files are looked at. Certificates are renewed days before they end.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Certificates in a chain.
const CHAIN_MAX: usize = 16;

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain, PEM, the gateway's own first.
    pub cert: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// The certificate in use.
pub(crate) struct Certificate {
    files: Files,
    current: ArcSwap<CertifiedKey>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Certificate {
    /// Reads the files.
    pub(crate) fn load(files: Files) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::from_pointee(read(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    /// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
    pub(crate) fn config(self: &Arc<Self>) -> Result<TlsConfig, Error> {
        let wrong = |error: rustls::Error| Error::Tls { path: self.files.cert.clone(), reason: error.to_string() };
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsConfig(Arc::new(config)))
    }

    /// Reads the files again. What cannot be read leaves the certificate as it is.
    pub(crate) fn reload(&self) {
        match read(&self.files) {
            Ok(key) => {
                self.current.store(Arc::new(key));
                tracing::info!(cert = %self.files.cert.display(), "certificate read again");
            }
            Err(error) => tracing::error!(%error, "keeping the certificate in use"),
        }
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.files.cert, &self.files.key].map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok())
    }

    /// Watches the files and SIGHUP until the supervisor stops.
    pub(crate) async fn watch(self: Arc<Self>, supervisor: Supervisor) -> Result<(), BoxError> {
        let stop = supervisor.stopping();
        let mut hangup = signal(SignalKind::hangup())?;
        let mut seen = self.changed_at();
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if self.changed_at() == seen {
                        continue;
                    }
                }
                () = stop.cancelled() => return Ok(()),
            }
            seen = self.changed_at();
            self.reload();
        }
    }
}

fn read(files: &Files) -> Result<CertifiedKey, Error> {
    let wrong = |path: &Path, reason: String| Error::Tls { path: path.to_owned(), reason };
    let pems = CertificateDer::pem_file_iter(&files.cert).map_err(|error| wrong(&files.cert, error.to_string()))?;
    let chain: Vec<_> =
        pems.take(CHAIN_MAX).collect::<Result<_, _>>().map_err(|error| wrong(&files.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(&files.cert, "there is no PEM certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error.to_string()))?;
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map_err(|error| wrong(&files.key, format!("certificate and key do not work together: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dir: &Path, name: &str) -> Files {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = Files { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn wrong_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (pair(dir.path(), "one"), pair(dir.path(), "other"));
        assert!(Certificate::load(one.clone()).is_ok());
        let mixed = Files { cert: one.cert.clone(), key: other.key };
        assert!(Certificate::load(mixed).unwrap_err().to_string().contains("do not work together"));
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        let without = Files { cert: empty, key: one.key };
        assert!(Certificate::load(without).unwrap_err().to_string().contains("no PEM certificate"));
    }

    #[test]
    fn a_new_certificate_is_used_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = Certificate::load(pair(dir.path(), "one")).unwrap();
        let served = |certificate: &Certificate| certificate.current.load().cert[0].clone();
        let first = served(&certificate);
        pair(dir.path(), "one");
        certificate.reload();
        let second = served(&certificate);
        assert_ne!(first, second);
        std::fs::write(dir.path().join("one.key"), "nothing").unwrap();
        certificate.reload();
        assert_eq!(served(&certificate), second);
    }
}
