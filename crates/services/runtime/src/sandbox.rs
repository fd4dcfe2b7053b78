//! Restricts this process before it reads a model: what an operator with a fault in it can still do is compute and answer.
//!
//! Flow: resource limits, capabilities, no new privileges, Landlock, seccomp. Each only takes away, none is ever undone.
//! Guarantees: what [`Report::enforced`] says holds for every thread that this process has or starts.
//! Assumptions: the process has one thread; its sockets and libraries are open already.
//! Caveats: a rule that the kernel does not have is left out and said in [`Report::missing`]; the rest is in force.

use std::{fs, io, path::PathBuf};

mod calls;
mod files;
mod limits;
mod privileges;
pub mod probe;
#[cfg(test)]
mod tests;

/// What a process may still do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The model's directory or file, which may be read.
    pub model: PathBuf,
    /// Bytes of private memory, when there is a limit.
    pub memory_bytes_max: Option<u64>,
}

/// What is in force, in words that end up in a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules in force.
    pub enforced: Vec<String>,
    /// Rules that the kernel does not have or refused, and what that means.
    pub missing: Vec<String>,
}

/// Why a process could not be restricted. It must not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Other threads would stay as they are.
    #[error(
        "the process has {0} threads, and only its first one can be restricted: start the sandbox before other threads"
    )]
    Threads(usize),
    /// The model cannot be opened.
    #[error(
        "cannot open the model `{path}` without special privileges: give it to the user that runs Berth, or run Berth as \
         its owner", path = .path.display()
    )]
    Model {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused something that every kernel allows.
    #[error("cannot restrict this process: {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Restricts this process for the rest of its life. Call it on the main thread, before there are others.
///
/// # Errors
///
/// [`Error`] when something is wrong that is no lack of the kernel: the process must end then.
pub fn enter(rules: &Rules) -> Result<Report, Error> {
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
    match threads {
        Ok(1) => restrict(rules),
        Ok(count) => Err(Error::Threads(count)),
        Err(source) => Err(Error::System { doing: "count the threads in `/proc/self/task`", source }),
    }
}

fn restrict(rules: &Rules) -> Result<Report, Error> {
    let mut report = Report::default();
    limits::apply(rules, &mut report)?;
    privileges::drop_all(&mut report)?;
    files::restrict(rules, &mut report)?;
    calls::filter(&mut report);
    Ok(report)
}

impl Report {
    fn enforced(&mut self, text: impl Into<String>) {
        self.enforced.push(text.into());
    }

    fn missing(&mut self, text: impl Into<String>) {
        self.missing.push(text.into());
    }
}
