//! Removes what nothing refers to any more, and what a crash left behind.

use std::{collections::BTreeSet, fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use rustix::fs::FlockOperation;

use crate::{Store, StoreError, error::io_error, files, manifest::digest_hex};

/// Held while something of this process is in `tmp`. The kernel lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct AtWork {
    _lock: fs::File,
}

impl Store {
    /// Removes one bundle. Its files stay on the disk until [`Store::collect`], which sees whether others have them.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownBundle`] when there is no such bundle.
    pub fn remove(&self, digest: &str) -> Result<(), StoreError> {
        let _at_work = self.at_work()?;
        let directory = self.bundle_dir(digest)?;
        self.set_aside(&directory)
    }

    /// Removes every bundle that is not in `live` and was not pushed within `age_min`, then the blobs that no bundle
    /// links to. Gives the removed digests.
    ///
    /// `age_min` protects what was pushed and is not referred to yet.
    ///
    /// # Errors
    ///
    /// When the system refuses; what was removed until then is gone.
    pub fn collect(&self, live: &BTreeSet<String>, age_min: Duration) -> Result<Vec<String>, StoreError> {
        let mut removed = Vec::new();
        for digest in self.list()? {
            let directory = self.bundles().join(digest_hex(&digest)?);
            if live.contains(&digest) || !is_older(&directory, age_min) {
                continue;
            }
            let _at_work = self.at_work()?;
            self.set_aside(&directory)?;
            removed.push(digest);
        }
        self.remove_unlinked_blobs()?;
        self.remove_rubbish()?;
        Ok(removed)
    }

    /// Moves a bundle into `tmp` and removes it there, so that a reader never sees half of it.
    pub(crate) fn set_aside(&self, directory: &Path) -> Result<(), StoreError> {
        let temporary = self.temporary();
        let doomed = tempfile::Builder::new()
            .prefix("removed-")
            .tempdir_in(&temporary)
            .map_err(io_error("make a directory in", &temporary))?;
        match fs::rename(directory, doomed.path().join("bundle")) {
            // Somebody else was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(io_error("remove", directory))?,
        }
        files::sync_dir(&self.bundles())?;
        let path = doomed.path().to_owned();
        doomed.close().map_err(io_error("remove", &path))
    }

    /// A blob whose only name is its own is in no bundle.
    ///
    /// A push that links to it at this moment keeps the file; only the next push of it finds no blob to share.
    fn remove_unlinked_blobs(&self) -> Result<(), StoreError> {
        for name in files::read_dir(&self.blobs())? {
            let blob = self.blobs().join(name);
            let metadata = fs::symlink_metadata(&blob).map_err(io_error("read", &blob))?;
            if metadata.nlink() == 1 {
                fs::remove_file(&blob).map_err(io_error("remove", &blob))?;
            }
        }
        Ok(())
    }

    /// Says that this process uses `tmp`.
    pub(crate) fn at_work(&self) -> Result<AtWork, StoreError> {
        let lock = self.lock(FlockOperation::LockShared)?;
        Ok(AtWork { _lock: lock })
    }

    /// Removes what an interrupted push or removal left in `tmp`, unless some process is at work there.
    pub(crate) fn remove_rubbish(&self) -> Result<(), StoreError> {
        let _lock = match self.lock(FlockOperation::NonBlockingLockExclusive) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            locked => locked?,
        };
        for name in files::read_dir(&self.temporary())? {
            let path = self.temporary().join(name);
            let kind = fs::symlink_metadata(&path).map_err(io_error("read", &path))?;
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    fn lock(&self, operation: FlockOperation) -> Result<fs::File, StoreError> {
        let temporary = self.temporary();
        let directory = fs::File::open(&temporary).map_err(io_error("open", &temporary))?;
        rustix::fs::flock(&directory, operation).map_err(|errno| io_error("lock", &temporary)(errno.into()))?;
        Ok(directory)
    }
}

fn is_older(path: &Path, than: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= than))
}
