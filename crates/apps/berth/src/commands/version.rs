//! `berth version` and `berth completions`.

use std::io::Write as _;

use clap::CommandFactory as _;
use serde_json::json;

use crate::{
    cli::{Cli, Completions},
    failure::Failure,
    output::Output,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn version(out: Output) -> Result<(), Failure> {
    if out.is_for_people() { out.text(&format!("berth {VERSION}")) } else { out.value(&json!({"version": VERSION})) }
}

pub(super) fn completions(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "berth", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}
