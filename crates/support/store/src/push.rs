//! Pushes a bundle: all of it or none.
//!
//! Flow: copy every file into a directory under `tmp`, hashing what is written; scan the copy; link the files into the
//! blobs; write `bundle.json`; sync files and directory; rename the directory to its digest; sync its parent.
//! Guarantees: a reader sees a whole bundle or none; what returned is on the disk.
//! Assumptions: `tmp`, `blobs` and `bundles` are on one file system.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    FILE_BYTES_MAX, GOLDEN_FILE, MODEL_BYTES_MAX, MODEL_FILE, NOTES_FILE, Store,
    error::{StoreError, io_error, refused},
    files,
    manifest::{BundleFile, BundleManifest, MANIFEST_FILE, SCHEMA_VERSION, digest_hex},
    onnx::{self, OnnxError, OnnxModel},
    recognise,
    source::{self, SourceFile},
};

/// Bytes of `bundle.yaml`.
const NOTES_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of `golden.json`.
const GOLDEN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Told about progress: bytes copied so far and bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the bundle.
    pub digest: String,
    /// What it is made of.
    pub manifest: BundleManifest,
    /// Whether the store did not have it before.
    pub is_new: bool,
}

/// A person's notes on the model: `bundle.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notes {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    license: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    classes: BTreeMap<String, Vec<String>>,
}

const NOTES_FIELDS: [&str; 4] = ["description", "license", "source", "classes"];

impl Store {
    /// Copies the model at `source`, a file or a directory, into the store. Blocks; meant for a thread of its own.
    pub fn push(&self, source: &Path) -> Result<Pushed, StoreError> {
        self.push_with_progress(source, &mut |_, _| {})
    }

    /// As [`Store::push`], and tells `progress` about every piece that is copied.
    pub fn push_with_progress(&self, source: &Path, progress: Progress<'_>) -> Result<Pushed, StoreError> {
        let sources = source::open(source)?;
        let staging = tempfile::Builder::new()
            .prefix("push-")
            .tempdir_in(self.temporary())
            .map_err(io_error("make a directory in", &self.temporary()))?;
        let mut files = self.copy_all(sources, staging.path(), progress)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let model = scan(staging.path(), &files)?;
        let notes = read_notes(&staging.path().join(NOTES_FILE), &model)?;
        check_golden(&staging.path().join(GOLDEN_FILE))?;
        let manifest = BundleManifest {
            schema_version: SCHEMA_VERSION,
            format: "onnx".to_owned(),
            files,
            inputs: model.inputs,
            outputs: model.outputs,
            opsets: model.opsets,
            producer: model.producer,
            classes: notes.classes,
            description: notes.description,
            license: notes.license,
            source: notes.source,
        };
        self.settle(staging, manifest)
    }

    fn copy_all(
        &self,
        sources: Vec<SourceFile>,
        staging: &Path,
        progress: Progress<'_>,
    ) -> Result<Vec<BundleFile>, StoreError> {
        let total: u64 = sources.iter().map(|source| source.size).sum();
        let mut done = 0;
        let mut files = Vec::with_capacity(sources.len());
        for source in sources {
            if source.name == MODEL_FILE {
                refuse_by_content(&source)?;
            }
            let target = staging.join(&source.name);
            if let Some(parent) = target.parent() {
                files::make_private_dir(parent)?;
            }
            files.push(copy(source, &target, &mut |bytes| {
                done += bytes;
                progress(done, total.max(done));
            })?);
        }
        Ok(files)
    }

    /// Moves a staged bundle to its place.
    fn settle(&self, staging: tempfile::TempDir, manifest: BundleManifest) -> Result<Pushed, StoreError> {
        let digest = manifest.digest();
        let target = self.bundles().join(digest_hex(&digest)?);
        if target.join(MANIFEST_FILE).is_file() {
            return Ok(Pushed { digest, manifest, is_new: false });
        }
        for file in &manifest.files {
            self.share(&staging.path().join(&file.path), &file.sha256)?;
        }
        let manifest_path = staging.path().join(MANIFEST_FILE);
        let mut written = File::create_new(&manifest_path).map_err(io_error("write", &manifest_path))?;
        written.write_all(&manifest.canonical()).map_err(io_error("write", &manifest_path))?;
        written.sync_all().map_err(io_error("sync", &manifest_path))?;
        files::make_read_only(&manifest_path)?;
        sync_tree(staging.path())?;
        let staged = staging.keep();
        match fs::rename(&staged, &target) {
            Ok(()) => {}
            // Another push of the same bundle was quicker: its bytes are the same.
            Err(_) if target.join(MANIFEST_FILE).is_file() => {
                fs::remove_dir_all(&staged).map_err(io_error("remove", &staged))?;
                return Ok(Pushed { digest, manifest, is_new: false });
            }
            Err(error) => return Err(io_error("move the bundle to", &target)(error)),
        }
        files::sync_dir(&self.bundles())?;
        Ok(Pushed { digest, manifest, is_new: true })
    }

    /// Replaces a staged file by a hard link to the blob of the same content, or makes it that blob.
    fn share(&self, staged: &Path, sha256: &str) -> Result<(), StoreError> {
        let blob = self.blobs().join(sha256);
        match fs::hard_link(staged, &blob) {
            Ok(()) => files::sync_dir(&self.blobs()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let linked = staged.with_extension("blob-link");
                if fs::hard_link(&blob, &linked).is_ok() {
                    fs::rename(&linked, staged).map_err(io_error("replace", staged))?;
                    // Two names of one file: rename leaves both, so the extra one goes.
                    drop(fs::remove_file(&linked));
                }
                Ok(())
            }
            // A file system without hard links, or a file with too many: the bundle keeps its own copy.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::TooManyLinks
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(io_error("link", &blob)(error)),
        }
    }
}

