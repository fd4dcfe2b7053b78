//! Finds the ONNX Runtime library, checks that it is the pinned one, and loads it.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use ort::{environment::Environment, logging::LogLevel};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// Version of ONNX Runtime that this release is tested with.
pub const VERSION: &str = "1.32.0";
/// Its file name, as in the Python wheel.
pub const FILE: &str = "libonnxruntime.so.1.32.0";
/// SHA-256 of `onnxruntime/capi/libonnxruntime.so.1.32.0` in the wheel for x86-64 Linux (`manylinux_2_28_x86_64`).
#[cfg(not(target_arch = "aarch64"))]
pub const SHA256: &str = "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f";
/// SHA-256 of the same file in the wheel for 64-bit ARM (`manylinux_2_28_aarch64`).
#[cfg(target_arch = "aarch64")]
pub const SHA256: &str = "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a";
/// Environment variable with the path of a library to use instead, unchecked.
pub const OVERRIDE: &str = "BERTH_ONNXRUNTIME";

/// Loads ONNX Runtime: the library of `overriding`, else the pinned one near the executable. Starts no thread.
///
/// # Errors
///
/// [`Error::LibraryMissing`], [`Error::LibraryChanged`] or [`Error::Library`].
pub fn load(overriding: Option<PathBuf>) -> Result<Environment, Error> {
    let path = match overriding {
        Some(path) => {
            tracing::warn!(path = %path.display(), "using the ONNX Runtime library of {OVERRIDE}, its digest is not checked");
            path
        }
        None => find_pinned()?,
    };
    let failed = |reason: String| Error::Library { path: path.clone(), reason };
    let builder = ort::init_from(&path).map_err(|error| failed(error.to_string()))?;
    let environment = builder.with_name("berth").with_telemetry(false).build();
    let environment = environment.map_err(|error| failed(error.to_string()))?;
    // The environment starts at the level `verbose`, which formats several messages in every run.
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// Places where the library may be, for an executable in `folder`.
fn candidates(folder: &Path) -> [PathBuf; 2] {
    [folder.join(FILE), folder.join("../lib/berth").join(FILE)]
}

fn find_pinned() -> Result<PathBuf, Error> {
    let io = |source| Error::Io { doing: "cannot find the path of this executable", source };
    let executable = std::env::current_exe().map_err(io)?;
    let looked = candidates(executable.parent().unwrap_or(Path::new("/")));
    let Some(path) = looked.iter().find(|path| path.is_file()) else {
        return Err(Error::LibraryMissing { looked: looked.to_vec(), file: FILE, version: VERSION });
    };
    let unreadable = |error: io::Error| Error::Library { path: path.clone(), reason: error.to_string() };
    let found = sha256(path).map_err(unreadable)?;
    if found != SHA256 {
        return Err(Error::LibraryChanged { path: path.clone(), found, expected: SHA256 });
    }
    Ok(path.clone())
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => hasher.update(bytes),
            _ => return Ok(hex::encode(hasher.finalize())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// The one environment that a process may have, shared by the tests.
    pub(crate) fn environment() -> &'static Environment {
        static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
        ENVIRONMENT.get_or_init(|| {
            let executable = std::env::current_exe().unwrap();
            // Test executables are in `target/<profile>/deps`.
            let beside = executable.parent().unwrap().parent().unwrap().join(FILE);
            let path = std::env::var_os(OVERRIDE).map_or(beside, PathBuf::from);
            assert!(path.is_file(), "`{}` is missing: run `cargo xtask setup`", path.display());
            load(Some(path)).unwrap()
        })
    }

    #[test]
    fn the_pin_is_that_of_the_library_the_tests_use() {
        if std::env::var_os(OVERRIDE).is_none() {
            let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
            assert_eq!(sha256(&folder.join(FILE)).unwrap(), SHA256);
        }
    }

    #[test]
    fn a_missing_library_says_how_to_get_it() {
        // The test executable is in `deps`, where no library is.
        let text = find_pinned().unwrap_err().to_string();
        assert!(text.contains("cargo xtask setup") && text.contains(OVERRIDE) && text.contains(FILE), "{text}");
    }
}
