//! Why this process could not start, load its model or go on.

use std::{io, path::PathBuf};

use crate::load::LoadError;

/// What ended the process before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not make sense together.
    #[error("{0}")]
    Arguments(String),
    /// The socket could not be bound.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// Path or address.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The ONNX Runtime library is nowhere.
    #[error(
        "the ONNX Runtime library is missing: looked for {}; run `cargo xtask setup`, or copy `onnxruntime/capi/{file}` \
         out of the Python wheel `onnxruntime=={version}` to one of these places, or set `BERTH_ONNXRUNTIME` to its path",
        list(.looked)
    )]
    LibraryMissing {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
        /// Its file name.
        file: &'static str,
        /// Its version.
        version: &'static str,
    },
    /// The ONNX Runtime library is not the one this release was tested with.
    #[error(
        "`{path}` has the SHA-256 {found}, not {expected}: replace it with the file from the release, \
         or set `BERTH_ONNXRUNTIME` to use a library of your own", path = .path.display()
    )]
    LibraryChanged {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The digest it should have.
        expected: &'static str,
    },
    /// The ONNX Runtime library could not be read or loaded.
    #[error("cannot load the ONNX Runtime library `{path}`: {reason}", path = .path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The process could not be restricted.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// A system call that the process needs failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The gRPC services cannot be described, which is a fault of this program.
    #[error("cannot describe the gRPC services")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The model did not load.
    #[error("model failed to load: {0}")]
    Model(#[from] LoadError),
}

impl Error {
    /// Exit code of the process: 2 for arguments, 3 for a model that does not load, 1 for the rest.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Arguments(_) => 2,
            Self::Model(_) => 3,
            _ => 1,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}