/// Looks at the first and last bytes of the model before anything is copied.
fn refuse_by_content(source: &SourceFile) -> Result<(), StoreError> {
    let path = Path::new(&source.name);
    let head =
        read_part(&source.file, 0, source.size.min(recognise::HEAD_BYTES as u64)).map_err(io_error("read", path))?;
    let tail_bytes = source.size.min(64 * 1024);
    let tail = read_part(&source.file, source.size - tail_bytes, tail_bytes).map_err(io_error("read", path))?;
    match recognise::refusal(&head, &tail) {
        Some(text) => Err(refused(text)),
        None if source.size > MODEL_BYTES_MAX => Err(refused(format!(
            "the ONNX file has {} bytes, more than {MODEL_BYTES_MAX}: save its weights as external data",
            source.size
        ))),
        None => Ok(()),
    }
}

fn read_part(mut file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(length).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(bytes)
}

/// Copies and hashes in one pass, so that the digest is of what was written.
fn copy(mut source: SourceFile, target: &Path, copied: &mut dyn FnMut(u64)) -> Result<BundleFile, StoreError> {
    let mut written = File::create_new(target).map_err(io_error("write", target))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0_u64;
    loop {
        let count = source.file.read(&mut chunk).map_err(io_error("read", Path::new(&source.name)))?;
        let Some(part) = chunk.get(..count).filter(|part| !part.is_empty()) else { break };
        size += part.len() as u64;
        if size > FILE_BYTES_MAX {
            return Err(refused(format!("`{}` grew over {FILE_BYTES_MAX} bytes while it was read", source.name)));
        }
        hasher.update(part);
        written.write_all(part).map_err(io_error("write", target))?;
        copied(part.len() as u64);
    }
    written.sync_all().map_err(io_error("sync", target))?;
    files::make_read_only(target)?;
    Ok(BundleFile { path: source.name, size, sha256: hex::encode(hasher.finalize()) })
}

/// Reads the staged model and compares the bundle's files with what it refers to.
fn scan(staging: &Path, bundle: &[BundleFile]) -> Result<OnnxModel, StoreError> {
    let path = staging.join(MODEL_FILE);
    let file = File::open(&path).map_err(io_error("open", &path))?;
    let size = file.metadata().map_err(io_error("read", &path))?.len();
    let model = onnx::read(file, size).map_err(|error| match error {
        OnnxError::NotOnnx(text) | OnnxError::Unsupported(text) => refused(text),
        OnnxError::Io(source) => io_error("read", &path)(source),
    })?;
    for location in &model.external {
        let path = source::check_location(location)?;
        if !bundle.iter().any(|file| Path::new(&file.path) == path) {
            return Err(refused(format!(
                "the model refers to external data in `{location}`, which is not there: deploy the directory that holds both"
            )));
        }
    }
    for file in bundle {
        let known =
            [MODEL_FILE, NOTES_FILE, GOLDEN_FILE].contains(&file.path.as_str()) || model.external.contains(&file.path);
        if !known {
            return Err(refused(format!(
                "`{}` does not belong in a bundle: keep `{MODEL_FILE}`, its external data, `{NOTES_FILE}` and `{GOLDEN_FILE}`",
                file.path
            )));
        }
    }
    Ok(model)
}

fn read_bounded(path: &Path, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > most {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(refused(format!("`{name}` has more than {most} bytes")));
    }
    Ok(Some(bytes))
}

fn read_notes(path: &Path, model: &OnnxModel) -> Result<Notes, StoreError> {
    let Some(bytes) = read_bounded(path, NOTES_BYTES_MAX)? else { return Ok(Notes::default()) };
    let text = String::from_utf8(bytes).map_err(|_| refused(format!("`{NOTES_FILE}` is not UTF-8")))?;
    let notes: Notes = serde_saphyr::from_str(&text)
        .map_err(|error| refused(format!("`{NOTES_FILE}`: {}{}", error, nearest(&error.to_string()))))?;
    for output in notes.classes.keys() {
        if !model.outputs.iter().any(|known| &known.name == output) {
            let names: Vec<_> = model.outputs.iter().map(|known| known.name.as_str()).collect();
            return Err(refused(format!(
                "`{NOTES_FILE}`: classes name the output `{output}`; the model has {}",
                names.join(", ")
            )));
        }
    }
    Ok(notes)
}

/// The known field that is nearest to the unknown one of a message.
fn nearest(message: &str) -> String {
    let unknown = message.split_once("unknown field").and_then(|(_, rest)| rest.split('`').nth(1));
    let near =
        unknown.and_then(|unknown| NOTES_FIELDS.iter().find(|known| strsim::damerau_levenshtein(known, unknown) <= 2));
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the shape is checked here; the runtime reads the values")]
struct GoldenCase {
    #[serde(default)]
    name: Option<String>,
    request: serde::de::IgnoredAny,
    response: serde::de::IgnoredAny,
    #[serde(default)]
    tolerance: Option<f64>,
}

fn check_golden(path: &Path) -> Result<(), StoreError> {
    let Some(bytes) = read_bounded(path, GOLDEN_BYTES_MAX)? else { return Ok(()) };
    let golden: Golden =
        serde_json::from_slice(&bytes).map_err(|error| refused(format!("`{GOLDEN_FILE}`: {error}")))?;
    if golden.cases.is_empty() {
        return Err(refused(format!("`{GOLDEN_FILE}` has no cases: add some or leave the file out")));
    }
    Ok(())
}

fn sync_tree(directory: &Path) -> Result<(), StoreError> {
    for entry in files::read_dir(directory)? {
        let path = directory.join(entry);
        if path.is_dir() {
            sync_tree(&path)?;
        }
    }
    files::sync_dir(directory)
}
