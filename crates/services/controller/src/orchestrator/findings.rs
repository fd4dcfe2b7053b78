//! What replicas found out in trials of their models, kept so that the next replica of a bundle need not make them again.
//!
//! A file for each bundle, in JSON that the runtime alone understands and checks. What cannot be read or written is no
//! harm: the trials are made again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Bytes of one bundle's findings, as the runtime bounds them.
const BYTES_MAX: usize = 4096;
/// Files kept, the newest: more than one machine serves models.
const FILES_MAX: usize = 256;

/// The directory of the findings.
#[derive(Debug)]
pub(crate) struct Findings {
    directory: PathBuf,
}

impl Findings {
    /// Those of the data directory `data_dir`.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { directory: data_dir.join("findings") }
    }

    /// What is known of the bundle in `bundle_dir`.
    pub(crate) fn read(&self, bundle_dir: &Path) -> Option<String> {
        let path = self.path(bundle_dir)?;
        let fits = fs::metadata(&path).is_ok_and(|meta| meta.len() <= u64::try_from(BYTES_MAX).unwrap_or(0));
        fs::read_to_string(path).ok().filter(|_| fits)
    }

    /// Keeps what was found.
    pub(crate) fn write(&self, bundle_dir: &Path, text: &str) -> io::Result<()> {
        let Some(path) = self.path(bundle_dir).filter(|_| text.len() <= BYTES_MAX) else { return Ok(()) };
        fs::create_dir_all(&self.directory)?;
        self.bound()?;
        // Whole or not at all. A file that is lost with the power is no harm, so that nothing is waited for.
        let draft = path.with_extension("tmp");
        fs::write(&draft, text)?;
        fs::rename(draft, path)
    }

    /// The file of a bundle, by its digest, which its directory is called by.
    fn path(&self, bundle_dir: &Path) -> Option<PathBuf> {
        let digest = bundle_dir.file_name()?.to_str()?;
        let fits = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| self.directory.join(format!("{digest}.json")))
    }

    /// Removes the oldest files when there are too many.
    fn bound(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)?.flatten() {
            let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((modified, entry.path()));
        }
        files.sort_by(|a, b| b.cmp(a));
        for (_, path) in files.into_iter().skip(FILES_MAX - 1) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_of_a_bundle_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let (findings, bundle) = (Findings::new(home.path()), Path::new("/store/bundles/ab12"));
        assert_eq!(findings.read(bundle), None);
        findings.write(bundle, "{\"a\":1}").unwrap();
        assert_eq!(findings.read(bundle).as_deref(), Some("{\"a\":1}"));
        findings.write(bundle, &"x".repeat(BYTES_MAX + 1)).unwrap();
        assert_eq!(findings.read(bundle).as_deref(), Some("{\"a\":1}"));
        fs::write(home.path().join("findings/ab12.json"), "x".repeat(BYTES_MAX + 1)).unwrap();
        assert_eq!(findings.read(bundle), None);
        assert_eq!(findings.path(Path::new("/store/bundles/..")), None);
        assert_eq!(findings.path(Path::new("/store/a.b")), None);
    }

    #[test]
    fn there_are_not_too_many() {
        let home = tempfile::tempdir().unwrap();
        let findings = Findings::new(home.path());
        for number in 0..FILES_MAX + 3 {
            findings.write(Path::new(&format!("/b/{number}")), "{}").unwrap();
        }
        assert_eq!(fs::read_dir(home.path().join("findings")).unwrap().count(), FILES_MAX);
    }
}
