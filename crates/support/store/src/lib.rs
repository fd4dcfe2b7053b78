//! Model bundles: recognised by content, scanned, pushed atomically, content-addressed and verified.
//!
//! A bundle is a directory of read-only files with a `bundle.json` that names each file's SHA-256. The digest of
//! `bundle.json` is the digest of the bundle. Files are shared between bundles by hard links to `blobs/sha256/<hex>`.

mod collect;
mod encoder;
mod error;
mod files;
#[cfg(test)]
mod fixture;
mod manifest;
mod model;
mod notes;
pub mod onnx;
mod place;
mod push;
pub mod recognise;
mod source;
mod step;
mod verify;

use std::path::{Path, PathBuf};

pub use error::StoreError;
pub use manifest::{BundleFile, BundleManifest, MANIFEST_FILE, TensorInfo};
pub use model::Format;
pub use push::{Progress, Pushed};
pub use source::format;
pub use verify::verify_dir;

/// Files of one bundle. Models with external weights have a handful.
pub const FILES_MAX: usize = 64;
/// Bytes of one file.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of the ONNX file itself: protobuf's own limit; larger weights are external data.
pub const MODEL_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Name of an ONNX model's file in a bundle.
pub const MODEL_FILE: &str = "model.onnx";
/// Names of the model's file in a bundle, of which there is one; the first that is there counts.
pub const MODEL_FILES: [&str; 4] = [MODEL_FILE, "model.json", "model.ubj", "model.txt"];
/// Name of the file with a person's notes on the model.
pub const NOTES_FILE: &str = "bundle.yaml";
/// Name of the file with golden inputs and expected outputs.
pub const GOLDEN_FILE: &str = "golden.json";

/// A content-addressed store in a directory. Any number of processes may push to it and read from it.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in `root`, making what is missing. What an interrupted push left behind is removed.
    ///
    /// # Errors
    ///
    /// When the directories cannot be made or read.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned() };
        for directory in [store.blobs(), store.bundles(), store.temporary()] {
            files::make_private_dir(&directory)?;
        }
        store.remove_rubbish()?;
        Ok(store)
    }

    /// The directory of a bundle, when the store has it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotADigest`] or [`StoreError::UnknownBundle`].
    pub fn bundle_dir(&self, digest: &str) -> Result<PathBuf, StoreError> {
        let directory = self.bundles().join(manifest::digest_hex(digest)?);
        if directory.join(MANIFEST_FILE).is_file() {
            Ok(directory)
        } else {
            Err(StoreError::UnknownBundle(digest.to_owned()))
        }
    }

    /// What a bundle is made of. Its files are not compared with their digests.
    ///
    /// # Errors
    ///
    /// As [`Store::bundle_dir`], and [`StoreError::Damaged`].
    pub fn manifest(&self, digest: &str) -> Result<BundleManifest, StoreError> {
        verify::read_manifest(&self.bundle_dir(digest)?)
    }

    /// Reads a bundle and compares every file with its digest.
    ///
    /// # Errors
    ///
    /// As [`Store::bundle_dir`], and [`StoreError::Damaged`].
    pub fn verify(&self, digest: &str) -> Result<BundleManifest, StoreError> {
        verify_dir(&self.bundle_dir(digest)?)
    }

    /// Digests of all bundles, sorted.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>, StoreError> {
        let names = files::read_dir(&self.bundles())?;
        let hex = names.iter().filter_map(|name| name.to_str()).filter(|name| manifest::is_hex_digest(name));
        let mut digests: Vec<String> = hex.map(|hex| format!("sha256:{hex}")).collect();
        digests.sort();
        Ok(digests)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

#[cfg(test)]
mod tests;
