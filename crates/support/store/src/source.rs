//! What a push takes: one ONNX file, or a directory of files. Opened once, without following links.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{
    FILE_BYTES_MAX, FILES_MAX, MODEL_FILE,
    error::{StoreError, io_error, refused},
    files,
};

/// Directories within a bundle's directory.
const DEPTH_MAX: usize = 8;

/// A file to push: its name in the bundle and the opened file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) file: File,
    pub(crate) size: u64,
}

/// Opens what is to be pushed. A single file becomes `model.onnx`.
pub(crate) fn open(path: &Path) -> Result<Vec<SourceFile>, StoreError> {
    let metadata = std::fs::symlink_metadata(path).map_err(io_error("read", path))?;
    if metadata.is_symlink() {
        return Err(refused(format!("`{}` is a link: give the file or directory that it points to", path.display())));
    }
    if !metadata.is_dir() {
        return Ok(vec![open_file(path, MODEL_FILE.to_owned())?]);
    }
    let mut names = BTreeSet::new();
    list(path, Path::new(""), 0, &mut names)?;
    if !names.contains(Path::new(MODEL_FILE)) {
        return Err(refused(format!(
            "`{}` has no `{MODEL_FILE}`: a bundle is a directory with that file, and optionally `bundle.yaml` and `golden.json`",
            path.display()
        )));
    }
    names.iter().map(|name| open_file(&path.join(name), name.to_string_lossy().into_owned())).collect()
}

fn list(root: &Path, below: &Path, depth: usize, names: &mut BTreeSet<PathBuf>) -> Result<(), StoreError> {
    if depth > DEPTH_MAX {
        return Err(refused(format!("`{}` has directories nested more than {DEPTH_MAX} deep", root.display())));
    }
    let directory = root.join(below);
    for entry in files::read_dir(&directory)? {
        let name = below.join(&entry);
        let path = root.join(&name);
        if name.to_str().is_none() {
            return Err(refused(format!("the name of `{}` is not UTF-8", path.display())));
        }
        let kind = std::fs::symlink_metadata(&path).map_err(io_error("read", &path))?.file_type();
        if kind.is_symlink() {
            return Err(refused(format!(
                "`{}` is a link: a bundle holds files only; copy what it points to",
                path.display()
            )));
        }
        if kind.is_dir() {
            list(root, &name, depth + 1, names)?;
        } else {
            names.insert(name);
        }
        if names.len() > FILES_MAX {
            return Err(refused(format!(
                "`{}` has more than {FILES_MAX} files: a bundle holds one model and what it needs",
                root.display()
            )));
        }
    }
    Ok(())
}

/// Opens one file: no links, no devices, no pipes, within the size limit.
fn open_file(path: &Path, name: String) -> Result<SourceFile, StoreError> {
    // NONBLOCK, so that a named pipe without a writer does not hold the push.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(|errno| {
        if errno == rustix::io::Errno::LOOP {
            return refused(format!("`{}` is a link: a bundle holds files only", path.display()));
        }
        io_error("open", path)(io::Error::from(errno))
    })?;
    let metadata = file.metadata().map_err(io_error("read", path))?;
    if !metadata.is_file() {
        return Err(refused(format!("`{}` is not a regular file: a bundle holds files only", path.display())));
    }
    if metadata.size() > FILE_BYTES_MAX {
        return Err(refused(format!(
            "`{}` has {} bytes, more than {FILE_BYTES_MAX}: split the weights into several files of external data",
            path.display(),
            metadata.size()
        )));
    }
    Ok(SourceFile { name, file, size: metadata.size() })
}

/// Checks where an ONNX file says its external data is: a relative path that stays in the bundle.
pub(crate) fn check_location(location: &str) -> Result<PathBuf, StoreError> {
    let path = Path::new(location);
    let plain = !location.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !location.contains('\\') {
        return Ok(path.to_owned());
    }
    Err(refused(format!(
        "the model refers to external data at `{location}`, outside its bundle: save the weights beside the model with a relative path"
    )))
}
