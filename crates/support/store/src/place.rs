//! Gives a staged bundle its place: shares its files with other bundles, describes it, and moves it there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::{
    Store, StoreError,
    error::io_error,
    files,
    manifest::{BundleManifest, MANIFEST_FILE, digest_hex},
    push::{Pushed, Staging},
    step::Step,
    verify::verify_dir,
};

impl Store {
    /// Moves a staged bundle to its place. A bundle that is there already stays, unless it is damaged.
    pub(crate) fn place(&self, staging: &Staging, manifest: BundleManifest) -> Result<Pushed, StoreError> {
        let digest = manifest.digest();
        let target = self.bundles().join(digest_hex(&digest)?);
        if target.exists() {
            match verify_dir(&target) {
                Ok(_) => {
                    touch(&target)?;
                    return Ok(Pushed { digest, manifest, is_new: false });
                }
                Err(error) => {
                    tracing::warn!(bundle = digest, %error, "replacing a damaged bundle by what was pushed");
                    self.set_aside(&target)?;
                }
            }
        }
        for file in &manifest.files {
            self.share(staging, &staging.bundle().join(&file.path), &file.sha256)?;
        }
        write_manifest(staging, &manifest)?;
        files::sync_tree(&staging.bundle())?;
        files::sync_dir(&self.blobs())?;
        match fs::rename(staging.bundle(), &target) {
            Ok(()) => {}
            // Another push of the same bundle was quicker: its bytes are the same.
            Err(_) if target.join(MANIFEST_FILE).is_file() => return Ok(Pushed { digest, manifest, is_new: false }),
            Err(error) => return Err(io_error("move the bundle to", &target)(error)),
        }
        staging.step(Step::Placed)?;
        files::sync_dir(&self.bundles())?;
        Ok(Pushed { digest, manifest, is_new: true })
    }

    /// Makes one file of a staged file and the blob of the same content.
    fn share(&self, staging: &Staging, staged: &Path, sha256: &str) -> Result<(), StoreError> {
        let blob = self.blobs().join(sha256);
        match fs::hard_link(staged, &blob) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A blob is what its name says or it is replaced: a damaged one must not spread.
                let whole = files::hash(&blob).is_ok_and(|(_, found)| found == sha256);
                let (from, over) = if whole { (blob.as_path(), staged) } else { (staged, blob.as_path()) };
                if let Err(error) = replace(from, over, &staging.spare())
                    && !is_unshareable(&error)
                {
                    return Err(io_error("link", &blob)(error));
                }
            }
            // The bundle keeps its own copy.
            Err(error) if is_unshareable(&error) => {}
            Err(error) => return Err(io_error("link", &blob)(error)),
        }
        staging.step(Step::Shared)
    }
}

/// A file system without hard links, or a file that has as many as there can be.
fn is_unshareable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::TooManyLinks)
}

/// Makes `over` another name of `from`, in one step for whoever looks.
fn replace(from: &Path, over: &Path, spare: &Path) -> io::Result<()> {
    fs::hard_link(from, spare)?;
    let renamed = fs::rename(spare, over);
    // A rename between two names of one file leaves both.
    match fs::remove_file(spare) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => renamed,
        removed => renamed.and(removed),
    }
}

fn write_manifest(staging: &Staging, manifest: &BundleManifest) -> Result<(), StoreError> {
    let path = staging.bundle().join(MANIFEST_FILE);
    let mut written = File::create_new(&path).map_err(io_error("write", &path))?;
    written.write_all(&manifest.canonical()).map_err(io_error("write", &path))?;
    written.sync_all().map_err(io_error("sync", &path))?;
    files::make_read_only(&path)?;
    staging.step(Step::Described)
}

/// Makes a bundle young again, so that [`Store::collect`] leaves it to whoever just pushed it.
fn touch(directory: &Path) -> Result<(), StoreError> {
    let now = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    };
    rustix::fs::utimensat(rustix::fs::CWD, directory, &now, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| io_error("touch", directory)(errno.into()))
}
