//! Names and ids as newtypes, valid by construction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest service name: a DNS label (RFC 1123), so that the same name works as a Kubernetes object and a host name.
pub const SERVICE_NAME_LEN_MAX: usize = 63;

/// Name of an `InferenceService`: a DNS label of lower-case letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// Why a text is not a valid name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// The text has no characters.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than a DNS label.
    #[error("`{0}` is longer than {SERVICE_NAME_LEN_MAX} characters")]
    TooLong(String),
    /// The text has a character outside the alphabet, or starts or ends with `-`.
    #[error(
        "`{0}` is not a DNS label: use lower-case letters, digits and `-`, and start and end with a letter or digit"
    )]
    NotALabel(String),
}

impl ServiceName {
    /// Checks `text` against RFC 1123.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > SERVICE_NAME_LEN_MAX {
            return Err(NameError::TooLong(text.to_owned()));
        }
        let inner = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !inner || text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::NotALabel(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

/// Id of one replica, unique for the life of a data directory: `<service>-<revision>-<random>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub String);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of a revision of a service, from 1. It is the model version that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Digest of a bundle: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BundleDigest(pub String);

impl fmt::Display for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
