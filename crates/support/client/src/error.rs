//! Why a call failed.

use std::{io, path::PathBuf, time::Duration};

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// How the API says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// One word for machines: `NotFound`, `AlreadyExists`, `Invalid`, …
    pub reason: String,
    /// In words, with what to do.
    pub message: String,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("Berth is not running in `{path}`: start it with `berth up`", path = .data_dir.display())]
    NotRunning {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot talk to Berth through `{path}`", path = .socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke in the middle of a call; whether the call was carried out is not known.
    #[error("the connection to Berth broke before it answered: ask again, and see `berth status`")]
    Broken {
        /// What the transport said.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("Berth did not answer within {} s: see `berth status` and the controller's log", .0.as_secs())]
    TimedOut(Duration),
    /// Berth said no.
    #[error("{}", .0.message)]
    Refused(Status),
    /// The answer makes no sense to this version.
    #[error("Berth's answer cannot be read by this version of the client: {0}")]
    Unreadable(String),
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(status) => StatusCode::from_u16(status.code).ok(),
            _ => None,
        }
    }

    /// Whether what was named does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(StatusCode::NOT_FOUND)
    }

    /// Whether something of the name exists already, or was changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(StatusCode::CONFLICT)
    }

    /// Whether a watch must begin again with a list.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(StatusCode::GONE)
    }

    /// Whether the controller is away, as opposed to saying no.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::Socket { .. } | Self::Broken { .. })
    }
}
