//! What a runtime counted of its answers: a category for each request and output, so that two revisions can be compared without
//! keeping an answer.

use serde::{Deserialize, Serialize};

/// Categories of one output; values beyond share them by their hash.
pub const CATEGORIES: usize = 64;
/// Outputs that are counted, the first ones of the model: what a person looks at.
pub const OUTPUTS_MAX: usize = 4;

/// Answers of one output by category, since the process started or in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputCounts {
    /// Name of the output.
    pub output: String,
    /// Category, below [`CATEGORIES`], and how many answers fell into it; those without any are left out.
    pub counts: Vec<(usize, u64)>,
}
