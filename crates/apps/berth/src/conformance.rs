//! Tests any server of the Open Inference Protocol v2 from outside.
//!
//! No official suite exists. Each check here names the clause it comes from; where the specification contradicts itself or
//! leaves a choice, either way passes. Required checks are those of the specification's "must implement" parts; optional
//! ones are what careful servers do; extensions run when the server advertises them or clearly supports them.

mod body;
mod grpc;
mod report;
mod rest;
mod rest_binary;
mod rest_errors;
mod target;

use std::{path::PathBuf, time::Duration};

use report::{Outcome, Recorder};
use target::{Model, Target};

pub(crate) use report::Report;

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `berth conformance`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Base URL of the server, such as `http://127.0.0.1:8000`
    pub(crate) url: String,
    /// Address of its gRPC service, such as `127.0.0.1:8001`; without it, gRPC is not tested
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) grpc: Option<String>,
    /// Model to ask; without it, the first one that the server lists
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// File with the API key to send [default: the key in `BERTH_API_KEY`, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Why the suite could not run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConformanceError {
    /// The URL is not one that can be tested.
    #[error("`{0}` is not a base URL: write `http://host:port`")]
    Url(String),
    /// No model was named and none could be found.
    #[error("the server lists no models: name one with `--model`")]
    NoModel,
    /// The model's metadata cannot be read, so no request can be made for it.
    #[error("the metadata of `{model}` cannot be read: {reason}")]
    Metadata {
        /// The model.
        model: String,
        /// What happened.
        reason: String,
    },
}

/// Runs every check against the server.
pub(crate) async fn run(args: &Args, key: Option<String>) -> Result<Report, ConformanceError> {
    let target = Target::new(&args.url, key.clone())?;
    let name = match &args.model {
        Some(name) => name.clone(),
        None => target.first_model().await.ok_or(ConformanceError::NoModel)?,
    };
    let model = Model::read(&target, &name).await?;
    let mut recorder = Recorder::default();
    rest::run(&target, &model, &mut recorder).await;
    rest_errors::run(&target, &model, &mut recorder).await;
    rest_binary::run(&target, &model, &mut recorder).await;
    match &args.grpc {
        Some(address) => grpc::run(address, key, &model, &mut recorder).await,
        None => recorder.note("gRPC was not tested: give its address with `--grpc`"),
    }
    rest_errors::last(&target, &model, &mut recorder).await;
    Ok(recorder.finish(&args.url, args.grpc.as_deref(), &name))
}

/// Passes when `condition` holds.
fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if condition { Outcome::Pass } else { Outcome::Fail(otherwise()) }
}
