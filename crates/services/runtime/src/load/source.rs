//! The files of a model: a bundle of the store, a directory with `model.onnx`, or one `.onnx` file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use store::{GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE};

use super::{
    LoadError,
    golden::{self, Case},
};

/// Most bytes of golden cases: they are held and run at each start.
const GOLDEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A model's files, found and checked.
#[derive(Debug)]
pub struct Source {
    /// The ONNX file.
    pub model: PathBuf,
    /// Bytes of it and of the files beside it, where external weights are.
    pub bytes: u64,
    /// Labels of the elements of an output, by the output's name.
    pub classes: BTreeMap<String, Vec<String>>,
    /// Requests with known answers.
    pub golden: Vec<Case>,
}

impl Source {
    /// Finds the files of the model at `path`.
    ///
    /// # Errors
    ///
    /// [`LoadError`] says what is missing, damaged or not a model.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
        if metadata.is_dir() {
            return Self::open_directory(path);
        }
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("onnx")) {
            let reason = "give an `.onnx` file, or a directory with `model.onnx` in it".to_owned();
            return Err(LoadError::Source { path: path.to_owned(), reason });
        }
        Ok(Self { model: path.to_owned(), bytes: metadata.len(), classes: BTreeMap::new(), golden: Vec::new() })
    }

    fn open_directory(path: &Path) -> Result<Self, LoadError> {
        let model = path.join(MODEL_FILE);
        if !model.is_file() {
            let reason = format!("there is no `{MODEL_FILE}` in it");
            return Err(LoadError::Source { path: path.to_owned(), reason });
        }
        let bytes = size_of_files(path).map_err(|source| read_error(path, source))?;
        // A directory without a manifest is one's own, not the store's.
        let classes = match path.join(MANIFEST_FILE).is_file() {
            true => store::verify_dir(path)?.classes,
            false => BTreeMap::new(),
        };
        let golden = read_golden(&path.join(GOLDEN_FILE))?;
        Ok(Self { model, bytes, classes, golden })
    }
}

fn read_golden(path: &Path) -> Result<Vec<Case>, LoadError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read_error(path, error)),
    };
    let mut json = Vec::new();
    file.take(GOLDEN_BYTES_MAX + 1).read_to_end(&mut json).map_err(|error| read_error(path, error))?;
    let wrong = |reason: String| LoadError::GoldenFile { path: path.to_owned(), reason };
    if json.len() as u64 > GOLDEN_BYTES_MAX {
        return Err(wrong(format!("it is over {GOLDEN_BYTES_MAX} bytes: keep fewer cases")));
    }
    golden::parse(&json).map_err(wrong)
}

fn size_of_files(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for entry in fs::read_dir(directory)? {
        let metadata = fs::metadata(entry?.path())?;
        if metadata.is_file() {
            bytes = bytes.saturating_add(metadata.len());
        }
    }
    Ok(bytes)
}

fn read_error(path: &Path, source: io::Error) -> LoadError {
    LoadError::Read { path: path.to_owned(), source }
}
