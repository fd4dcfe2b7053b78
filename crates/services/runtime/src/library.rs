//! Finds the ONNX Runtime library, checks that it is the pinned one, and loads it.

use std::{
    env,
    fs::File,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
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

/// Environment variable that keeps ONNX Runtime from sending telemetry, when it is `1` before the library is loaded.
///
/// The library of the Python wheel otherwise starts an uploader with a device id and a cache of events in the home
/// directory while its environment is made; its own switch, `DisableTelemetryEvents`, comes after that
/// (microsoft/onnxruntime pull request 27379).
pub const TELEMETRY_OFF: &str = "ORT_DISABLE_TELEMETRY";

/// Makes sure that ONNX Runtime will send no telemetry: starts this executable anew in its own place when it has to.
///
/// A process cannot change its own environment without danger, and the library reads no other switch in time.
///
/// # Errors
///
/// [`Error::Io`] when the executable cannot be started anew.
pub fn silence() -> Result<(), Error> {
    if telemetry_is_off() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    // The path of the executable may be gone or be another program's since an upgrade; this one is still this program.
    let mut anew = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        anew.arg0(name);
    }
    let source = anew.args(arguments).env(TELEMETRY_OFF, "1").exec();
    Err(Error::Io { doing: "cannot start again without the telemetry of ONNX Runtime", source })
}

fn telemetry_is_off() -> bool {
    env::var_os(TELEMETRY_OFF).is_some_and(|value| value == "1")
}

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
    if !telemetry_is_off() {
        return Err(failed(format!("it would send telemetry: set `{TELEMETRY_OFF}=1`")));
    }
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
    let executable = env::current_exe().map_err(io)?;
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
            let executable = env::current_exe().unwrap();
            // Test executables are in `target/<profile>/deps`.
            let beside = executable.parent().unwrap().parent().unwrap().join(FILE);
            let path = env::var_os(OVERRIDE).map_or(beside, PathBuf::from);
            assert!(path.is_file(), "`{}` is missing: run `cargo xtask setup`", path.display());
            load(Some(path)).unwrap()
        })
    }

    #[test]
    fn the_pin_is_that_of_the_library_the_tests_use() {
        if env::var_os(OVERRIDE).is_none() {
            let folder = env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
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
