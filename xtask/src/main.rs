//! The project's own tasks: `cargo xtask setup`, `cargo xtask tidy`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Result, bail};

use workspace::Workspace;

mod setup;
mod tidy;
mod workspace;

const USAGE: &str = "\
Tasks of the project.

  cargo xtask setup            get ONNX Runtime (checked, cached) and put it beside the executables
  cargo xtask setup --into D   put it into the directory D instead
  cargo xtask tidy             check layout, direction of dependencies, files, pins and the lock file
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        [] | ["help" | "--help" | "-h"] => {
            say(USAGE.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        ["setup"] => {
            let folders = Workspace::load()?.executable_dirs();
            setup::run(&folders)
        }
        ["setup", "--into", folder] => setup::run(&[PathBuf::from(folder)]),
        ["tidy"] => tidy::run(&Workspace::load()?),
        _ => bail!("unknown arguments: `{}`\n\n{USAGE}", arguments.join(" ")),
    }
}

/// Prints a line for whoever runs the task.
fn say(line: &str) {
    // A closed pipe is the reader's choice.
    drop(writeln!(io::stdout(), "{line}"));
}

/// Prints a line about what is wrong.
fn complain(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
