//! Pushes a bundle: all of it or none.
//!
//! Flow: copy every file into a directory under `tmp`, hashing what is written; scan the copy; link the files into the
//! blobs; write `bundle.json`; sync files and directories; rename the directory to its digest; sync its parent.
//! Guarantees: a reader sees a whole bundle or none; what returned is on the disk; a push that ended in any way but a
//! return leaves something in `tmp` at most.
//! Assumptions: `tmp`, `blobs` and `bundles` are on one file system that honours `fsync`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use inference::{embeddings::settings, trees};
use sha2::{Digest, Sha256};

use crate::{
    FILE_BYTES_MAX, GOLDEN_FILE, MODEL_BYTES_MAX, MODEL_FILE, MODEL_FILES, NOTES_FILE, Store, encoder,
    error::{StoreError, io_error, refused},
    files::{self, CHUNK_BYTES, read_part},
    manifest::{BundleFile, BundleManifest, SCHEMA_VERSION},
    model::{self, Format, Model},
    notes::{self, GOLDEN_BYTES_MAX, NOTES_BYTES_MAX, Notes},
    recognise::{self, HEAD_BYTES, Sample, TAIL_BYTES, zip},
    source::{self, SourceFile, State},
    step::{self, Step},
};

/// Told about progress: bytes copied so far and bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Bytes of a model of trees.
const TREES_BYTES_MAX: u64 = trees::FILE_BYTES_MAX as u64;

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

impl Store {
    /// Copies the model at `source`, a file or a directory, into the store. Blocks; meant for a thread of its own.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] when it is no model to serve; the rest when the store could not take it.
    pub fn push(&self, source: &Path) -> Result<Pushed, StoreError> {
        self.push_with_progress(source, &mut |_, _| {})
    }

    /// As [`Store::push`], and tells `progress` about every piece that is copied.
    ///
    /// # Errors
    ///
    /// As [`Store::push`].
    pub fn push_with_progress(&self, source: &Path, progress: Progress<'_>) -> Result<Pushed, StoreError> {
        let _at_work = self.at_work()?;
        let mut sources = source::open(source)?;
        let rest = sources.split_off(1);
        let staging = Staging::new(self)?;
        let bytes = |some: &[SourceFile]| some.iter().map(|one| one.state.size).sum::<u64>();
        let total = bytes(&sources) + bytes(&rest);
        let mut copying = Copying { staging: &staging, done: 0, total, progress };
        let mut files = Vec::with_capacity(rest.len() + 1);
        // The model says which other files belong to it, so nothing is copied in vain.
        let mut format = Format::Onnx;
        for mut file in sources {
            format = recognise(&file)?;
            format.file().clone_into(&mut file.name);
            files.push(copying.copy(file)?);
        }
        let model = model::read(format, &staging.bundle().join(format.file()), source)?;
        check_members(source, &model, &rest)?;
        encoder::check(&rest)?;
        for source in rest {
            files.push(copying.copy(source)?);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = describe(&staging, files, model)?;
        staging.step(Step::Checked)?;
        self.place(&staging, manifest)
    }
}

/// A directory under `tmp` that goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: tempfile::TempDir,
}

impl Staging {
    fn new(store: &Store) -> Result<Self, StoreError> {
        let temporary = store.temporary();
        let directory = tempfile::Builder::new()
            .prefix("push-")
            .tempdir_in(&temporary)
            .map_err(io_error("make a directory in", &temporary))?;
        let staging = Self { directory };
        files::make_private_dir(&staging.bundle())?;
        staging.step(Step::Staged)?;
        Ok(staging)
    }

    /// Where the bundle is being made.
    pub(crate) fn bundle(&self) -> std::path::PathBuf {
        self.directory.path().join("bundle")
    }

    /// A name beside the bundle that no file of it can have.
    pub(crate) fn spare(&self) -> std::path::PathBuf {
        self.directory.path().join("spare")
    }

    pub(crate) fn step(&self, step: Step) -> Result<(), StoreError> {
        step::taken(step).map_err(io_error("write to", self.directory.path()))
    }
}

struct Copying<'a> {
    staging: &'a Staging,
    done: u64,
    total: u64,
    progress: Progress<'a>,
}

impl Copying<'_> {
    /// Copies and hashes in one pass, so that the digest is of what was written.
    fn copy(&mut self, source: SourceFile) -> Result<BundleFile, StoreError> {
        let target = self.staging.bundle().join(&source.name);
        if let Some(parent) = target.parent() {
            files::make_private_dir(parent)?;
        }
        let mut written = File::create_new(&target).map_err(io_error("write", &target))?;
        let (mut size, mut hasher, mut chunk) = (0, Sha256::new(), vec![0; CHUNK_BYTES]);
        while let Some(part) = files::read_chunk(&source.file, &mut chunk).map_err(io_error("read", &source.path))? {
            size += part.len() as u64;
            if size > FILE_BYTES_MAX {
                return Err(changed(&source.path));
            }
            hasher.update(part);
            written.write_all(part).map_err(io_error("write", &target))?;
            self.staging.step(Step::Copied)?;
            self.done += part.len() as u64;
            (self.progress)(self.done, self.total.max(self.done));
        }
        let state = State::of(&source.file).map_err(io_error("read", &source.path))?;
        if state != source.state || size != state.size {
            return Err(changed(&source.path));
        }
        written.sync_all().map_err(io_error("sync", &target))?;
        files::make_read_only(&target)?;
        Ok(BundleFile { path: source.name, size, sha256: hex::encode(hasher.finalize()) })
    }
}

