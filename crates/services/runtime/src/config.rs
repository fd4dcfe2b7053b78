//! Arguments and what they mean once checked.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    batching::policy::{self, Policy},
    error::Error,
    load::findings::Findings,
};

/// Longest model name: it travels in paths, labels and log lines.
pub const MODEL_NAME_LEN_MAX: usize = 128;

/// Most threads one may ask for; ONNX Runtime takes stacks and arenas for each.
pub const THREADS_MAX: usize = 1024;

/// Arguments of `berth runtime`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Unix socket to serve on.
    #[arg(long, value_name = "PATH", conflicts_with = "listen", required_unless_present = "listen")]
    pub socket: Option<PathBuf>,
    /// Address to serve on, in the clear and without keys: for development.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// The model: its name and a bundle directory, a directory with a model, or a file of ONNX, XGBoost or LightGBM.
    #[arg(long, value_name = "NAME=PATH", required_unless_present = "standby")]
    pub model: Option<String>,
    /// Load ONNX Runtime, then wait on standard input for the rest of these arguments: how the controller keeps a warm pool.
    #[arg(long, requires = "socket", conflicts_with_all = ["model", "listen", "no_sandbox"])]
    pub standby: bool,
    /// Version that clients see.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub model_version: u64,
    /// Threads for inference; without it, the CPUs that the cgroup and the affinity mask allow.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Memory the process may use, in bytes.
    #[arg(long, value_name = "BYTES")]
    pub memory_max: Option<u64>,
    /// Rows of requests that wait which run together at most, where the model bears it; 0 or 1 runs each request by itself.
    #[arg(long, value_name = "N", default_value_t = policy::ROWS_MAX_DEFAULT)]
    pub batch_size_max: usize,
    /// Milliseconds that a request waits for others to run with, though the model is idle.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub batch_latency_max_ms: u64,
    /// What the trials of an earlier replica came to, as its status says: they are not made again where they hold.
    #[arg(long, value_name = "JSON", hide = true)]
    pub findings: Option<String>,
    /// Do not restrict this process: for development on kernels without Landlock.
    #[arg(long)]
    pub no_sandbox: bool,
    /// Serve nothing: try what the sandbox forbids, with it or without it, and write what comes of it.
    #[arg(long, value_name = "MODE", hide = true, requires = "listen")]
    pub sandbox_probe: Option<crate::sandbox::probe::Mode>,
}

/// Checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to serve.
    pub listen: Listen,
    /// Name of the model.
    pub model_name: String,
    /// Its version.
    pub model_version: String,
    /// Where it is.
    pub model_path: PathBuf,
    /// Threads for inference, when given.
    pub threads: Option<NonZeroUsize>,
    /// Memory the process may use.
    pub memory_bytes_max: Option<u64>,
    /// Which requests run together.
    pub batching: Policy,
    /// Whether to enter the sandbox.
    pub sandbox: bool,
    /// What the trials of an earlier replica came to, where it can be read.
    pub known: Option<Findings>,
}

/// Where to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP.
    Tcp(SocketAddr),
}

impl Config {
    /// Checks `args`.
    ///
    /// # Errors
    ///
    /// [`Error::Arguments`] says which argument is wrong and how to write it.
    pub fn from_args(args: Args) -> Result<Self, Error> {
        let listen = match (args.socket, args.listen) {
            (Some(path), None) => Listen::Unix(path),
            (None, Some(address)) => Listen::Tcp(address),
            _ => return Err(Error::Arguments("give one of `--socket` and `--listen`".to_owned())),
        };
        let model = args.model.unwrap_or_default();
        let Some((name, path)) = model.split_once('=') else {
            return Err(Error::Arguments(format!("`--model {model}` has no `=`: write `--model NAME=PATH`")));
        };
        check_name(name)?;
        if path.is_empty() {
            return Err(Error::Arguments(format!("`--model {model}` has no path: write `--model NAME=PATH`")));
        }
        let threads = args.threads.map(check_threads).transpose()?;
        Ok(Self {
            listen,
            model_name: name.to_owned(),
            model_version: args.model_version.to_string(),
            model_path: Path::new(path).to_owned(),
            threads,
            memory_bytes_max: args.memory_max,
            batching: check_batching(args.batch_size_max, args.batch_latency_max_ms)?,
            sandbox: !args.no_sandbox,
            known: args.findings.as_deref().and_then(Findings::parse),
        })
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > MODEL_NAME_LEN_MAX || !name.bytes().all(fits) {
        return Err(Error::Arguments(format!(
            "`{name}` is not a model name: use 1 to {MODEL_NAME_LEN_MAX} letters, digits, `-`, `_` and `.`"
        )));
    }
    Ok(())
}

fn check_threads(threads: usize) -> Result<NonZeroUsize, Error> {
    let wrong = || Error::Arguments(format!("`--threads {threads}` is out of range: use 1 to {THREADS_MAX}"));
    NonZeroUsize::new(threads).filter(|threads| threads.get() <= THREADS_MAX).ok_or_else(wrong)
}

fn check_batching(rows_max: usize, latency_ms_max: u64) -> Result<Policy, Error> {
    if rows_max > policy::ROWS_MAX {
        let text = format!("`--batch-size-max {rows_max}` is out of range: use 0 to {}", policy::ROWS_MAX);
        return Err(Error::Arguments(text));
    }
    let latency_max = Duration::from_millis(latency_ms_max);
    if latency_max > policy::LATENCY_MAX {
        let longest = policy::LATENCY_MAX.as_millis();
        let text = format!("`--batch-latency-max-ms {latency_ms_max}` is out of range: use 0 to {longest}");
        return Err(Error::Arguments(text));
    }
    Ok(Policy { rows_max, latency_max, ..Policy::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(model: &str) -> Args {
        Args {
            socket: Some("s.sock".into()),
            listen: None,
            model: Some(model.to_owned()),
            standby: false,
            model_version: 7,
            threads: None,
            memory_max: None,
            batch_size_max: 8,
            batch_latency_max_ms: 5,
            no_sandbox: false,
            findings: Some("{}".to_owned()),
            sandbox_probe: None,
        }
    }

    #[test]
    fn a_model_is_a_name_and_a_path() {
        let config = Config::from_args(args("iris=/m/a=b.onnx")).unwrap();
        assert_eq!((config.model_name.as_str(), config.model_version.as_str()), ("iris", "7"));
        assert_eq!(config.model_path, Path::new("/m/a=b.onnx"));
        assert!(config.sandbox && config.known.is_none());
        assert_eq!((config.batching.rows_max, config.batching.latency_max), (8, Duration::from_millis(5)));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for model in ["iris", "iris=", "=x", "a/b=x", "a b=x"] {
            assert!(matches!(Config::from_args(args(model)), Err(Error::Arguments(_))), "{model}");
        }
        let threads = Args { threads: Some(0), ..args("iris=x") };
        assert!(Config::from_args(threads).unwrap_err().to_string().contains("`--threads 0`"));
        let rows = Args { batch_size_max: 1025, ..args("iris=x") };
        assert!(Config::from_args(rows).unwrap_err().to_string().contains("use 0 to 1024"));
        let wait = Args { batch_latency_max_ms: 10_001, ..args("iris=x") };
        assert!(Config::from_args(wait).unwrap_err().to_string().contains("`--batch-latency-max-ms 10001`"));
        let neither = Args { socket: None, ..args("iris=x") };
        assert!(matches!(Config::from_args(neither), Err(Error::Arguments(_))));
    }
}
