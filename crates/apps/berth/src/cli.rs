//! Every command, option and example.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use resources::access::Permission;

mod examples;

/// Serves models: a model file becomes an endpoint with keys, limits and a sandbox.
#[derive(Debug, Parser)]
#[command(
    name = "berth",
    version,
    about,
    long_about = None,
    after_help = examples::TOP,
    help_template = "{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}",
    disable_help_subcommand = true,
    max_term_width = 100,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where Berth keeps everything [default: $XDG_DATA_HOME/berth or ~/.local/share/berth]
    #[arg(long, global = true, env = "BERTH_DATA_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// How to print: for people, for people with more columns, or for programs
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print without colours, as `NO_COLOR` does
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    /// For CI systems; `berth conformance` only
    #[value(hide = true)]
    Junit,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start Berth, in the foreground until Ctrl-C
    #[command(after_help = examples::UP)]
    Up(Up),
    /// Stop Berth; requests that have begun are finished first
    #[command(after_help = examples::DOWN)]
    Down,
    /// Show what runs
    #[command(after_help = examples::STATUS)]
    Status,
    /// Serve a model file or a bundle under a name
    #[command(after_help = examples::DEPLOY)]
    Deploy(Deploy),
    /// Create or update services from a manifest, Berth's or KServe's
    #[command(after_help = examples::APPLY)]
    Apply(Apply),
    /// Write a service in another platform's form
    #[command(subcommand, after_help = examples::EXPORT)]
    Export(Export),
    /// List services
    #[command(after_help = examples::GET)]
    Get(Get),
    /// Show everything about a service, and how to call it
    #[command(after_help = examples::DESCRIBE)]
    Describe(OneService),
    /// Show the logs of a service's replicas
    #[command(after_help = examples::LOGS)]
    Logs(Logs),
    /// Show what happened
    #[command(after_help = examples::EVENTS)]
    Events(Events),
    /// Ask a model
    #[command(after_help = examples::INFER)]
    Infer(Infer),
    /// Show and steer how a new revision takes over
    #[command(subcommand, after_help = examples::ROLLOUT)]
    Rollout(Rollout),
    /// Make, list and revoke API keys
    #[command(subcommand, after_help = examples::KEY)]
    Key(Key),
    /// Delete services
    #[command(after_help = examples::DELETE)]
    Delete(Delete),
    /// Print shell completions
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Check what this machine offers: sandbox, ONNX Runtime, data directory
    #[command(after_help = examples::DOCTOR)]
    Doctor,
    /// Simulate how a service scales under a load, several policies side by side
    #[command(after_help = examples::SIMULATE)]
    Simulate(crate::simulate::Args),
    /// Test any server of the Open Inference Protocol from outside
    #[command(after_help = examples::CONFORMANCE)]
    Conformance(crate::conformance::Args),
    /// Print the version
    #[command(after_help = examples::VERSION)]
    Version,
    /// Role: the door that clients talk to
    #[command(hide = true, after_help = examples::GATEWAY)]
    Gateway(gateway::Args),
    /// Role: loads one model and answers for it
    #[command(hide = true, after_help = examples::RUNTIME)]
    Runtime(runtime::Args),
    /// Role: keeps what was asked for running
    #[command(hide = true, after_help = examples::CONTROLLER)]
    Controller(controller::Args),
}

/// Start Berth.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Up {
    /// Come back once Berth is ready, and leave it running
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Address that clients use; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: keys and requests can be read on the way
    #[arg(long)]
    pub(crate) insecure_listen_in_the_clear: bool,
    /// Processes that have loaded ONNX Runtime and wait for a model [default: 1 where a service has `minReplicas: 0`, else 0]
    #[arg(long, value_name = "N", env = "BERTH_WARM_POOL", value_parser = clap::value_parser!(u32).range(..=i64::from(controller::WARM_POOL_MAX)))]
    pub(crate) warm_pool: Option<u32>,
}

