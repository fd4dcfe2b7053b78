//! Small file operations that are durable when they return.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use crate::error::{StoreError, io_error};

/// Makes a directory and its parents for the owner alone.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("make the directory", path))
}

/// Makes renames and new names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync the directory", path))
}

/// Makes a file read-only for everyone that its directory lets in.
pub(crate) fn make_read_only(path: &Path) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).map_err(io_error("protect", path))
}

/// Names in a directory.
pub(crate) fn read_dir(path: &Path) -> Result<Vec<OsString>, StoreError> {
    let entries = fs::read_dir(path).map_err(io_error("list", path))?;
    entries.map(|entry| Ok(entry.map_err(io_error("list", path))?.file_name())).collect()
}
