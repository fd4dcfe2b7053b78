//! Removes what nothing refers to any more.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use crate::{Store, StoreError, error::io_error, files, manifest::digest_hex};

impl Store {
    /// Removes every bundle that is not in `live`, then the blobs that no bundle links to. Gives the removed digests.
    ///
    /// The caller makes sure that no push is under way whose digest it does not know yet.
    pub fn collect(&self, live: &BTreeSet<String>) -> Result<Vec<String>, StoreError> {
        let mut removed = Vec::new();
        for digest in self.list()? {
            if live.contains(&digest) {
                continue;
            }
            // Renamed first, so that a reader never sees half a bundle.
            let directory = self.bundles().join(digest_hex(&digest)?);
            let doomed = self.temporary().join(format!("removed-{}", digest_hex(&digest)?));
            fs::rename(&directory, &doomed).map_err(io_error("remove", &directory))?;
            fs::remove_dir_all(&doomed).map_err(io_error("remove", &doomed))?;
            removed.push(digest);
        }
        if !removed.is_empty() {
            files::sync_dir(&self.bundles())?;
            self.remove_unlinked_blobs()?;
        }
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
            if is_old(&path) {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Age after which a staged push is nobody's: copying 4 GiB takes minutes, not an hour.
const RUBBISH_AGE_SECONDS: u64 = 3600;

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age.as_secs() > RUBBISH_AGE_SECONDS))
}
