//! LightGBM's text model, as `Booster.save_model` writes it (`version=v3` and `v4`).
//!
//! Source of the layout and of the decisions at a node: LightGBM's `gbdt_model_text.cpp` and `tree.h`. Numerical and
//! categorical splits, the three kinds of missing values, random forests and linear trees are evaluated.

use std::{collections::BTreeMap, str::FromStr};

use super::{
    Child, Ensemble, FEATURES_MAX, GROUPS_MAX, Leaf, Linear, Link, NODES_MAX, Node, Precision, Root, Split, TREES_MAX,
    TreeError, in_tree, index, malformed,
    shape::{FileChild, Missing, TreeShape},
};

/// What follows the last tree.
const END: &str = "\nend of trees";
/// Lines of the header or of one tree; LightGBM writes some twenty.
const LINES_MAX: usize = 1024;

/// Whether `bytes` look like a model of LightGBM: its first line is `tree`.
pub(super) fn recognise(bytes: &[u8]) -> bool {
    bytes.starts_with(b"tree\n") || bytes.starts_with(b"tree\r\n")
}

/// Reads a model. The file's size is the caller's limit.
pub(super) fn read(bytes: &[u8]) -> Result<Ensemble, TreeError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| malformed("this is not a text model of LightGBM: it is not UTF-8"))?;
    if !recognise(bytes) {
        return Err(malformed("this is not a text model of LightGBM: its first line is not `tree`"));
    }
    let mut blocks = text.split("\nTree=");
    let header = Fields::read(blocks.next().unwrap_or_default())?;
    let mut ensemble = empty(&header)?;
    let announced = header.text("tree_sizes").map(|sizes| sizes.split_ascii_whitespace().count());
    for (at, block) in blocks.enumerate() {
        if at >= TREES_MAX {
            return Err(malformed(format!("the model has more than {TREES_MAX} trees")));
        }
        let group = u32::try_from(at % ensemble.groups).unwrap_or_default();
        let start = Fields::read(block)
            .and_then(|fields| lay_out(&fields, &mut ensemble))
            .map_err(|error| in_tree(at, error))?;
        ensemble.roots.push(Root { start, group, weight: 1.0 });
    }
    if !text.contains(END) {
        return Err(malformed("the model has no line `end of trees`: the file was cut off"));
    }
    let found = ensemble.trees();
    if announced.is_some_and(|announced| announced != found) || !found.is_multiple_of(ensemble.groups) {
        return Err(malformed(format!(
            "the model has {found} trees, which is not the number that its first lines give"
        )));
    }
    Ok(ensemble)
}