/// Serve a model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Deploy {
    /// Name of the service: lower-case letters, digits and `-`
    pub(crate) name: String,
    /// An `.onnx` file, or a directory with `model.onnx` and what belongs to it
    pub(crate) path: PathBuf,
    /// Replicas kept running [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u32>,
    /// Seconds until a request fails [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Percent of the requests that a new revision gets; 100 for all [default: as before, else 100]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) canary: Option<u32>,
    /// Percent of the requests that are mirrored to a new revision, which answers none [default: as before, else none]
    #[arg(long, value_name = "PERCENT", conflicts_with = "canary", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) shadow: Option<u32>,
    #[command(flatten)]
    pub(crate) wait: WaitByDefault,
}

/// Waiting, unless told not to.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct WaitByDefault {
    /// Wait until the service answers (the default)
    #[arg(long, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Come back once the model is in the store
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) wait_timeout: u64,
}

/// Waiting, if told to.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct WaitOnRequest {
    /// Wait until it is done
    #[arg(long)]
    pub(crate) wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) wait_timeout: u64,
}

/// Create or update services.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Apply {
    /// Manifest in YAML or JSON, with one or several documents; `-` is standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub(crate) file: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) wait: WaitOnRequest,
}

/// List services.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Get {
    /// Only these
    pub(crate) names: Vec<String>,
    /// Go on and print what changes
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// One service.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OneService {
    /// Name of the service
    pub(crate) name: String,
}

/// Logs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Logs {
    /// Name of the service
    pub(crate) name: String,
    /// Last lines of each replica
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tail: u32,
    /// Only this replica
    #[arg(long, value_name = "ID")]
    pub(crate) replica: Option<String>,
    /// Go on and print what is added
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// Events.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Events {
    /// Only of this service
    pub(crate) name: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// Go on and print what happens
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Ask a model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Infer {
    /// Name of the service
    pub(crate) name: String,
    /// JSON, CSV with a header, or NumPy's .npy; `-` is JSON from standard input; repeat as NAME=FILE for several inputs
    #[arg(short, long, value_name = "[NAME=]FILE", required = true)]
    pub(crate) input: Vec<String>,
    /// Only these outputs of the model
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) outputs: Vec<String>,
    /// Revision to ask [default: as the requests are shared out]
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<u64>,
    /// Seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// File with the API key [default: $BERTH_API_KEY, else local.key in the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Base URL of the gateway [default: what `berth status` says]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Certificate to trust, or its authority's, PEM; for a gateway with TLS
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
}

/// Rollouts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Show how the requests are shared out
    #[command(after_help = examples::ROLLOUT_STATUS)]
    Status(OneService),
    /// Give the newest revision all requests
    #[command(after_help = examples::ROLLOUT_PROMOTE)]
    Promote(OneService),
    /// Give the newest revision no requests; the one before gets them
    #[command(after_help = examples::ROLLOUT_ABORT)]
    Abort(OneService),
}

/// Exports.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Export {
    /// Write a service as a manifest of KServe's `v1beta1`, in YAML unless `-o json`
    #[command(after_help = examples::EXPORT_KSERVE)]
    Kserve(OneService),
}

/// Keys.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key and show it, once
    #[command(after_help = examples::KEY_CREATE)]
    Create {
        /// Name of the key
        name: String,
        /// `infer:SERVICE`, `preview:SERVICE`, `metadata:SERVICE`, each with `*` for all, or `metrics`; repeat for several
        #[arg(long, value_name = "PERMISSION", required = true, value_delimiter = ',', value_parser = Permission::parse)]
        allow: Vec<Permission>,
        /// Write the key to a new file that only you can read, instead of showing it
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// List keys
    #[command(after_help = examples::KEY_LIST)]
    List,
    /// Revoke keys at once
    #[command(after_help = examples::KEY_REVOKE)]
    Revoke {
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        keys: Vec<String>,
    },
}

/// Delete services.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Delete {
    /// Names of the services
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: WaitOnRequest,
}

/// Completions.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests;
