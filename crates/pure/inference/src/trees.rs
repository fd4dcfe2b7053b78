//! Tree ensembles of XGBoost and LightGBM, evaluated natively.
//!
//! Both libraries' models become one [`Ensemble`]: nodes of all trees in one array, leaves in another, and a link function
//! that turns sums into answers. Sums are made in the precision of the library that wrote the model (XGBoost: 32 bits,
//! LightGBM: 64 bits), tree by tree in the model's order, so that answers agree with the library's own.

use crate::{Datatype, TensorSpec};

mod lightgbm;
mod link;
mod shape;
#[cfg(test)]
mod tests;
mod ubjson;
mod value;
mod xgboost;

pub use link::Task;

use link::Link;
use shape::{Child, Node, Split};

/// Bytes of a model's file: some two million nodes in text. It is held in memory while it is read, several times over.
pub const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes at the start of a file from which [`recognise`] tells.
pub const HEAD_BYTES: usize = 64;
/// Trees of one model: a hundred times what people train.
const TREES_MAX: usize = 1_000_000;
/// Nodes of one model, so that the indices of children fit 31 bits.
const NODES_MAX: usize = 1 << 30;
/// Features of one model; a row of this many is half a gigabyte.
const FEATURES_MAX: usize = 1 << 26;
/// Groups (classes or targets) of one model.
const GROUPS_MAX: usize = 65_536;
/// Words of all sets of categories of one model: 256 MiB, since a set is as large as its highest code.
const CATEGORY_WORDS_MAX: usize = 1 << 26;

/// How a file writes a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// XGBoost's JSON.
    XgboostJson,
    /// XGBoost's Universal Binary JSON.
    XgboostUbj,
    /// LightGBM's text.
    LightgbmText,
}

impl Format {
    /// `platform` of such a model, `<project>_<format>` as the protocol spells it.
    pub const fn platform(self) -> &'static str {
        match self {
            Self::XgboostJson => "xgboost_json",
            Self::XgboostUbj => "xgboost_ubj",
            Self::LightgbmText => "lightgbm_text",
        }
    }
}

/// The format of a file that starts with `head`, by its content; `None` when it is no model of trees.
pub fn recognise(head: &[u8]) -> Option<Format> {
    if lightgbm::recognise(head) {
        Some(Format::LightgbmText)
    } else if xgboost::recognise_json(head) {
        Some(Format::XgboostJson)
    } else {
        xgboost::recognise_ubjson(head).then_some(Format::XgboostUbj)
    }
}

/// Reads the model in a file of `format`.
///
/// # Errors
///
/// [`TreeError`], when the file is damaged or asks for what is not evaluated.
pub fn read(format: Format, file: &[u8]) -> Result<Ensemble, TreeError> {
    if file.len() > FILE_BYTES_MAX {
        let text = format!("a model of trees may have {} MiB: train with fewer or smaller trees", FILE_BYTES_MAX >> 20);
        return Err(TreeError::Unsupported(text));
    }
    match format {
        Format::XgboostJson => xgboost::read_json(file),
        Format::XgboostUbj => xgboost::read_ubjson(file),
        Format::LightgbmText => lightgbm::read(file),
    }
}

/// Why a model file cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The file is not what it claims to be.
    #[error("{0}")]
    Malformed(String),
    /// The file is well formed but uses something that is not evaluated.
    #[error("{0}")]
    Unsupported(String),
}

/// Precision in which leaves are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    /// XGBoost.
    F32,
    /// LightGBM.
    F64,
}

/// A model made of trees.
#[derive(Clone, Debug)]
pub struct Ensemble {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    roots: Vec<Root>,
    categories: Vec<u32>,
    features: usize,
    /// Number of sums: classes of a multiclass model, targets of a regression, else 1.
    groups: usize,
    /// Start of each sum.
    base: Vec<f64>,
    link: Link,
    precision: Precision,
    /// Divides sums by the number of iterations (LightGBM's random forests).
    averaged: bool,
    producer: Option<String>,
}

/// Name of the one input.
pub const INPUT: &str = "input";
/// Name of a classifier's output with the class of the highest probability, the first of equals.
pub const LABEL: &str = "label";
/// Name of a classifier's output with the probabilities of all classes.
pub const PROBABILITIES: &str = "probabilities";
/// Name of the output of any other model.
pub const PREDICTION: &str = "prediction";

/// Where a tree starts, which sum it adds to, and with what weight (DART).
#[derive(Clone, Copy, Debug)]
struct Root {
    start: Child,
    group: u32,
    weight: f32,
}

/// A leaf's value; LightGBM's linear trees add a dot product.
#[derive(Clone, Debug)]
struct Leaf {
    value: f64,
    linear: Option<Box<Linear>>,
}

/// The linear model of a leaf.
#[derive(Clone, Debug)]
struct Linear {
    constant: f64,
    terms: Vec<(u32, f64)>,
}

impl Ensemble {
    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// Number of features of a row.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Values of one answer: probabilities of all classes (two for a binary classifier), or predictions of all targets.
    pub fn outputs(&self) -> usize {
        self.link.outputs(self.groups)
    }

