//! `bundle.json`: what a bundle is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::StoreError;

/// Name of the manifest in a bundle's directory.
pub const MANIFEST_FILE: &str = "bundle.json";
/// The one version of the manifest so far.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// What a bundle is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleManifest {
    /// Version of this layout; 1.
    pub schema_version: u32,
    /// Format of the model: `onnx`, `xgboost` or `lightgbm`.
    pub format: String,
    /// The files, sorted by path.
    pub files: Vec<BundleFile>,
    /// Inputs of the model.
    pub inputs: Vec<TensorInfo>,
    /// Outputs of the model.
    pub outputs: Vec<TensorInfo>,
    /// Versions of the operator sets, by domain; the empty domain is written `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// What made the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// Labels of an output's elements, by the output's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Vec<String>>,
    /// Name that the person gave the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One line about the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Licence of the model, an SPDX expression by preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where the model comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleFile {
    /// Path within the bundle, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Name, datatype and shape of an input or output as the Open Inference Protocol names them; -1 for a variable dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// `FP32`, `INT64`, `BYTES`, …
    pub datatype: String,
    /// Dimensions.
    pub shape: Vec<i64>,
}

impl BundleManifest {
    /// The bytes of `bundle.json`: JSON with sorted keys and no spaces, so that equal bundles have equal digests.
    pub fn canonical(&self) -> Vec<u8> {
        // A `Value`'s objects are sorted maps. Strings, numbers and lists cannot fail to serialise.
        let value = serde_json::to_value(self).unwrap_or_default();
        value.to_string().into_bytes()
    }

    /// The digest of the bundle.
    pub fn digest(&self) -> String {
        format!("sha256:{}", hex::encode(Sha256::digest(self.canonical())))
    }
}

/// The hexadecimal part of a digest. Nothing else gets into a path.
pub(crate) fn digest_hex(digest: &str) -> Result<&str, StoreError> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| is_hex_digest(hex));
    hex.ok_or_else(|| StoreError::NotADigest(digest.to_owned()))
}

/// Whether `text` is 64 lower-case hexadecimal digits.
pub(crate) fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
