//! A lock that one process holds for as long as it lives, in a file that says which.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// A lock that is held until it is dropped. The kernel drops it when the process ends, however that happens.
#[derive(Debug)]
#[expect(dead_code, reason = "the file is held for its lock")]
pub struct Lock(File);

/// Why a lock is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it; which, where it has said so.
    #[error("another process has the lock")]
    Held(Option<i32>),
    /// The file cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes the lock at `path`, whose file is made for its owner alone, and writes this process's id into it.
///
/// # Errors
///
/// [`LockError`]; it does not wait.
pub fn hold(path: &Path) -> Result<Lock, LockError> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(LockError::Held(written(path)));
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Lock(file))
}

/// The process that holds the lock; nothing when none does.
pub fn holder(path: &Path) -> Option<i32> {
    let file = File::open(path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    written(path)
}

fn written(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let me = i32::try_from(std::process::id()).ok();
        assert_eq!(holder(&path), None);
        let first = hold(&path).unwrap();
        assert_eq!(holder(&path), me);
        assert!(matches!(hold(&path), Err(LockError::Held(process)) if process == me));
        drop(first);
        assert_eq!(holder(&path), None);
        hold(&path).unwrap();
        assert!(matches!(hold(&home.path().join("absent/lock")), Err(LockError::Io(_))));
    }
}