    /// What kind of answer the model gives.
    pub fn task(&self) -> Task {
        self.link.task()
    }

    /// Program and version that made the model, when the file says so.
    pub fn producer(&self) -> Option<&str> {
        self.producer.as_deref()
    }

    /// Type of the features and of the answers: what the library itself computes with.
    pub fn datatype(&self) -> Datatype {
        match self.precision {
            Precision::F32 => Datatype::Fp32,
            Precision::F64 => Datatype::Fp64,
        }
    }

    /// The one input of the model, [`INPUT`]: rows of features, NaN for a missing one.
    pub fn input(&self) -> TensorSpec {
        self.spec(INPUT, Some(self.features))
    }

    /// The outputs of the model: [`LABEL`] and [`PROBABILITIES`] of a classifier, else [`PREDICTION`].
    pub fn output(&self) -> Vec<TensorSpec> {
        match (self.task(), self.outputs()) {
            (Task::Regression, 1) => vec![self.spec(PREDICTION, None)],
            (Task::Regression, targets) => vec![self.spec(PREDICTION, Some(targets))],
            (Task::Binary | Task::Multiclass, classes) => {
                let label = TensorSpec { datatype: Datatype::Int64, ..self.spec(LABEL, None) };
                vec![label, self.spec(PROBABILITIES, Some(classes))]
            }
        }
    }

    fn spec(&self, name: &str, columns: Option<usize>) -> TensorSpec {
        let columns = columns.map(|columns| i64::try_from(columns).unwrap_or(i64::MAX));
        TensorSpec {
            name: name.to_owned(),
            datatype: self.datatype(),
            shape: [-1].into_iter().chain(columns).collect(),
        }
    }

    /// Makes room for the sums of one row, to be used again for every row.
    pub fn scratch(&self) -> Vec<f64> {
        vec![0.0; self.groups]
    }

    /// The answer for one row: `out` has [`Ensemble::outputs`] places, `sums` is from [`Ensemble::scratch`].
    pub fn predict(&self, row: &[f64], sums: &mut [f64], out: &mut [f64]) {
        self.margin(row, sums);
        self.link.apply(sums, out, self.precision);
    }

    /// Sums of one row, before the link: XGBoost's margin, LightGBM's raw score.
    fn margin(&self, row: &[f64], sums: &mut [f64]) {
        match self.precision {
            Precision::F32 => self.margin_f32(row, sums),
            Precision::F64 => self.margin_f64(row, sums),
        }
    }

    fn margin_f64(&self, row: &[f64], sums: &mut [f64]) {
        sums.fill(0.0);
        for root in &self.roots {
            if let (Some(sum), Some(leaf)) = (sums.get_mut(index(root.group)), self.leaf(root.start, row)) {
                *sum += leaf_value(leaf, row);
            }
        }
        let iterations = self.roots.len().checked_div(self.groups).unwrap_or(1).max(1);
        for (sum, base) in sums.iter_mut().zip(&self.base) {
            if self.averaged {
                *sum /= to_f64(iterations);
            }
            *sum += base;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "XGBoost's values are 32-bit; f64 only carries them")]
    fn margin_f32(&self, row: &[f64], sums: &mut [f64]) {
        for (sum, base) in sums.iter_mut().zip(&self.base) {
            *sum = *base;
        }
        for root in &self.roots {
            if let (Some(sum), Some(leaf)) = (sums.get_mut(index(root.group)), self.leaf(root.start, row)) {
                *sum = f64::from(*sum as f32 + leaf.value as f32 * root.weight);
            }
        }
    }

    /// Ends, since a tree's nodes are checked to form a tree when they are read.
    fn leaf(&self, start: Child, row: &[f64]) -> Option<&Leaf> {
        let mut at = start;
        loop {
            match at {
                Child::Leaf(leaf) => return self.leaves.get(index(leaf)),
                Child::Node(node) => at = self.nodes.get(index(node))?.next(row, &self.categories),
            }
        }
    }
}

fn leaf_value(leaf: &Leaf, row: &[f64]) -> f64 {
    let Some(linear) = &leaf.linear else { return leaf.value };
    let mut sum = linear.constant;
    for (feature, coefficient) in &linear.terms {
        match row.get(index(*feature)) {
            // LightGBM falls back to the constant leaf when a feature of the linear model is missing.
            Some(value) if !value.is_nan() => sum += coefficient * value,
            _ => return leaf.value,
        }
    }
    sum
}

fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts of trees are far below 2^53")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

fn malformed(text: impl Into<String>) -> TreeError {
    TreeError::Malformed(text.into())
}

/// Says which tree is wrong.
fn in_tree(at: usize, error: TreeError) -> TreeError {
    match error {
        TreeError::Malformed(text) => TreeError::Malformed(format!("tree {at}: {text}")),
        TreeError::Unsupported(text) => TreeError::Unsupported(format!("tree {at}: {text}")),
    }
}
