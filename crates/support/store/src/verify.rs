//! Compares a bundle with its digests.

use std::{
    collections::BTreeSet,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    FILES_MAX, MODEL_FILES,
    error::{StoreError, io_error},
    files,
    manifest::{BundleManifest, MANIFEST_FILE, SCHEMA_VERSION, is_hex_digest},
    source::inner_path,
};

/// Bytes of `bundle.json`: room for thousands of inputs.
const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Directories within a bundle's directory, as a push allows.
const DEPTH_MAX: usize = 8;

/// Reads the bundle in `directory` and hashes each of its files. Where the directory's name is a digest, as in a store,
/// the bundle must have that digest.
///
/// # Errors
///
/// [`StoreError::Damaged`] says what is missing, too much or changed.
pub fn verify_dir(directory: &Path) -> Result<BundleManifest, StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: directory.to_owned(), reason };
    let manifest = read_manifest(directory)?;
    let mut expected = BTreeSet::from([PathBuf::from(MANIFEST_FILE)]);
    for file in &manifest.files {
        let Some(inner) = inner_path(&file.path).filter(|inner| *inner == file.path) else {
            return Err(damaged(format!("`{MANIFEST_FILE}` names the file `{}`", file.path)));
        };
        let path = directory.join(&inner);
        let (size, sha256) =
            files::hash(&path).map_err(|error| damaged(format!("`{inner}` cannot be read: {error}")))?;
        if size != file.size || sha256 != file.sha256 {
            return Err(damaged(format!("`{inner}` is not what its digest says")));
        }
        expected.insert(PathBuf::from(inner));
    }
    let has_model = MODEL_FILES.iter().any(|name| expected.contains(Path::new(name)));
    if manifest.files.len() > FILES_MAX || !has_model {
        return Err(damaged(format!("`{MANIFEST_FILE}` does not name the files of a bundle")));
    }
    match stranger(directory, Path::new(""), 0, &expected)? {
        Some(path) => Err(damaged(format!("`{}` is not in `{MANIFEST_FILE}`", path.display()))),
        None => Ok(manifest),
    }
}

/// Reads `bundle.json`, and checks it but not the other files.
pub(crate) fn read_manifest(directory: &Path) -> Result<BundleManifest, StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: directory.to_owned(), reason };
    let path = directory.join(MANIFEST_FILE);
    let mut bytes = Vec::new();
    let file = files::open_regular(&path).map_err(io_error("open", &path))?;
    file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
    let manifest: BundleManifest =
        serde_json::from_slice(&bytes).map_err(|error| damaged(format!("`{MANIFEST_FILE}`: {error}")))?;
    if manifest.schema_version != SCHEMA_VERSION {
        return Err(damaged(format!(
            "`{MANIFEST_FILE}` has version {}, and this release reads {SCHEMA_VERSION}",
            manifest.schema_version
        )));
    }
    if manifest.canonical() != bytes {
        return Err(damaged(format!("`{MANIFEST_FILE}` is not in its canonical form")));
    }
    let name = directory.file_name().and_then(|name| name.to_str()).filter(|name| is_hex_digest(name));
    match name.map(|name| format!("sha256:{name}")) {
        Some(expected) if manifest.digest() != expected => {
            Err(damaged(format!("its digest is {}, not {expected}", manifest.digest())))
        }
        _ => Ok(manifest),
    }
}

/// The first file that is not `expected`.
fn stranger(
    root: &Path,
    below: &Path,
    depth: usize,
    expected: &BTreeSet<PathBuf>,
) -> Result<Option<PathBuf>, StoreError> {
    for name in files::read_dir(&root.join(below))? {
        let inner = below.join(name);
        let path = root.join(&inner);
        let kind = std::fs::symlink_metadata(&path).map_err(io_error("read", &path))?.file_type();
        let found = match kind.is_dir() && depth < DEPTH_MAX {
            true => stranger(root, &inner, depth + 1, expected)?,
            false => (!expected.contains(&inner)).then_some(inner),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
