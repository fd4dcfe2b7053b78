//! Removes what nothing refers to any more.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use crate::{Store, StoreError, error::io_error, files, manifest::digest_hex};

impl Store {
    /// Removes one bundle. Its files stay on the disk until [`Store::collect`] when no other bundle has them.
    pub fn remove(&self, digest: &str) -> Result<(), StoreError> {
        let directory = self.bundle_dir(digest)?;
        // Renamed first, so that a reader never sees half a bundle.
        let doomed = self.temporary().join(format!("removed-{}", digest_hex(digest)?));
        fs::rename(&directory, &doomed).map_err(io_error("remove", &directory))?;
        files::sync_dir(&self.bundles())?;
        fs::remove_dir_all(&doomed).map_err(io_error("remove", &doomed))
    }

    /// Removes every bundle that is not in `live` and was not pushed within `age_min`, then the blobs that no bundle
    /// links to. Gives the removed digests.
    ///
    /// `age_min` protects what was pushed and is not referred to yet.
    pub fn collect(&self, live: &BTreeSet<String>, age_min: Duration) -> Result<Vec<String>, StoreError> {
        let mut removed = Vec::new();
        for digest in self.list()? {
            if live.contains(&digest) || !is_older(&self.bundle_dir(&digest)?, age_min) {
                continue;
            }
            self.remove(&digest)?;
            removed.push(digest);
        }
        self.remove_unlinked_blobs()?;
        Ok(removed)
    }

    /// A blob whose only name is its own is in no bundle.
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

    /// Removes what an interrupted push or removal left in `tmp`, when it is old enough to be nobody's.
    pub(crate) fn remove_rubbish(&self) -> Result<(), StoreError> {
        for name in files::read_dir(&self.temporary())? {
            let path = self.temporary().join(name);
            if is_older(&path, RUBBISH_AGE) {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Age after which a staged push is nobody's: copying 4 GiB takes minutes, not an hour.
const RUBBISH_AGE: Duration = Duration::from_secs(3600);

fn is_older(path: &Path, than: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= than))
}
