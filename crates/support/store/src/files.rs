//! Small file operations that are durable when they return.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::error::{StoreError, io_error};

/// Bytes read at a time: few system calls, and no cache is flushed by them.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Makes a directory and its parents for the owner alone.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("make the directory", path))
}

/// Makes renames and new names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync the directory", path))
}

/// As [`sync_dir`], with the directories below.
pub(crate) fn sync_tree(directory: &Path) -> Result<(), StoreError> {
    for entry in read_dir(directory)? {
        let path = directory.join(entry);
        if path.is_dir() {
            sync_tree(&path)?;
        }
    }
    sync_dir(directory)
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

/// Opens a regular file without following a link.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// `length` bytes from `start`, fewer when the file ends; the file is at its start afterwards.
pub(crate) fn read_part(mut file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(length).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(bytes)
}

/// The next piece of a file; `None` at its end.
pub(crate) fn read_chunk<'a>(mut file: &File, chunk: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    loop {
        match file.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map(|count| chunk.get(..count).filter(|part| !part.is_empty())),
        }
    }
}

/// Bytes and SHA-256 of a file.
pub(crate) fn hash(path: &Path) -> io::Result<(u64, String)> {
    let file = open_regular(path)?;
    let (mut size, mut hasher, mut chunk) = (0, Sha256::new(), vec![0; CHUNK_BYTES]);
    while let Some(part) = read_chunk(&file, &mut chunk)? {
        size += part.len() as u64;
        hasher.update(part);
    }
    Ok((size, hex::encode(hasher.finalize())))
}
