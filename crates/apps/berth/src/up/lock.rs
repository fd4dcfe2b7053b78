//! One `berth up` for each data directory: a lock that its process holds.

use std::path::{Path, PathBuf};

use daemon::lock::{Lock, LockError};

use crate::failure::Failure;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("run/up.lock")
}

/// Takes the lock, for as long as it is not dropped.
pub(super) fn hold(data_dir: &Path) -> Result<Lock, Failure> {
    let path = path(data_dir);
    daemon::lock::hold(&path).map_err(|error| match error {
        LockError::Held(process) => {
            let process = process.map(|id| format!(" (process {id})")).unwrap_or_default();
            let message = format!("another `berth up`{process} has `{}`", data_dir.display());
            Failure::failed(message).hint("wait until it is ready, or stop it with `berth down`")
        }
        LockError::Io(error) => Failure::io("lock", &path, &error),
    })
}

/// The process that holds the lock; nothing when none does.
pub(super) fn holder(data_dir: &Path) -> Option<i32> {
    daemon::lock::holder(&path(data_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_of_the_first() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("run")).unwrap();
        let _first = hold(home.path()).unwrap();
        assert_eq!(holder(home.path()), i32::try_from(std::process::id()).ok());
        let second = hold(home.path()).unwrap_err();
        assert!(second.message.contains(&format!("(process {})", std::process::id())), "{}", second.message);
    }
}
