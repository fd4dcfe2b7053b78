//! XGBoost's own model files: JSON and Universal Binary JSON, as `Booster.save_model` writes them (XGBoost 1.3 to 3.x).
//!
//! Source of the layout: XGBoost documentation, "Introduction to Model IO", with its JSON schema. Boosters `gbtree` and
//! `dart`, numerical and categorical splits, several trees per iteration, multiclass and multi-target (one tree per
//! target) are evaluated; `gblinear` and vector leaves are refused.

use serde::Deserialize;

use super::{
    CATEGORY_WORDS_MAX, Child, Ensemble, FEATURES_MAX, GROUPS_MAX, Leaf, Link, Node, Precision, Root, Split, TREES_MAX,
    TreeError, in_tree, index, malformed,
    shape::{FileChild, Missing, TreeShape},
    ubjson,
    value::{Flag, Text},
};

/// Bytes at the start of a file that tell whether it is a model of XGBoost.
const HEAD_BYTES: usize = 64;
/// Highest code of a category, which a 32-bit float holds exactly.
const CATEGORY_MAX: u32 = 1 << 24;
/// The first key of a model: keys are sorted, and there are two.
const FIRST_KEYS: [&str; 2] = ["learner", "version"];

/// Whether `bytes` look like a JSON model of XGBoost: an object whose first key is one of XGBoost's.
pub(super) fn recognise_json(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(HEAD_BYTES)).unwrap_or_default();
    let begun = head.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    let key = begun.and_then(|rest| rest.strip_prefix(b"\""));
    key.is_some_and(|rest| {
        FIRST_KEYS.iter().any(|key| rest.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"\"")))
    })
}

/// Whether `bytes` look like a UBJSON model of XGBoost. A key is the marker of its length's type, the length and the text.
pub(super) fn recognise_ubjson(bytes: &[u8]) -> bool {
    let Some(key) = bytes.strip_prefix(b"{") else { return false };
    let length_bytes = match key.first() {
        Some(b'i' | b'U') => 1,
        Some(b'I') => 2,
        Some(b'l') => 4,
        Some(b'L') => 8,
        _ => return false,
    };
    let (Some(length), Some(text)) = (key.get(1..=length_bytes), key.get(1 + length_bytes..)) else { return false };
    let (Some((last, high)), true) = (length.split_last(), text.len() >= 7) else { return false };
    high.iter().all(|byte| *byte == 0) && *last == 7 && FIRST_KEYS.iter().any(|key| text.starts_with(key.as_bytes()))
}

/// Reads a JSON model. The file's size is the caller's limit.
pub(super) fn read_json(bytes: &[u8]) -> Result<Ensemble, TreeError> {
    let model = serde_json::from_slice(bytes);
    build(model.map_err(|error| malformed(format!("this is not a whole model of XGBoost: {error}")))?)
}

/// Reads a UBJSON model. The file's size is the caller's limit.
pub(super) fn read_ubjson(bytes: &[u8]) -> Result<Ensemble, TreeError> {
    let model = ubjson::from_slice(bytes);
    build(model.map_err(|error| malformed(format!("this is not a whole model of XGBoost: {error}")))?)
}

#[derive(Deserialize)]
struct File {
    learner: Learner,
    #[serde(default)]
    version: Vec<u32>,
}

#[derive(Deserialize)]
struct Learner {
    gradient_booster: Booster,
    learner_model_param: LearnerParam,
    objective: Objective,
}

#[derive(Deserialize)]
struct LearnerParam {
    base_score: Text,
    num_class: Text,
    num_feature: Text,
    #[serde(default)]
    num_target: Option<Text>,
}

#[derive(Deserialize)]
struct Objective {
    name: String,
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    #[serde(default)]
    model: Option<Trees>,
    #[serde(default)]
    gbtree: Option<Box<Booster>>,
    #[serde(default)]
    weight_drop: Vec<f32>,
}

#[derive(Deserialize)]
struct Trees {
    tree_info: Vec<i32>,
    trees: Vec<FileTree>,
}

#[derive(Deserialize)]
struct FileTree {
    left_children: Vec<i32>,
    right_children: Vec<i32>,
    split_indices: Vec<u32>,
    split_conditions: Vec<f32>,
    default_left: Vec<Flag>,
    #[serde(default)]
    split_type: Vec<u8>,
    #[serde(default)]
    categories: Vec<u32>,
    #[serde(default)]
    categories_nodes: Vec<u32>,
    #[serde(default)]
    categories_segments: Vec<u32>,
    #[serde(default)]
    categories_sizes: Vec<u32>,
    tree_param: TreeParam,
}

