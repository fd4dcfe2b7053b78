//! Why the controller cannot start or go on, and how the API says no.

use std::{io, net::SocketAddr, path::PathBuf};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// What ends the process, or keeps it from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none, or one that must not be listened on.
    #[error(transparent)]
    Listen(#[from] daemon::listen::ListenError),
    /// The address is taken.
    #[error("cannot listen on `{address}`: stop what uses it, or choose another address with `--listen`")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else's directory.
    #[error("the data directory `{path}` belongs to user {owner} and this is user {me}: use a directory of your own", path = .path.display())]
    ForeignDataDir {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        me: u32,
    },
    /// Others could change the data.
    #[error("others can write to the data directory `{path}` (mode {mode:03o}): look for what is not yours, then run `chmod 700 {path}`", path = .path.display())]
    OpenDataDir {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another controller has the data directory.
    #[error("another controller{holder} already runs in `{path}`: stop it with `berth down`, or use another data directory", path = .path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The other process, in words; may be empty.
        holder: String,
    },
    /// A system call failed.
    #[error("cannot {action} `{path}`", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database is of a later version.
    #[error("`{path}` was written by a newer version of Berth (schema {found}, this one knows {known}): use that version", path = .path.display())]
    NewerDatabase {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that is known.
        known: i64,
    },
    /// The database is damaged.
    #[error(
        "the database `{path}` is damaged ({reason}): put back a copy, or move it away to begin with no services and no keys; \
         models stay in the store", path = .path.display()
    )]
    DamagedDatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        reason: String,
    },
    /// The database refused.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// Something in the database cannot be read.
    #[error("the database holds what cannot be read: {0}")]
    Content(#[from] serde_json::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// How the API says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// The HTTP status.
    pub code: u16,
    /// One word for machines.
    pub reason: String,
    /// In words, with what to do.
    pub message: String,
}

/// An error of one request.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub(crate) struct ApiError(pub(crate) Status);

impl ApiError {
    pub(crate) fn new(code: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        let (kind, reason) = ("Status".to_owned(), reason.to_owned());
        Self(Status { kind, code: code.as_u16(), reason, message: message.into() })
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    pub(crate) fn no_service(name: &str) -> Self {
        let message = format!("there is no service `{name}`: `berth get` lists them");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn no_room(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = daemon::supervisor::chain(&error);
        tracing::error!(error = message, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(self.0)).into_response()
    }
}
