//! How a command fails: exit code, what went wrong, what to do.

use std::{io, path::Path};

/// Why a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Whoever read the output has gone: not a failure.
    Quiet = 0,
    /// It failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// Berth is not running.
    NotRunning = 4,
    /// The model or the manifest is wrong.
    Refused = 5,
    /// It took too long.
    TimedOut = 6,
    /// Ctrl-C, as shells have it.
    Interrupted = 130,
}

/// A failed command.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A system call on a file or directory failed.
    pub(crate) fn io(action: &str, path: &Path, source: &io::Error) -> Self {
        Self::failed(format!("cannot {action} `{}`: {}", path.display(), plainly(source)))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        match &error {
            client::Error::NotRunning { data_dir } => {
                let message = format!("Berth is not running in `{}`", data_dir.display());
                Self::new(Exit::NotRunning, message).hint("start it with `berth up`, or name another `--data-dir`")
            }
            client::Error::TimedOut(_) => Self::new(Exit::TimedOut, error.to_string()),
            client::Error::Refused(status) => {
                let exit = match status.code {
                    404 => Exit::NotFound,
                    422 => Exit::Refused,
                    504 => Exit::TimedOut,
                    _ => Exit::Failed,
                };
                Self::new(exit, error.to_string())
            }
            _ => Self::failed(daemon::supervisor::chain(&error)),
        }
    }
}

/// What a person needs of a system's error.
pub(crate) fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}

/// Errors of standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Quiet, ""),
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }
}
