//! One `berth up` for each data directory: a lock that its process holds.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("run/up.lock")
}

/// Holds the lock for as long as the file is open.
pub(super) fn hold(data_dir: &Path) -> Result<File, Failure> {
    let path = path(data_dir);
    let failed = |error: std::io::Error| Failure::io("lock", &path, &error);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = fs::read_to_string(&path).unwrap_or_default();
        let message = format!("another `berth up` (process {}) has `{}`", holder.trim(), data_dir.display());
        return Err(Failure::failed(message).hint("wait until it is ready, or stop it with `berth down`"));
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()));
    written.map_err(failed)?;
    Ok(file)
}

/// The process that holds the lock; nothing when none does.
pub(super) fn holder(data_dir: &Path) -> Option<i32> {
    let path = path(data_dir);
    let file = File::open(&path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    fs::read_to_string(&path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("run")).unwrap();
        assert_eq!(holder(home.path()), None);
        let first = hold(home.path()).unwrap();
        assert_eq!(holder(home.path()), i32::try_from(std::process::id()).ok());
        assert!(hold(home.path()).unwrap_err().message.contains(&std::process::id().to_string()));
        drop(first);
        assert_eq!(holder(home.path()), None);
        hold(home.path()).unwrap();
    }
}