fn changed(path: &Path) -> StoreError {
    refused(format!("`{}` changed while it was read: push it again when nobody writes to it", path.display()))
}

/// Looks at the first and last bytes of the model before anything is copied, and says what format it may be.
fn recognise(source: &SourceFile) -> Result<Format, StoreError> {
    let sample = sample(&source.file, source.state.size).map_err(io_error("read", &source.path))?;
    if let Some(what) = recognise::refusal(&sample) {
        return Err(refused(format!("`{}` is {what}", source.path.display())));
    }
    let format = Format::of(&sample.head);
    let (size, shown) = (sample.size, source.path.display());
    match format {
        Format::Onnx if size > MODEL_BYTES_MAX => Err(refused(format!(
            "`{shown}` has {size} bytes, more than the {} GiB that an ONNX file can have: save its weights as external data",
            MODEL_BYTES_MAX >> 30
        ))),
        Format::Trees(_) if size > TREES_BYTES_MAX => Err(refused(format!(
            "`{shown}` has {size} bytes, more than the {} MiB that a model of trees may have: train fewer or smaller trees, \
             or export the model to ONNX",
            TREES_BYTES_MAX >> 20
        ))),
        Format::Onnx | Format::Trees(_) => Ok(format),
    }
}

pub(crate) fn sample(file: &File, size: u64) -> io::Result<Sample> {
    let head = read_part(file, 0, HEAD_BYTES as u64)?;
    let tail_bytes = size.min(TAIL_BYTES as u64);
    let tail = read_part(file, size.saturating_sub(tail_bytes), tail_bytes)?;
    let mut members = Vec::new();
    if head.starts_with(b"PK")
        && let Some(range) = zip::directory_range(&tail, size)
    {
        members = zip::central_names(&read_part(file, range.start, range.end - range.start)?);
    }
    Ok(Sample { head, tail, size, members })
}

/// Compares the files beside the model with those that it refers to.
fn check_members(source: &Path, model: &Model, rest: &[SourceFile]) -> Result<(), StoreError> {
    let mut external = BTreeSet::new();
    for location in &model.external {
        let Some(path) = source::inner_path(location) else {
            return Err(refused(format!(
                "the model keeps weights in `{location}`, outside its bundle: save them beside the model under a relative path"
            )));
        };
        if !rest.iter().any(|file| file.name == path) {
            return Err(refused(format!(
                "the model keeps weights in `{location}`, which is not there: deploy a directory with both `{MODEL_FILE}` and that file"
            )));
        }
        external.insert(path);
    }
    for reserved in [MODEL_FILE, NOTES_FILE, GOLDEN_FILE, crate::MANIFEST_FILE].into_iter().chain(settings::FILES) {
        if external.contains(reserved) {
            return Err(refused(format!(
                "the model keeps weights in `{reserved}`, a name that means something else in a bundle: save them under another"
            )));
        }
    }
    let belongs = |file: &&SourceFile| {
        let name = file.name.as_str();
        external.contains(name) || [NOTES_FILE, GOLDEN_FILE].contains(&name) || encoder::belongs(&model.format, name)
    };
    match rest.iter().find(|file| !belongs(file)) {
        None => Ok(()),
        Some(stranger) if MODEL_FILES.contains(&stranger.name.as_str()) => Err(refused(format!(
            "`{}` has several models, `{}` among them: a bundle holds one",
            source.display(),
            stranger.name
        ))),
        Some(stranger) => Err(refused(format!(
            "`{}` in `{}` does not belong in a bundle: keep `{}`, the external data that it refers to, \
             `{NOTES_FILE}`, `{GOLDEN_FILE}`, and for embeddings `{}`",
            stranger.name,
            source.display(),
            model.format.file(),
            settings::FILES.join("`, `")
        ))),
    }
}

/// Reads the notes and the golden cases, and puts the manifest together.
fn describe(staging: &Staging, files: Vec<BundleFile>, model: Model) -> Result<BundleManifest, StoreError> {
    let notes = read_bounded(staging, NOTES_FILE, NOTES_BYTES_MAX)?;
    let Notes { name, description, license, source, classes } =
        notes.map_or_else(|| Ok(Notes::default()), |yaml| notes::read(&yaml, &model))?;
    if let Some(json) = read_bounded(staging, GOLDEN_FILE, GOLDEN_BYTES_MAX)? {
        notes::check_golden(&json)?;
    }
    Ok(BundleManifest {
        schema_version: SCHEMA_VERSION,
        format: model.format.name().to_owned(),
        files,
        inputs: model.inputs,
        outputs: model.outputs,
        opsets: model.opsets,
        producer: model.producer,
        classes,
        name,
        description,
        license,
        source,
    })
}

fn read_bounded(staging: &Staging, name: &str, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let path = staging.bundle().join(name);
    let file = match files::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", &path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
    if bytes.len() as u64 > most {
        return Err(refused(format!("`{name}` has more than {most} bytes: keep it shorter")));
    }
    Ok(Some(bytes))
}
