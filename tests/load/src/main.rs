//! A closed-loop load generator for HTTP/1.1 and gRPC, and the fixed-answer server that shows what the HTTP stack can do.

mod fixed;
mod grpc;
mod http1;
mod report;

use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::report::{Report, Samples};

/// Measures servers on this machine.
#[derive(Debug, Parser)]
#[command(name = "berth-load")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks over HTTP/1.1; prints a report as JSON.
    Http(LoadArgs),
    /// Asks `ModelInfer` over gRPC; the body is one encoded message. Prints a report as JSON.
    Grpc(LoadArgs),
    /// Answers every request with the same JSON; prints its address as JSON.
    Fixed(fixed::FixedArgs),
}

/// What to ask, how often and how long.
#[derive(Clone, Debug, Args)]
struct LoadArgs {
    /// Host and port, such as `127.0.0.1:8080`.
    #[arg(long)]
    address: String,
    /// Path of the request.
    #[arg(long, default_value = "/inference.GRPCInferenceService/ModelInfer")]
    path: String,
    /// File with the body.
    #[arg(long)]
    body: PathBuf,
    /// A header or metadata entry, `name: value`; may be repeated.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Connections; each has one request under way at a time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Seconds that count.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before them that do not.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
}

/// When samples begin to count, and when asking ends.
#[derive(Clone, Copy, Debug)]
struct Window {
    counts_from: Instant,
    ends: Instant,
}

/// A run is bounded, whatever the arguments say.
const SECONDS_MAX: f64 = 600.0;
/// After a failure a connection waits, so that a dead server does not make a busy loop.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // One thread: the machine's other cores belong to the server that is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = match command {
        Command::Fixed(args) => return fixed::run(&args),
        Command::Http(args) => runtime.block_on(load(args, http1::connection))?,
        Command::Grpc(args) => runtime.block_on(load(args, grpc::connection))?,
    };
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}

/// Runs one task for each connection and merges what they saw.
async fn load<F>(args: LoadArgs, connection: fn(LoadArgs, Vec<u8>, Window) -> F) -> anyhow::Result<Report>
where
    F: Future<Output = anyhow::Result<Samples>> + Send + 'static,
{
    let body = std::fs::read(&args.body).with_context(|| format!("`{}` cannot be read", args.body.display()))?;
    let counts_from = Instant::now() + Duration::from_secs_f64(args.warmup.clamp(0.0, SECONDS_MAX));
    let window =
        Window { counts_from, ends: counts_from + Duration::from_secs_f64(args.seconds.clamp(0.1, SECONDS_MAX)) };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..args.connections {
        tasks.spawn(connection(args.clone(), body.clone(), window));
    }
    let mut all = Samples::default();
    while let Some(done) = tasks.join_next().await {
        all.merge(done??);
    }
    Ok(all.report(window.ends - window.counts_from))
}

/// Splits `name: value`.
fn header(text: &str) -> anyhow::Result<(&str, &str)> {
    let (name, value) =
        text.split_once(':').with_context(|| format!("`{text}` is not a header: write `name: value`"))?;
    Ok((name.trim(), value.trim()))
}