#[derive(Deserialize)]
struct TreeParam {
    #[serde(default)]
    size_leaf_vector: Option<Text>,
}

fn build(File { learner, version }: File) -> Result<Ensemble, TreeError> {
    let param = &learner.learner_model_param;
    let classes = param.num_class.count("num_class", GROUPS_MAX)?;
    let targets = param.num_target.as_ref().map_or(Ok(1), |text| text.count("num_target", GROUPS_MAX))?;
    let groups = classes.max(targets).max(1);
    let link = link(&learner.objective.name, groups)?;
    let (trees, weights) = booster(learner.gradient_booster)?;
    let features = param.num_feature.count("num_feature", FEATURES_MAX)?;
    if features == 0 {
        return Err(malformed("the model has no features: was it trained?"));
    }
    let base = base(&param.base_score, groups, &learner.objective.name)?;
    let mut ensemble = Ensemble {
        nodes: Vec::new(),
        leaves: Vec::new(),
        roots: Vec::new(),
        categories: Vec::new(),
        features,
        groups,
        base,
        link,
        precision: Precision::F32,
        averaged: false,
        producer: producer(&version),
    };
    let count = trees.trees.len();
    if count > TREES_MAX || trees.tree_info.len() != count || weights.len() != count {
        return Err(malformed("`trees`, `tree_info` and `weight_drop` do not belong together"));
    }
    for (at, ((tree, group), weight)) in trees.trees.into_iter().zip(trees.tree_info).zip(weights).enumerate() {
        let group = u32::try_from(group).ok().filter(|group| index(*group) < groups);
        let group =
            group.ok_or_else(|| malformed(format!("tree {at} adds to a group that the model does not have")))?;
        let start = lay_out(tree, &mut ensemble).map_err(|error| in_tree(at, error))?;
        ensemble.roots.push(Root { start, group, weight });
    }
    Ok(ensemble)
}

fn producer(version: &[u32]) -> Option<String> {
    let numbers: Vec<String> = version.iter().take(3).map(u32::to_string).collect();
    (!numbers.is_empty()).then(|| format!("XGBoost {}", numbers.join(".")))
}

fn booster(booster: Booster) -> Result<(Trees, Vec<f32>), TreeError> {
    let (inner, weights) = match (booster.name.as_str(), booster.gbtree) {
        ("gbtree", _) => (booster.model, None),
        ("dart", Some(inner)) => (inner.model, Some(booster.weight_drop)),
        (name, _) => {
            return Err(TreeError::Unsupported(format!(
                "the booster `{name}` is not evaluated: train with `gbtree` or `dart`"
            )));
        }
    };
    let trees = inner.ok_or_else(|| malformed("`gradient_booster` has no `model`"))?;
    let weights = weights.unwrap_or_else(|| vec![1.0; trees.trees.len()]);
    Ok((trees, weights))
}

fn link(objective: &str, groups: usize) -> Result<Link, TreeError> {
    Ok(match objective {
        "binary:logistic" if groups == 1 => Link::Binary(1.0),
        // With several targets each has a probability of its own.
        "binary:logistic" | "reg:logistic" => Link::Logistic(1.0),
        "binary:hinge" if groups == 1 => Link::Hinge,
        "multi:softprob" | "multi:softmax" => Link::Softmax,
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => Link::Exponential,
        "binary:logitraw"
        | "reg:squarederror"
        | "reg:squaredlogerror"
        | "reg:pseudohubererror"
        | "reg:absoluteerror"
        | "reg:quantileerror"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map"
        | "reg:linear" => Link::Identity,
        other => {
            return Err(TreeError::Unsupported(format!(
                "the objective `{other}` is not known: its link from sums to answers would be a guess"
            )));
        }
    })
}

/// The base score is kept in the answer's space; sums start in the margin's space.
fn base(text: &Text, groups: usize, objective: &str) -> Result<Vec<f64>, TreeError> {
    let scores = text.numbers("base_score")?;
    let to_margin = |score: f64| -> f64 {
        match objective {
            "binary:logistic" | "reg:logistic" => -(1.0 / score - 1.0).ln(),
            "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => score.ln(),
            _ => score,
        }
    };
    #[expect(clippy::cast_possible_truncation, reason = "XGBoost's margins are 32-bit")]
    let margins: Vec<f64> = scores.into_iter().map(|score| f64::from(to_margin(score) as f32)).collect();
    match margins.as_slice() {
        [one] => Ok(vec![*one; groups]),
        several if several.len() == groups => Ok(margins),
        _ => Err(malformed(format!("`base_score` has {} numbers for {groups} groups", margins.len()))),
    }
}

