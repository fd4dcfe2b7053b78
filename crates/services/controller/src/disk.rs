//! How much room the data directory has, and when it is too little to take a model in.

use std::path::Path;

use serde::Serialize;

/// Least room for a push: the database, its journal and the gateway's configuration have to be written while it is full of models.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// And the least part of the file system, of which a hundredth is soon written by others.
const FREE_PART_MIN: u64 = 100;

/// Room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Disk {
    /// Bytes that this user may still write.
    pub(crate) free_bytes: u64,
    /// Bytes that there are.
    pub(crate) total_bytes: u64,
    /// Whether pushes are refused for want of room.
    pub(crate) full: bool,
}

impl Disk {
    /// Of the file system that `directory` is on; nothing where it does not say, which keeps nobody from writing.
    pub(crate) fn of(directory: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(directory).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Self::new(bytes(found.f_bavail), bytes(found.f_blocks)))
    }

    fn new(free_bytes: u64, total_bytes: u64) -> Self {
        let full = free_bytes < FREE_BYTES_MIN.max(total_bytes / FREE_PART_MIN);
        Self { free_bytes, total_bytes, full }
    }

    /// Why nothing is taken in, if so.
    pub(crate) fn refusal(self) -> Option<String> {
        let needed = FREE_BYTES_MIN.max(self.total_bytes / FREE_PART_MIN) >> 20;
        self.full.then(|| {
            format!(
                "the disk of the data directory has {} MiB free and a model is taken in from {needed} MiB on: \
                 free some space and push again",
                self.free_bytes >> 20
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_free_and_never_less_than_the_database_needs() {
        let gib = |number: u64| number << 30;
        assert!(!Disk::new(64 << 20, gib(1)).full);
        assert!(Disk::new((64 << 20) - 1, gib(1)).full);
        assert!(Disk::new(gib(1) - 1, gib(100)).full);
        assert_eq!(Disk::new(gib(1), gib(100)).refusal(), None);
        let told = Disk::new(gib(1) / 2, gib(100)).refusal().unwrap();
        assert!(told.contains("has 512 MiB free and a model is taken in from 1024 MiB on"), "{told}");
        let here = Disk::of(Path::new("/")).unwrap();
        assert!(here.total_bytes >= here.free_bytes && here.total_bytes > 0);
        assert_eq!(Disk::of(Path::new("/no/such/directory")), None);
    }
}
