//! API keys and what they permit.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Ask a model for predictions, and read its metadata and readiness.
    Infer,
    /// Ask a revision by its number that takes no ordinary requests.
    Preview,
    /// Read a model's metadata and readiness.
    Metadata,
    /// Read `/metrics`; has no service.
    Metrics,
}

/// On which services.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceScope {
    /// Every service, now and later.
    All,
    /// One service.
    Named(ServiceName),
}

/// One permission, written `infer:spam`, `infer:*`, `preview:spam`, `metadata:spam` or `metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    /// What.
    pub action: Action,
    /// Where.
    pub scope: ServiceScope,
}

/// Why a text is not a permission.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a permission: write `infer:`, `preview:` or `metadata:` with a service or `*` behind it, or `metrics`"
)]
pub struct PermissionError(pub String);

impl Permission {
    /// Reads the short form.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        let wrong = || PermissionError(text.to_owned());
        let (action, service) = match text.split_once(':') {
            Some(("infer", service)) => (Action::Infer, service),
            Some(("preview", service)) => (Action::Preview, service),
            Some(("metadata", service)) => (Action::Metadata, service),
            None if text == "metrics" => (Action::Metrics, "*"),
            _ => return Err(wrong()),
        };
        let scope = match service {
            "*" => ServiceScope::All,
            name => ServiceScope::Named(ServiceName::parse(name).map_err(|_| wrong())?),
        };
        Ok(Self { action, scope })
    }

    /// Whether this permission covers `action` on `service`. `Infer` and `Preview` cover `Metadata` of the same service;
    /// neither covers the other.
    pub fn covers(&self, action: Action, service: Option<&str>) -> bool {
        let reads = matches!(self.action, Action::Infer | Action::Preview) && action == Action::Metadata;
        let action_fits = self.action == action || reads;
        let scope_fits = match (&self.scope, service) {
            (ServiceScope::All, _) => true,
            (ServiceScope::Named(name), Some(service)) => name.as_str() == service,
            (ServiceScope::Named(_), None) => false,
        };
        action_fits && scope_fits
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Infer => "infer",
            Action::Preview => "preview",
            Action::Metadata => "metadata",
            Action::Metrics => return f.write_str("metrics"),
        };
        match &self.scope {
            ServiceScope::All => write!(f, "{action}:*"),
            ServiceScope::Named(name) => write!(f, "{action}:{name}"),
        }
    }
}

impl TryFrom<String> for Permission {
    type Error = PermissionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.to_string()
    }
}

/// What is kept of a key: never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// Public part of the key; also how logs name it.
    pub id: String,
    /// Name given by the person who made it, unique among live keys.
    pub name: String,
    /// SHA-256 of the secret, hexadecimal.
    pub digest: String,
    /// What it permits.
    pub allow: Vec<Permission>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// Asks for a new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyCreate {
    /// Name of the key; a DNS label.
    pub name: ServiceName,
    /// What it permits; at least one.
    pub allow: Vec<Permission>,
}

/// Answer to [`KeyCreate`]: the only time the key is shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyCreated {
    /// What is kept, without the digest.
    #[serde(flatten)]
    pub view: KeyView,
    /// The key itself: `berth_<id>_<secret>`.
    pub key: String,
}

impl fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCreated").field("view", &self.view).field("key", &"<secret>").finish()
    }
}

/// What lists show of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    /// Public part of the key.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it permits.
    pub allow: Vec<Permission>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

impl From<&KeyRecord> for KeyView {
    fn from(record: &KeyRecord) -> Self {
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            allow: record.allow.clone(),
            created_at: record.created_at.clone(),
        }
    }
}