/// Where each node of the file goes: its place among the inner nodes or among the leaves.
fn places(tree: &FileTree) -> Vec<FileChild> {
    let (mut nodes, mut leaves) = (0, 0);
    let place = |left: &i32| {
        let counter = if *left < 0 { &mut leaves } else { &mut nodes };
        let at = *counter;
        *counter += 1;
        if *left < 0 { FileChild::Leaf(at) } else { FileChild::Node(at) }
    };
    tree.left_children.iter().map(place).collect()
}

fn lay_out(tree: FileTree, ensemble: &mut Ensemble) -> Result<Child, TreeError> {
    if tree.tree_param.size_leaf_vector.as_ref().map_or(Ok(0), |text| text.count("size_leaf_vector", GROUPS_MAX))? > 1 {
        let text = "leaves with several values are not evaluated: train with `multi_strategy=one_output_per_tree`";
        return Err(TreeError::Unsupported(text.to_owned()));
    }
    let count = tree.left_children.len();
    let lengths =
        [tree.right_children.len(), tree.split_indices.len(), tree.split_conditions.len(), tree.default_left.len()];
    if count == 0 || lengths.iter().any(|length| *length != count) {
        return Err(malformed("the node arrays differ in length"));
    }
    let places = places(&tree);
    let sets = category_sets(&tree, &mut ensemble.categories)?;
    let mut shape = TreeShape::default();
    let columns = tree
        .left_children
        .iter()
        .zip(&tree.right_children)
        .zip(&tree.split_indices)
        .zip(&tree.split_conditions)
        .zip(&tree.default_left);
    for (at, ((((left, right), feature), condition), default_left)) in columns.enumerate() {
        if *left < 0 {
            shape.leaves.push(Leaf { value: f64::from(*condition), linear: None });
            continue;
        }
        let categorical = tree.split_type.get(at).is_some_and(|kind| *kind == 1);
        let split = if categorical {
            let (start, end) = sets.get(at).copied().flatten().unwrap_or((0, 0));
            Split::InSetRight(start, end)
        } else {
            Split::Less(*condition)
        };
        let child = |at: i32| usize::try_from(at).ok().and_then(|at| places.get(at)).copied();
        let (Some(left), Some(right)) = (child(*left), child(*right)) else {
            return Err(malformed(format!("node {at} has a child that is not in its tree")));
        };
        let default_left = matches!(default_left, Flag(true));
        if index(*feature) >= ensemble.features {
            return Err(malformed(format!("node {at} looks at feature {feature} of {}", ensemble.features)));
        }
        // The children are placed when the shape is laid out; until then any will do.
        let anywhere = Child::Leaf(0);
        shape.nodes.push(Node {
            feature: *feature,
            split,
            missing: Missing::Nan,
            default_left,
            left: anywhere,
            right: anywhere,
        });
        shape.children.push((left, right));
    }
    let start = places.first().copied().ok_or_else(|| malformed("the tree is empty"))?;
    shape.lay_out(start, &mut ensemble.nodes, &mut ensemble.leaves)
}

/// Words of a bit set among the ensemble's.
type Words = (u32, u32);

/// Turns the lists of categories into bit sets; gives for each node its words, when it splits on categories.
fn category_sets(tree: &FileTree, bits: &mut Vec<u32>) -> Result<Vec<Option<Words>>, TreeError> {
    let mut sets = vec![None; tree.left_children.len()];
    let columns = tree.categories_nodes.iter().zip(&tree.categories_segments).zip(&tree.categories_sizes);
    for ((node, start), size) in columns {
        let codes = tree.categories.get(index(*start)..index(start.saturating_add(*size)));
        let (Some(codes), Some(set)) = (codes, sets.get_mut(index(*node))) else {
            return Err(malformed(format!("the categories of node {node} are not in the file")));
        };
        *set = Some(
            bit_set(codes, bits).ok_or_else(|| malformed(format!("node {node} has a category that is too high")))?,
        );
    }
    Ok(sets)
}

/// Appends the set of `codes`; `None` when they or the sets of the model are too many.
fn bit_set(codes: &[u32], bits: &mut Vec<u32>) -> Option<Words> {
    let greatest = codes.iter().copied().max().unwrap_or(0);
    let (first, end) = (bits.len(), bits.len() + index(greatest / 32) + 1);
    if greatest > CATEGORY_MAX || end > CATEGORY_WORDS_MAX {
        return None;
    }
    bits.resize(end, 0);
    for code in codes {
        *bits.get_mut(first + index(code / 32))? |= 1 << (code % 32);
    }
    Some((u32::try_from(first).ok()?, u32::try_from(end).ok()?))
}
