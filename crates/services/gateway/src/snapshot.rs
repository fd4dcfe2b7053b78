//! The configuration on disk: what a gateway serves from when it starts without a controller.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use resources::snapshot::GatewaySnapshot;

/// Bytes of a snapshot: 100,000 keys and 10,000 services fit.
pub(crate) const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where a snapshot is kept.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens `dir`, which is made, for its owner alone, when it is not there.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir })
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self) -> PathBuf {
        self.dir.join("snapshot.json")
    }

    /// The last snapshot written; nothing when there never was one. A file that cannot be read is an error: the
    /// caller says so and waits for the controller.
    pub(crate) fn load(&self) -> io::Result<Option<GatewaySnapshot>> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(SNAPSHOT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Writes `snapshot` so that after a crash at any point either it or the one before is there, whole.
    ///
    /// It holds digests of keys, not keys; still it is for its owner alone.
    pub(crate) fn save(&self, snapshot: &GatewaySnapshot) -> io::Result<()> {
        let bytes = serde_json::to_vec(snapshot)?;
        let tmp = self.dir.join("snapshot.json.tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, self.path())?;
        sync_dir(&self.dir)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("gateway")).unwrap();
        assert_eq!(store.load().unwrap(), None);
        for generation in [3, 4] {
            let snapshot = GatewaySnapshot { generation, ..GatewaySnapshot::default() };
            store.save(&snapshot).unwrap();
            assert_eq!(store.load().unwrap(), Some(snapshot));
        }
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&store.dir).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_broken_file_is_an_error_and_half_a_write_is_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        fs::write(dir.path().join("snapshot.json.tmp"), "{\"gen").unwrap();
        assert_eq!(store.load().unwrap(), None);
        fs::write(store.path(), "{\"gen").unwrap();
        assert!(store.load().is_err());
    }
}
