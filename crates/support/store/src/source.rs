//! What a push takes: one model file, or a directory of files. Each is opened once, below its opened directory, without
//! following links; what was checked is what is read.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Component, Path, PathBuf},
};

use inference::trees;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use crate::{
    FILE_BYTES_MAX, FILES_MAX, GOLDEN_FILE, MODEL_FILE, MODEL_FILES, NOTES_FILE,
    error::{StoreError, io_error, refused},
    files::read_part,
    model::Format,
};

/// Directories within a bundle's directory: exporters write weights beside the model or one level down.
const DEPTH_MAX: usize = 8;
/// Entries of a bundle's directory, directories included, after which nobody can have meant it.
const ENTRIES_MAX: usize = 2 * FILES_MAX;

/// A file to push: its name in the bundle, where it came from, and the opened file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) state: State,
}

/// What changes when somebody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) size: u64,
    modified: (i64, i64),
}

impl State {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { size: metadata.size(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}

/// The format of the model at `path`, a file or a directory, by its first bytes; it may still be refused when it is pushed.
///
/// # Errors
///
/// [`StoreError::Refused`] when there is no model; the rest when it cannot be read.
pub fn format(path: &Path) -> Result<Format, StoreError> {
    let files = open(path)?;
    let model = files.first().ok_or_else(|| no_model(path, &files))?;
    let head = read_part(&model.file, 0, trees::HEAD_BYTES as u64).map_err(io_error("read", &model.path))?;
    Ok(Format::of(&head))
}

/// Opens what is to be pushed: the model first, then the other files by name. The model's name is not final: its content
/// gives it another.
pub(crate) fn open(path: &Path) -> Result<Vec<SourceFile>, StoreError> {
    let kind = std::fs::symlink_metadata(path).map_err(io_error("read", path))?.file_type();
    if kind.is_symlink() {
        return Err(refused(format!(
            "`{}` is a symbolic link: give the file or directory that it points to",
            path.display()
        )));
    }
    if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket() {
        return Err(not_regular(path));
    }
    let opened = open_at(CWD, path.as_os_str(), path)?;
    if !kind.is_dir() {
        return Ok(vec![check(opened, path.to_owned(), MODEL_FILE.to_owned())?]);
    }
    let mut walk = Walk { root: path, files: Vec::new(), entries: 0 };
    walk.directory(&opened, Path::new(""), 0)?;
    let mut files = walk.files;
    let place = |file: &SourceFile| MODEL_FILES.iter().position(|name| file.name == *name).unwrap_or(MODEL_FILES.len());
    files.sort_by(|a, b| (place(a), &a.name).cmp(&(place(b), &b.name)));
    if files.first().is_none_or(|first| place(first) == MODEL_FILES.len()) {
        return Err(no_model(path, &files));
    }
    Ok(files)
}

/// A directory being listed.
struct Walk<'a> {
    root: &'a Path,
    files: Vec<SourceFile>,
    entries: usize,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &OwnedFd, below: &Path, depth: usize) -> Result<(), StoreError> {
        let path = self.root.join(below);
        let failed = |errno: rustix::io::Errno| io_error("list", &path)(errno.into());
        if depth > DEPTH_MAX {
            return Err(refused(format!(
                "`{}` has directories nested more than {DEPTH_MAX} deep: is it a bundle?",
                self.root.display()
            )));
        }
        for entry in Dir::read_from(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if ![c".", c".."].contains(&entry.file_name()) {
                self.entry(directory, entry.file_name(), below, depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, name: &CStr, below: &Path, depth: usize) -> Result<(), StoreError> {
        let relative = below.join(OsStr::from_bytes(name.to_bytes()));
        let path = self.root.join(&relative);
        self.entries += 1;
        if self.entries > ENTRIES_MAX || self.files.len() > FILES_MAX {
            return Err(refused(format!(
                "`{}` has more than {FILES_MAX} files: a bundle holds one model and what it needs",
                self.root.display()
            )));
        }
        let Some(text) = relative.to_str() else {
            return Err(refused(format!("the name of `{}` is not UTF-8: rename it", path.display())));
        };
        let failed = |errno: rustix::io::Errno| io_error("read", &path)(errno.into());
        let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let opened = open_at(directory, OsStr::from_bytes(name.to_bytes()), &path)?;
                self.directory(&opened, &relative, depth + 1)
            }
            FileType::RegularFile => {
                let opened = open_at(directory, OsStr::from_bytes(name.to_bytes()), &path)?;
                self.files.push(check(opened, path, text.to_owned())?);
                Ok(())
            }
            FileType::Symlink => Err(link(&path)),
            _ => Err(not_regular(&path)),
        }
    }
}

/// Opens a file or directory that is no link. NONBLOCK, so that a pipe that appears there does not hold the push.
fn open_at(directory: impl AsFd, name: &OsStr, path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(|errno| {
        if errno == rustix::io::Errno::LOOP { link(path) } else { io_error("open", path)(errno.into()) }
    })
}

/// Checks an opened file: regular, one name, within the size limit.
fn check(opened: OwnedFd, path: PathBuf, name: String) -> Result<SourceFile, StoreError> {
    let file = File::from(opened);
    let metadata = file.metadata().map_err(io_error("read", &path))?;
    if !metadata.is_file() {
        return Err(not_regular(&path));
    }
    if metadata.nlink() > 1 {
        return Err(refused(format!(
            "`{}` is a hard link, so it can change under another name: copy it with `cp` and push the copy",
            path.display()
        )));
    }
    let state = State::of(&file).map_err(io_error("read", &path))?;
    if state.size > FILE_BYTES_MAX {
        return Err(refused(format!(
            "`{}` has {} bytes, more than the {} GiB that a file of a bundle may have: split the weights into several \
             files of external data",
            path.display(),
            state.size,
            FILE_BYTES_MAX >> 30
        )));
    }
    Ok(SourceFile { name, path, file, state })
}

fn link(path: &Path) -> StoreError {
    refused(format!("`{}` is a symbolic link: a bundle holds files only, so copy what it points to", path.display()))
}

fn not_regular(path: &Path) -> StoreError {
    refused(format!(
        "`{}` is a device, a pipe or a socket: give a model file or a directory with `{MODEL_FILE}` in it",
        path.display()
    ))
}

/// Why a directory without a model is no bundle, with the nearest thing that it has.
fn no_model(path: &Path, files: &[SourceFile]) -> StoreError {
    let has = |end: &str| files.iter().find(|file| file.name.ends_with(end));
    let hint = if let Some(file) = has(".onnx") {
        format!("rename `{}` to `{MODEL_FILE}`, or deploy that file alone", file.name)
    } else if has("saved_model.pb").is_some() {
        "it is a TensorFlow SavedModel: export it to ONNX with `tf2onnx --saved-model` and deploy that".to_owned()
    } else if let Some(file) = has(".ubj") {
        format!("rename `{}` to `model.ubj`, or deploy that file alone", file.name)
    } else {
        format!(
            "a bundle is a directory with that file and its external data, or with `model.json` or `model.ubj` of XGBoost \
             or `model.txt` of LightGBM, and optionally `{NOTES_FILE}` and `{GOLDEN_FILE}`"
        )
    };
    refused(format!("`{}` has no `{MODEL_FILE}`: {hint}", path.display()))
}

/// The path of a file in a bundle, without `.`: relative and below the bundle; `None` for any other.
pub(crate) fn inner_path(location: &str) -> Option<String> {
    // ONNX Runtime takes `*/_ORT_MEM_ADDR_/*` for an address in memory, and Windows' separators are no separators here.
    if location.contains(['\\', '*']) || location.contains(char::is_control) {
        return None;
    }
    let mut parts = Vec::new();
    for component in Path::new(location).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