/// Lines `key=value` of a block.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    /// The fields of a block, which ends where the trees do.
    fn read(block: &'a str) -> Result<Self, TreeError> {
        let block = block.split(END).next().unwrap_or_default();
        if block.lines().nth(LINES_MAX).is_some() {
            return Err(malformed(format!("a part of the model has more than {LINES_MAX} lines")));
        }
        let field = |line: &'a str| line.split_once('=').unwrap_or((line, ""));
        Ok(Self(block.lines().map(str::trim_end).map(field).collect()))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn one<T: FromStr>(&self, key: &str) -> Result<Option<T>, TreeError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| malformed(format!("`{key}` is `{}`, which is not a number", shorten(text))))
    }

    fn need<T: FromStr>(&self, key: &str) -> Result<T, TreeError> {
        self.one(key)?.ok_or_else(|| malformed(format!("the line `{key}=` is missing")))
    }

    fn list<T: FromStr>(&self, key: &str, count: usize) -> Result<Vec<T>, TreeError> {
        let text = self.text(key).unwrap_or_default();
        let parse = |part: &str| {
            part.parse().map_err(|_| malformed(format!("`{key}` has `{}`, which is not a number", shorten(part))))
        };
        let values: Vec<T> = text.split_ascii_whitespace().map(parse).collect::<Result<_, _>>()?;
        if values.len() != count {
            return Err(malformed(format!("`{key}` has {} values, expected {count}", values.len())));
        }
        Ok(values)
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

fn empty(header: &Fields<'_>) -> Result<Ensemble, TreeError> {
    let groups: usize = header.one("num_tree_per_iteration")?.unwrap_or(1);
    let features = header.need::<usize>("max_feature_idx")?.saturating_add(1);
    if !(1..=GROUPS_MAX).contains(&groups) || !(1..=FEATURES_MAX).contains(&features) {
        return Err(malformed("`num_tree_per_iteration` or `max_feature_idx` is out of range"));
    }
    Ok(Ensemble {
        nodes: Vec::new(),
        leaves: Vec::new(),
        roots: Vec::new(),
        categories: Vec::new(),
        features,
        groups,
        base: vec![0.0; groups],
        link: link(header.text("objective").unwrap_or("custom"), groups)?,
        precision: Precision::F64,
        averaged: header.text("average_output").is_some(),
        producer: None,
    })
}

/// The link of an `objective` line: a name and `key:value` options.
fn link(objective: &str, groups: usize) -> Result<Link, TreeError> {
    let mut words = objective.split_ascii_whitespace();
    let name = words.next().unwrap_or("custom");
    let options: Vec<&str> = words.collect();
    let slope = options.iter().find_map(|option| option.strip_prefix("sigmoid:")).map_or(Ok(1.0), str::parse);
    let slope: f64 = slope
        .map_err(|_| malformed(format!("the objective `{}` has no number after `sigmoid:`", shorten(objective))))?;
    if name == "binary" && groups != 1 {
        return Err(malformed(format!("a binary classifier cannot have {groups} trees per iteration")));
    }
    Ok(match name {
        "binary" => Link::Binary(slope),
        "multiclass" => Link::Softmax,
        "multiclassova" => Link::OneVersusAll(slope),
        "cross_entropy" => Link::Logistic(1.0),
        "cross_entropy_lambda" => Link::Softplus,
        "poisson" | "gamma" | "tweedie" => Link::Exponential,
        "regression" if options.contains(&"sqrt") => Link::SignedSquare,
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" | "lambdarank" | "rank_xendcg"
        | "custom" => Link::Identity,
        other => {
            return Err(TreeError::Unsupported(format!(
                "the objective `{}` is not known: its link from sums to answers would be a guess",
                shorten(other)
            )));
        }
    })
}

fn lay_out(fields: &Fields<'_>, ensemble: &mut Ensemble) -> Result<Child, TreeError> {
    let leaf_count: usize = fields.need("num_leaves")?;
    if leaf_count == 0 || leaf_count > NODES_MAX {
        return Err(malformed(format!("`num_leaves` is {leaf_count}")));
    }
    let mut shape = TreeShape { leaves: leaves(fields, leaf_count, ensemble.features)?, ..TreeShape::default() };
    if leaf_count == 1 {
        return shape.lay_out(FileChild::Leaf(0), &mut ensemble.nodes, &mut ensemble.leaves);
    }
    let count = leaf_count - 1;
    let sets = category_sets(fields, &mut ensemble.categories)?;
    let features: Vec<u32> = fields.list("split_feature", count)?;
    let thresholds: Vec<f64> = fields.list("threshold", count)?;
    let decisions: Vec<u8> = fields.list("decision_type", count)?;
    let left: Vec<i64> = fields.list("left_child", count)?;
    let right: Vec<i64> = fields.list("right_child", count)?;
    let columns = features.iter().zip(&thresholds).zip(&decisions).zip(left.iter().zip(&right));
    for (((feature, threshold), decision), (left, right)) in columns {
        if index(*feature) >= ensemble.features {
            return Err(malformed(format!("a node looks at feature {feature} of {}", ensemble.features)));
        }
        shape.nodes.push(node(*feature, *threshold, *decision, &sets)?);
        shape.children.push((child(*left), child(*right)));
    }
    shape.lay_out(FileChild::Node(0), &mut ensemble.nodes, &mut ensemble.leaves)
}

fn node(feature: u32, threshold: f64, decision: u8, sets: &[(u32, u32)]) -> Result<Node, TreeError> {
    let missing = match decision >> 2 & 3 {
        0 => Missing::Nothing,
        1 => Missing::Zero,
        _ => Missing::Nan,
    };
    let split = if decision & 1 == 1 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the set's number is stored as a float"
        )]
        let (start, end) = sets
            .get(threshold as usize)
            .copied()
            .ok_or_else(|| malformed("a node names a set of categories that is not there"))?;
        Split::InSetLeft(start, end)
    } else {
        Split::LessOrEqual(threshold)
    };
    // The children are placed when the shape is laid out; until then any will do.
    let anywhere = Child::Leaf(0);
    Ok(Node { feature, split, missing, default_left: decision & 2 == 2, left: anywhere, right: anywhere })
}

/// LightGBM numbers leaves by their complement.
fn child(number: i64) -> FileChild {
    match usize::try_from(number) {
        Ok(node) => FileChild::Node(node),
        Err(_) => FileChild::Leaf(usize::try_from(!number).unwrap_or(usize::MAX)),
    }
}

fn category_sets(fields: &Fields<'_>, bits: &mut Vec<u32>) -> Result<Vec<(u32, u32)>, TreeError> {
    let count: usize = fields.one("num_cat")?.unwrap_or(0);
    if count == 0 {
        return Ok(Vec::new());
    }
    let boundaries: Vec<u32> = fields.list("cat_boundaries", count.saturating_add(1))?;
    let words = boundaries.last().copied().unwrap_or_default();
    let set_words: Vec<u32> = fields.list("cat_threshold", index(words))?;
    let base = u32::try_from(bits.len()).map_err(|_| malformed("the model has too many categories"))?;
    let ordered = boundaries.is_sorted() && base.checked_add(words).is_some();
    if !ordered {
        return Err(malformed("`cat_boundaries` is not in order"));
    }
    bits.extend(set_words);
    Ok(boundaries.iter().zip(boundaries.iter().skip(1)).map(|(start, end)| (base + start, base + end)).collect())
}

fn leaves(fields: &Fields<'_>, count: usize, features: usize) -> Result<Vec<Leaf>, TreeError> {
    let values: Vec<f64> = fields.list("leaf_value", count)?;
    if fields.one::<u8>("is_linear")?.unwrap_or(0) == 0 {
        return Ok(values.into_iter().map(|value| Leaf { value, linear: None }).collect());
    }
    let constants: Vec<f64> = fields.list("leaf_const", count)?;
    let counts: Vec<usize> = fields.list("num_features", count)?;
    let total = counts.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count));
    let total = total.ok_or_else(|| malformed("`num_features` is out of range"))?;
    let mut terms =
        fields.list::<u32>("leaf_features", total)?.into_iter().zip(fields.list::<f64>("leaf_coeff", total)?);
    let mut leaves = Vec::with_capacity(count);
    for ((value, constant), count) in values.into_iter().zip(constants).zip(counts) {
        let terms: Vec<(u32, f64)> = terms.by_ref().take(count).collect();
        if terms.iter().any(|(feature, _)| index(*feature) >= features) {
            return Err(malformed("a leaf looks at a feature that the model does not have"));
        }
        leaves.push(Leaf { value, linear: Some(Box::new(Linear { constant, terms })) });
    }
    Ok(leaves)
}
