//! The one executable of Berth: what people type, and the processes that it starts.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod commands;
mod conformance;
mod context;
mod failure;
mod infer;
mod output;
mod progress;
mod quantities;
mod roles;
mod simulate;
mod table;
mod up;
mod wait;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.command {
        cli::Command::Gateway(args) => roles::gateway(args),
        cli::Command::Runtime(args) => roles::runtime(args),
        cli::Command::Controller(args) => roles::controller(args),
        command => commands::run(cli.global, command),
    }
}
