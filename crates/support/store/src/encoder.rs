//! Files beside an ONNX encoder that make it answer with embeddings: a tokeniser, and how vectors are made.
//!
//! The tokeniser is known by its first bytes and bounded in size. It is parsed by the runtime alone, in its sandbox; the other
//! files are a few short values, which are read here so that a mistake in them is refused at once.

use inference::embeddings::settings::{
    self, FILES, Files, LENGTH_FILE, MODULES_FILE, POOLING_FILE, SETTINGS_BYTES_MAX, SETTINGS_FILE, Settings,
    TOKENISER_BYTES_MAX, TOKENISER_FILE,
};

use crate::{
    error::{StoreError, io_error, refused},
    files::read_part,
    model::Format,
    push::sample,
    recognise,
    source::SourceFile,
};

/// Keys that Hugging Face's `tokenizers` writes; whichever comes first stands near the beginning.
const TOKENISER_KEYS: [&[u8]; 5] =
    [b"\"version\"", b"\"truncation\"", b"\"added_tokens\"", b"\"normalizer\"", b"\"decoder\""];

/// Whether a file of this name belongs to a model of this format.
pub(crate) fn belongs(format: &Format, name: &str) -> bool {
    *format == Format::Onnx && FILES.contains(&name)
}

/// Looks at those of `files` that are for embeddings.
pub(crate) fn check(files: &[SourceFile]) -> Result<(), StoreError> {
    let find = |name: &str| files.iter().find(|file| file.name == name);
    let Some(tokeniser) = find(TOKENISER_FILE) else {
        return match files.iter().find(|file| settings::FILES.contains(&file.name.as_str())) {
            None => Ok(()),
            Some(lonely) => Err(refused(format!(
                "`{}` says how embeddings are made, which needs `{TOKENISER_FILE}`: put the model's tokeniser beside it, or \
                 leave it out",
                lonely.name
            ))),
        };
    };
    check_tokeniser(tokeniser)?;
    let read = |name: &str| find(name).map(read_settings).transpose();
    let (own, modules) = (read(SETTINGS_FILE)?, read(MODULES_FILE)?);
    let (pooling, length) = (read(POOLING_FILE)?, read(LENGTH_FILE)?);
    let files = Files {
        settings: own.as_deref(),
        modules: modules.as_deref(),
        pooling: pooling.as_deref(),
        length: length.as_deref(),
    };
    Settings::read(&files).map(drop).map_err(refused)
}

fn check_tokeniser(source: &SourceFile) -> Result<(), StoreError> {
    let size = source.state.size;
    if size > TOKENISER_BYTES_MAX {
        return Err(refused(format!(
            "`{TOKENISER_FILE}` has {size} bytes, more than the {} MiB that a tokeniser may have",
            TOKENISER_BYTES_MAX >> 20
        )));
    }
    let sample = sample(&source.file, size).map_err(io_error("read", &source.path))?;
    let starts = sample.head.trim_ascii_start().first() == Some(&b'{');
    let knows = |key: &&[u8]| sample.head.windows(key.len()).any(|window| window == *key);
    if starts && TOKENISER_KEYS.iter().any(knows) {
        return Ok(());
    }
    let what = recognise::refusal(&sample).map_or_else(String::new, |what| format!(", it is {what}"));
    Err(refused(format!(
        "`{TOKENISER_FILE}` is not a tokeniser of Hugging Face's `tokenizers`{what}; write one with \
         `AutoTokenizer.from_pretrained(…).backend_tokenizer.save('{TOKENISER_FILE}')`"
    )))
}

fn read_settings(source: &SourceFile) -> Result<Vec<u8>, StoreError> {
    let size = source.state.size;
    if size > SETTINGS_BYTES_MAX {
        return Err(refused(format!(
            "`{}` has {size} bytes, more than {SETTINGS_BYTES_MAX}: keep it shorter",
            source.name
        )));
    }
    read_part(&source.file, 0, size).map_err(io_error("read", &source.path))
}
