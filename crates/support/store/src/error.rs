//! What can go wrong in a store.

use std::{io, path::PathBuf};

/// Why a push, a read or a check did not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or directory is not a model that Berth admits. The text says what it is and what to do instead.
    #[error("{0}")]
    Refused(String),
    /// No such bundle.
    #[error("there is no bundle `{0}` in the store")]
    UnknownBundle(String),
    /// A text is not a digest.
    #[error("`{0}` is not a bundle digest: it reads `sha256:` and 64 hexadecimal digits")]
    NotADigest(String),
    /// A bundle's files are not what its digests say.
    #[error("the bundle in `{path}` is damaged: {reason}")]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk is full or a file system limit was reached.
    #[error("there is no room for the model under `{path}`: free some space and push again")]
    NoRoom {
        /// Where it was to go.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused an operation.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Whether the source is at fault, not the store.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

pub(crate) fn io_error(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::NoRoom { path, source }
        }
        _ => StoreError::Io { action, path, source },
    }
}

/// A refusal. Names of files and tensors are a stranger's words: what would move a terminal's cursor is written out.
pub(crate) fn refused(text: impl Into<String>) -> StoreError {
    let text: String = text.into();
    if !text.contains(char::is_control) {
        return StoreError::Refused(text);
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    StoreError::Refused(text.chars().map(shown).collect())
}
