//! Compares a bundle with its digests.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    error::{StoreError, io_error},
    manifest::{BundleManifest, MANIFEST_FILE, SCHEMA_VERSION},
    source::check_location,
};

/// Bytes of `bundle.json`: room for thousands of inputs.
const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads the bundle in `directory` and hashes each of its files.
pub fn verify_dir(directory: &Path) -> Result<BundleManifest, StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: directory.to_owned(), reason };
    let manifest_path = directory.join(MANIFEST_FILE);
    let mut bytes = Vec::new();
    let file = File::open(&manifest_path).map_err(io_error("open", &manifest_path))?;
    file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).map_err(io_error("read", &manifest_path))?;
    let manifest: BundleManifest =
        serde_json::from_slice(&bytes).map_err(|error| damaged(format!("`{MANIFEST_FILE}`: {error}")))?;
    if manifest.schema_version != SCHEMA_VERSION {
        return Err(damaged(format!(
            "`{MANIFEST_FILE}` has version {}, expected {SCHEMA_VERSION}",
            manifest.schema_version
        )));
    }
    if manifest.canonical() != bytes {
        return Err(damaged(format!("`{MANIFEST_FILE}` is not in its canonical form")));
    }
    for file in &manifest.files {
        let path = directory.join(check_location(&file.path)?);
        let (size, sha256) = hash(&path)?;
        if size != file.size || sha256 != file.sha256 {
            return Err(damaged(format!("`{}` is not what its digest says", file.path)));
        }
    }
    Ok(manifest)
}

fn hash(path: &Path) -> Result<(u64, String), StoreError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut hasher = Sha256::new();
    let size = io::copy(&mut file, &mut hasher).map_err(io_error("read", path))?;
    Ok((size, hex::encode(hasher.finalize())))
}
