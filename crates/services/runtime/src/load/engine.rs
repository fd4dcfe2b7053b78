//! What the sessions of a model are opened from: an ONNX file at a level of optimisation, or trees in memory.

use std::{fs, io::Read, path::Path, sync::Arc};

use inference::{
    ModelMetadata,
    trees::{self, Ensemble},
};
use ort::environment::Environment;

use super::{LoadError, read_error};
use crate::{
    backend::{
        Backend,
        ort::{Optimisation, OrtBackend},
        trees::TreesBackend,
    },
    placement::{self, Cost, Plan},
};

/// What the sessions of a model are opened from.
#[derive(Debug)]
pub(super) enum Engine<'a> {
    /// ONNX Runtime.
    Ort {
        /// The library.
        environment: &'a Environment,
        /// The ONNX file.
        path: &'a Path,
        /// How far the graph is rewritten.
        optimisation: Optimisation,
    },
    /// Berth's own evaluator of trees.
    Trees {
        /// The trees.
        model: Arc<Ensemble>,
    },
}

impl Engine<'_> {
    /// Reads the trees in the file at `path`, and says what they are `announced` as.
    pub(super) fn trees(
        format: trees::Format,
        path: &Path,
        announced: &ModelMetadata,
    ) -> Result<(Self, ModelMetadata), LoadError> {
        let failed = |source| read_error(path, source);
        let file = fs::File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        let most = u64::try_from(trees::FILE_BYTES_MAX).unwrap_or(u64::MAX);
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        let model = Arc::new(trees::read(format, &bytes)?);
        let metadata = ModelMetadata {
            inputs: vec![model.input()],
            outputs: model.output(),
            platform: format.platform().to_owned(),
            ..announced.clone()
        };
        Ok((Self::Trees { model }, metadata))
    }

    /// Opens one session with `threads` threads per run; trees take one.
    pub(super) fn session(&self, threads: usize) -> Result<Box<dyn Backend>, LoadError> {
        match self {
            Self::Ort { environment, path, optimisation } => {
                let opened = OrtBackend::open(environment, path, *optimisation, threads);
                Ok(Box::new(opened.map_err(LoadError::Refused)?))
            }
            Self::Trees { model } => Ok(Box::new(TreesBackend::new(Arc::clone(model)))),
        }
    }

    /// How far the graph is rewritten, when there is a graph.
    pub(super) fn optimisation(&self) -> Option<Optimisation> {
        match self {
            Self::Ort { optimisation, .. } => Some(*optimisation),
            Self::Trees { .. } => None,
        }
    }

    /// The plan for a model whose run takes `cost`. Sessions of trees share them, so each CPU gets one whatever their size.
    pub(super) fn plan(&self, cost: Cost, bytes: u64, cpus: usize) -> Plan {
        match self {
            Self::Ort { .. } => placement::plan(cost, bytes, cpus),
            Self::Trees { .. } => Plan { sessions: cpus, threads: 1 },
        }
    }

    /// The plan that the first session was opened with.
    pub(super) fn guess(&self, bytes: u64, cpus: usize) -> Plan {
        match self {
            Self::Ort { .. } => placement::guess(bytes, cpus),
            Self::Trees { .. } => Plan { sessions: 1, threads: 1 },
        }
    }
}
