//! The files of a model: a bundle of the store, a directory with a model in it, or one file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use inference::trees;
use store::{Format, GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, MODEL_FILES};

use super::{
    LoadError,
    encoder::{self, EncoderFiles},
    golden::{self, Case},
    read_error,
};

/// Most bytes of golden cases: they are held and run at each start.
const GOLDEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Characters of a digest.
const DIGEST_LEN: usize = 64;

/// A model's files, found and checked.
#[derive(Debug)]
pub struct Source {
    /// The model's file.
    pub model: PathBuf,
    /// Its format.
    pub format: Format,
    /// Bytes of it and of the files beside it, where external weights are.
    pub bytes: u64,
    /// Digest of the bundle, when it is one of a store and was checked.
    pub bundle: Option<String>,
    /// Labels of the elements of an output, by the output's name.
    pub classes: BTreeMap<String, Vec<String>>,
    /// Requests with known answers.
    pub golden: Vec<Case>,
    /// The tokeniser of an ONNX encoder, and how its embeddings are made.
    pub encoder: Option<EncoderFiles>,
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
        let format = format_of(path)?;
        let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        if format == Format::Onnx && !named {
            let reason = "give an `.onnx` file, a model that XGBoost or LightGBM saved, or a directory with one in it";
            return Err(LoadError::Source { path: path.to_owned(), reason: reason.to_owned() });
        }
        let (model, bytes) = (path.to_owned(), metadata.len());
        let (classes, golden) = (BTreeMap::new(), Vec::new());
        Ok(Self { model, format, bytes, bundle: None, classes, golden, encoder: None })
    }

    fn open_directory(path: &Path) -> Result<Self, LoadError> {
        let Some(model) = MODEL_FILES.iter().map(|name| path.join(name)).find(|model| model.is_file()) else {
            let reason = format!("there is no `{MODEL_FILE}` in it, nor a model of XGBoost or LightGBM");
            return Err(LoadError::Source { path: path.to_owned(), reason });
        };
        let bytes = size_of_files(path).map_err(|source| read_error(path, source))?;
        // A directory without a manifest is one's own, not the store's.
        let (classes, bundle) = match path.join(MANIFEST_FILE).is_file() {
            true => (store::verify_dir(path)?.classes, digest_of(path)),
            false => (BTreeMap::new(), None),
        };
        let golden = read_golden(&path.join(GOLDEN_FILE))?;
        // After the files were compared with their digests.
        let format = format_of(&model)?;
        let encoder = if format == Format::Onnx { encoder::read(path)? } else { None };
        Ok(Self { model, format, bytes, bundle, classes, golden, encoder })
    }
}

/// The digest that a bundle's directory is called by, which the bundle then was checked to have.
fn digest_of(directory: &Path) -> Option<String> {
    let name = directory.file_name()?.to_str()?;
    (name.len() == DIGEST_LEN && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| name.to_owned())
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

/// The format of a model, by its content.
fn format_of(path: &Path) -> Result<Format, LoadError> {
    let failed = |source| read_error(path, source);
    let (file, mut head) = (fs::File::open(path).map_err(failed)?, Vec::new());
    file.take(trees::HEAD_BYTES as u64).read_to_end(&mut head).map_err(failed)?;
    Ok(Format::of(&head))
}
