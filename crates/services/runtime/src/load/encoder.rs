//! The files beside an encoder that make it answer with embeddings.

use std::{
    fmt, fs,
    io::{self, Read},
    path::Path,
};

use inference::embeddings::settings::{
    Files, LENGTH_FILE, MODULES_FILE, POOLING_FILE, SETTINGS_BYTES_MAX, SETTINGS_FILE, Settings, TOKENISER_BYTES_MAX,
    TOKENISER_FILE,
};

use super::{LoadError, read_error};

/// A tokeniser and how embeddings are made.
#[derive(Clone, PartialEq, Eq)]
pub struct EncoderFiles {
    /// Bytes of `tokenizer.json`.
    pub tokeniser: Vec<u8>,
    /// What the other files say.
    pub settings: Settings,
}

impl fmt::Debug for EncoderFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncoderFiles").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Reads what is in `directory`; nothing when it has no tokeniser.
pub(super) fn read(directory: &Path) -> Result<Option<EncoderFiles>, LoadError> {
    let Some(tokeniser) = file(directory, TOKENISER_FILE, TOKENISER_BYTES_MAX)? else { return Ok(None) };
    let small = |name| file(directory, name, SETTINGS_BYTES_MAX);
    let (own, modules) = (small(SETTINGS_FILE)?, small(MODULES_FILE)?);
    let (pooling, length) = (small(POOLING_FILE)?, small(LENGTH_FILE)?);
    let files = Files {
        settings: own.as_deref(),
        modules: modules.as_deref(),
        pooling: pooling.as_deref(),
        length: length.as_deref(),
    };
    let settings = Settings::read(&files).map_err(LoadError::Embeddings)?;
    Ok(Some(EncoderFiles { tokeniser, settings }))
}

fn file(directory: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>, LoadError> {
    let path = directory.join(name);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(&path, error)),
    };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| read_error(&path, error))?;
    if bytes.len() as u64 > most {
        return Err(LoadError::Embeddings(format!("`{name}` has more than {most} bytes")));
    }
    Ok(Some(bytes))
}
