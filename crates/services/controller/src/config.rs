//! From arguments to a configuration that is known to make sense.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use daemon::listen;

use crate::error::Error;

/// Processes of the warm pool, at most: each takes some tens of megabytes, and a machine starts few replicas at one moment.
pub const WARM_POOL_MAX: u32 = 16;

/// Arguments of `berth controller`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data directory of the platform
    #[arg(long, env = "BERTH_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Address that the gateway listens on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Certificate chain of the gateway, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: keys and requests can be read on the way
    #[arg(long)]
    pub insecure_listen_in_the_clear: bool,
    /// Processes that have loaded ONNX Runtime and wait for a model [default: 1 where a service has `minReplicas: 0`, else 0]
    #[arg(long, value_name = "N", env = "BERTH_WARM_POOL", value_parser = clap::value_parser!(u32).range(..=i64::from(WARM_POOL_MAX)))]
    pub warm_pool: Option<u32>,
}

/// What the controller runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directory, absolute.
    pub data_dir: PathBuf,
    /// Address that the gateway listens on.
    pub listen: SocketAddr,
    /// Certificate and key of the gateway, absolute.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether the gateway may listen beyond this machine without TLS.
    pub in_the_clear: bool,
    /// The executable that every role is started from.
    pub executable: PathBuf,
    /// Processes that wait for a model, when a number was given.
    pub warm_pool: Option<u32>,
}

impl TryFrom<Args> for Config {
    type Error = Error;

    fn try_from(args: Args) -> Result<Self, Error> {
        let listen = listen::address(&args.listen)?;
        let absolute =
            |path: PathBuf| std::path::absolute(&path).map_err(|source| Error::Io { action: "find", path, source });
        let tls = match (args.tls_cert, args.tls_key) {
            (Some(cert), Some(key)) => Some((absolute(cert)?, absolute(key)?)),
            _ => None,
        };
        let in_the_clear = args.insecure_listen_in_the_clear;
        listen::check(listen, tls.is_some(), in_the_clear)?;
        let executable = std::env::current_exe().map_err(|source| Error::Io {
            action: "find the executable",
            path: PathBuf::from("/proc/self/exe"),
            source,
        })?;
        let data_dir = prepare_data_dir(&args.data_dir)?;
        Ok(Self { data_dir, listen, tls, in_the_clear, executable, warm_pool: args.warm_pool })
    }
}

impl Config {
    /// URL that clients use, with the port that was taken.
    pub(crate) fn url(&self, listen: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{listen}")
    }
}

/// Makes what is missing of the data directory, and refuses one that somebody else could change.
pub(crate) fn prepare_data_dir(path: &Path) -> Result<PathBuf, Error> {
    make_private_dir(path)?;
    let failed = |source| Error::Io { action: "open the data directory", path: path.to_owned(), source };
    let absolute = fs::canonicalize(path).map_err(failed)?;
    let meta = fs::metadata(&absolute).map_err(failed)?;
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return Err(Error::ForeignDataDir { path: absolute, owner: meta.uid(), me });
    }
    // Who could write may have put something there already. Who could only read is shut out from now on.
    if meta.mode() & 0o022 != 0 {
        return Err(Error::OpenDataDir { path: absolute, mode: meta.mode() & 0o777 });
    }
    fs::set_permissions(&absolute, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    for name in ["run", "logs", "gateway"] {
        make_private_dir(&absolute.join(name))?;
    }
    Ok(absolute)
}

fn make_private_dir(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Io { action: "make the directory", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data_dir: &Path, listen: &str) -> Args {
        Args {
            data_dir: data_dir.to_owned(),
            listen: listen.to_owned(),
            tls_cert: None,
            tls_key: None,
            insecure_listen_in_the_clear: false,
            warm_pool: None,
        }
    }

    #[test]
    fn the_data_directory_is_made_private() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("a/b");
        let config = Config::try_from(args(&data, "127.0.0.1:0")).unwrap();
        assert_eq!(config.data_dir, data.canonicalize().unwrap());
        for path in [data.clone(), data.join("run"), data.join("logs"), data.join("gateway")] {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Config::try_from(args(&data, "127.0.0.1:0")).is_ok());
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&data, fs::Permissions::from_mode(0o770)).unwrap();
        let error = Config::try_from(args(&data, "127.0.0.1:0")).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn the_clear_is_for_this_machine() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("d");
        let error = Config::try_from(args(&data, "0.0.0.0:80")).unwrap_err().to_string();
        assert!(error.contains("--tls-cert"), "{error}");
        let plain = Args { insecure_listen_in_the_clear: true, ..args(&data, "0.0.0.0:80") };
        assert!(Config::try_from(plain).is_ok());
        assert!(matches!(
            Config::try_from(args(&data, "nonsense")),
            Err(Error::Listen(listen::ListenError::NoAddress(_)))
        ));
    }
}
