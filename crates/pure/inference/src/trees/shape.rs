//! The shape of a tree: nodes whose children are checked once, so that evaluation always ends.

use super::{Leaf, NODES_MAX, TreeError, index, malformed};

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    /// Index into the ensemble's nodes.
    Node(u32),
    /// Index into the ensemble's leaves.
    Leaf(u32),
}

/// How a node chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Split {
    /// XGBoost: left when `x < threshold`.
    Less(f32),
    /// LightGBM: left when `x <= threshold`.
    LessOrEqual(f64),
    /// XGBoost: right when the category is one of the set; words `start..end` of the ensemble's bit sets.
    InSetRight(u32, u32),
    /// LightGBM: left when the category is one of the set.
    InSetLeft(u32, u32),
}

/// What counts as missing at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing: NaN is read as 0 (LightGBM, `missing_type` none).
    Nothing,
    /// Zero and NaN (LightGBM, `zero_as_missing`).
    Zero,
    /// NaN.
    Nan,
}

/// An inner node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Feature it looks at.
    pub(super) feature: u32,
    /// How it chooses.
    pub(super) split: Split,
    /// What counts as missing.
    pub(super) missing: Missing,
    /// Where a missing value goes.
    pub(super) default_left: bool,
    /// Left child.
    pub(super) left: Child,
    /// Right child.
    pub(super) right: Child,
}

/// LightGBM's `kZeroThreshold`: what is this near to zero is zero.
const ZERO: f64 = 1e-35;
/// XGBoost's `OutOfRangeCat`: category codes are whole numbers that a 32-bit float holds exactly.
const CATEGORY_MAX: f64 = 16_777_216.0;

impl Node {
    /// The child for this row. A feature that the row lacks is missing.
    pub(super) fn next(&self, row: &[f64], categories: &[u32]) -> Child {
        let value = row.get(index(self.feature)).copied().unwrap_or(f64::NAN);
        let left = match self.split {
            Split::Less(threshold) => {
                if value.is_nan() {
                    self.default_left
                } else {
                    value < f64::from(threshold)
                }
            }
            Split::LessOrEqual(threshold) => self.less_or_equal(value, threshold),
            Split::InSetRight(start, end) => {
                if value.is_nan() {
                    self.default_left
                } else {
                    !(0.0..CATEGORY_MAX).contains(&value) || !in_set(categories, start, end, value)
                }
            }
            Split::InSetLeft(start, end) => {
                // LightGBM truncates towards zero, so that -0.5 is category 0; NaN and negatives go right.
                !value.is_nan() && value > -1.0 && in_set(categories, start, end, value)
            }
        };
        if left { self.left } else { self.right }
    }

    fn less_or_equal(&self, value: f64, threshold: f64) -> bool {
        let value = if value.is_nan() && self.missing != Missing::Nan { 0.0 } else { value };
        let missing = match self.missing {
            Missing::Nothing => false,
            Missing::Zero => value.abs() <= ZERO,
            Missing::Nan => value.is_nan(),
        };
        if missing { self.default_left } else { value <= threshold }
    }
}

fn in_set(categories: &[u32], start: u32, end: u32, value: f64) -> bool {
    if value >= f64::from(u32::MAX) {
        return false;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "truncation is meant; the range is checked"
    )]
    let category = value as u32;
    let word = start.saturating_add(category / 32);
    word < end && categories.get(index(word)).is_some_and(|bits| bits >> (category % 32) & 1 == 1)
}

/// Child of a tree as its file numbers it.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileChild {
    /// Inner node of this tree.
    Node(usize),
    /// Leaf of this tree.
    Leaf(usize),
}

/// One tree as its file has it: children by the file's own numbers.
#[derive(Debug, Default)]
pub(super) struct TreeShape {
    /// Inner nodes; `left` and `right` are in `children`.
    pub(super) nodes: Vec<Node>,
    /// Children of each node.
    pub(super) children: Vec<(FileChild, FileChild)>,
    /// Leaves.
    pub(super) leaves: Vec<Leaf>,
}

impl TreeShape {
    /// Appends the tree that hangs at `start` to the ensemble's arrays and gives the new root.
    /// Refuses children that do not exist and nodes that are reached twice, so evaluation visits each node at most once.
    pub(super) fn lay_out(
        self,
        start: FileChild,
        nodes: &mut Vec<Node>,
        leaves: &mut Vec<Leaf>,
    ) -> Result<Child, TreeError> {
        let (node_base, leaf_base) = (nodes.len(), leaves.len());
        if node_base + self.nodes.len() > NODES_MAX || leaf_base + self.leaves.len() > NODES_MAX {
            return Err(malformed(format!("the model has more than {NODES_MAX} nodes")));
        }
        let resolve = |child: FileChild| match child {
            FileChild::Node(at) if at < self.nodes.len() => Ok(Child::Node(narrow(node_base + at))),
            FileChild::Leaf(at) if at < self.leaves.len() => Ok(Child::Leaf(narrow(leaf_base + at))),
            FileChild::Node(at) | FileChild::Leaf(at) => {
                Err(malformed(format!("a node has the child {at}, which is not in its tree")))
            }
        };
        self.check_is_tree(start)?;
        let root = resolve(start)?;
        for (node, (left, right)) in self.nodes.iter().zip(&self.children) {
            nodes.push(Node { left: resolve(*left)?, right: resolve(*right)?, ..*node });
        }
        leaves.extend(self.leaves);
        Ok(root)
    }

    fn check_is_tree(&self, start: FileChild) -> Result<(), TreeError> {
        let mut seen = vec![false; self.nodes.len()];
        let mut open = vec![start];
        while let Some(child) = open.pop() {
            let FileChild::Node(at) = child else { continue };
            let (Some(seen), Some((left, right))) = (seen.get_mut(at), self.children.get(at)) else {
                return Err(malformed(format!("a node has the child {at}, which is not in its tree")));
            };
            if std::mem::replace(seen, true) {
                return Err(malformed(format!("node {at} is reached twice: the nodes do not form a tree")));
            }
            open.extend([*left, *right]);
        }
        Ok(())
    }
}

fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
