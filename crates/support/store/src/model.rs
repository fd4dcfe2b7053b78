//! What the store must know of a model, whatever its format: ONNX, or the trees of XGBoost and LightGBM.

use std::{collections::BTreeMap, collections::BTreeSet, fs::File, io::Read, path::Path};

use inference::{TensorSpec, trees};

use crate::{
    MODEL_FILE, StoreError,
    error::{io_error, refused},
    files,
    manifest::TensorInfo,
    onnx::{self, OnnxError, OnnxModel},
};

/// Format of a model, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ONNX.
    Onnx,
    /// Trees of XGBoost or LightGBM.
    Trees(trees::Format),
}

impl Format {
    /// The name in manifests: `onnx`, `xgboost` or `lightgbm`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Trees(trees::Format::XgboostJson | trees::Format::XgboostUbj) => "xgboost",
            Self::Trees(trees::Format::LightgbmText) => "lightgbm",
        }
    }

    /// Name of the model's file in a bundle.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Onnx => MODEL_FILE,
            Self::Trees(trees::Format::XgboostJson) => "model.json",
            Self::Trees(trees::Format::XgboostUbj) => "model.ubj",
            Self::Trees(trees::Format::LightgbmText) => "model.txt",
        }
    }

    /// The format of a file that starts with `head` and is not refused: what is not known otherwise may be ONNX.
    pub fn of(head: &[u8]) -> Self {
        trees::recognise(head).map_or(Self::Onnx, Self::Trees)
    }
}

/// What the store must know of a model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) format: Format,
    pub(crate) inputs: Vec<TensorInfo>,
    pub(crate) outputs: Vec<TensorInfo>,
    pub(crate) opsets: BTreeMap<String, i64>,
    pub(crate) producer: Option<String>,
    /// Locations of external data, as the file gives them.
    pub(crate) external: BTreeSet<String>,
}

/// Reads the model in `path`, which was copied from `source`.
pub(crate) fn read(format: Format, path: &Path, source: &Path) -> Result<Model, StoreError> {
    let file = files::open_regular(path).map_err(io_error("open", path))?;
    match format {
        Format::Onnx => read_onnx(file, path, source),
        Format::Trees(trees) => read_trees(trees, &file, path, source),
    }
}

fn read_onnx(file: File, path: &Path, source: &Path) -> Result<Model, StoreError> {
    let size = file.metadata().map_err(io_error("read", path))?.len();
    let read = onnx::read(file, size).map_err(|error| match error {
        OnnxError::NotOnnx(_) => refused(format!(
            "`{}` is {error}: was the export or the download interrupted? From another format, export the model to ONNX \
             and deploy that",
            source.display()
        )),
        OnnxError::Unsupported(text) => refused(text),
        OnnxError::Io(source) => io_error("read", path)(source),
    });
    let OnnxModel { inputs, outputs, opsets, producer, external } = read?;
    Ok(Model { format: Format::Onnx, inputs, outputs, opsets, producer, external })
}

fn read_trees(format: trees::Format, file: &File, path: &Path, source: &Path) -> Result<Model, StoreError> {
    let mut bytes = Vec::new();
    let most = trees::FILE_BYTES_MAX as u64;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    let format_name = Format::Trees(format).name();
    let read = trees::read(format, &bytes).map_err(|error| match error {
        trees::TreeError::Malformed(text) => refused(format!(
            "`{}` is a damaged model ({format_name}): {text}; was it cut off? Save and deploy it again",
            source.display()
        )),
        trees::TreeError::Unsupported(text) => {
            refused(format!("`{}` cannot be served ({format_name}): {text}", source.display()))
        }
    });
    let model = read?;
    Ok(Model {
        format: Format::Trees(format),
        inputs: vec![info(model.input())],
        outputs: model.output().into_iter().map(info).collect(),
        opsets: BTreeMap::new(),
        producer: model.producer().map(str::to_owned),
        external: BTreeSet::new(),
    })
}

fn info(spec: TensorSpec) -> TensorInfo {
    TensorInfo { name: spec.name, datatype: spec.datatype.name().to_owned(), shape: spec.shape }
}
