//! From arguments to a configuration that is known to make sense.

use std::{net::SocketAddr, path::PathBuf};

use daemon::listen;

use crate::{error::Error, tls};

/// Arguments of `berth gateway`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data directory of the platform
    #[arg(long, env = "BERTH_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: keys and requests can be read on the way
    #[arg(long)]
    pub insecure_listen_in_the_clear: bool,
    /// Largest request body, bytes
    #[arg(long, value_name = "BYTES", default_value_t = BODY_BYTES_MAX)]
    pub body_bytes_max: usize,
    /// Requests in flight at a time
    #[arg(long, value_name = "N", default_value_t = IN_FLIGHT_MAX)]
    pub in_flight_max: usize,
}

/// Largest request body: an image batch of usual size, with room.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests in flight: each may hold 1 MiB of body, and one machine's models work on far fewer at a time.
pub(crate) const IN_FLIGHT_MAX: usize = 1024;

/// What the gateway runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Certificate and key; in the clear without.
    pub tls: Option<tls::Files>,
    /// Limits on requests.
    pub limits: Limits,
}

/// Limits on requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body.
    pub body_bytes_max: usize,
    /// Requests in flight.
    pub in_flight_max: usize,
}

impl TryFrom<Args> for Config {
    type Error = Error;

    fn try_from(args: Args) -> Result<Self, Error> {
        let listen = listen::address(&args.listen)?;
        let tls = match (args.tls_cert, args.tls_key) {
            (Some(cert), Some(key)) => Some(tls::Files { cert, key }),
            (None, None) => None,
            _ => return Err(Error::HalfTls),
        };
        listen::check(listen, tls.is_some(), args.insecure_listen_in_the_clear)?;
        if args.body_bytes_max == 0 {
            return Err(Error::Zero("--body-bytes-max"));
        }
        if args.in_flight_max == 0 {
            return Err(Error::Zero("--in-flight-max"));
        }
        let limits = Limits { body_bytes_max: args.body_bytes_max, in_flight_max: args.in_flight_max };
        Ok(Self { data_dir: args.data_dir, listen, tls, limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, change: impl FnOnce(&mut Args)) -> Result<Config, Error> {
        let mut args = Args {
            data_dir: "/tmp/d".into(),
            listen: listen.to_owned(),
            tls_cert: None,
            tls_key: None,
            insecure_listen_in_the_clear: false,
            body_bytes_max: BODY_BYTES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
        };
        change(&mut args);
        Config::try_from(args)
    }

    #[test]
    fn the_clear_is_for_this_machine_unless_asked_for_in_plain_words() {
        for listen in ["127.0.0.1:1", "[::1]:1", "127.5.5.5:1", "[::ffff:127.0.0.1]:1"] {
            assert!(config(listen, |_| {}).is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let error = config(listen, |_| {}).unwrap_err().to_string();
            assert!(error.contains("--tls-cert") && error.contains("--insecure-listen-in-the-clear"), "{error}");
            assert!(config(listen, |args| args.insecure_listen_in_the_clear = true).is_ok());
            let tls = |args: &mut Args| (args.tls_cert, args.tls_key) = (Some("c".into()), Some("k".into()));
            assert!(config(listen, tls).is_ok());
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(config("8080", |_| {}).unwrap_err().to_string().contains("`8080`"));
        assert!(matches!(config("127.0.0.1:1", |args| args.tls_key = Some("k".into())), Err(Error::HalfTls)));
        assert!(matches!(config("127.0.0.1:1", |args| args.in_flight_max = 0), Err(Error::Zero(_))));
    }
}
