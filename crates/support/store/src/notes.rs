//! What a person may put beside a model: `bundle.yaml` and `golden.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    GOLDEN_FILE, NOTES_FILE,
    error::{StoreError, refused},
    model::Model,
};

/// Bytes of `bundle.yaml`: room for the labels of a thousand classes several times over.
pub(crate) const NOTES_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of `golden.json`; the runtime has the same limit.
pub(crate) const GOLDEN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Golden cases, which run at every start; the runtime has the same limit.
const GOLDEN_CASES_MAX: usize = 1024;
/// Characters of a message of a parser that are repeated: the place and the reason, not the file.
const MESSAGE_LEN_MAX: usize = 400;

/// A person's notes on the model: `bundle.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notes {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) license: Option<String>,
    #[serde(default)]
    pub(crate) source: Option<String>,
    #[serde(default)]
    pub(crate) classes: BTreeMap<String, Vec<String>>,
}

/// Changes of a character that make one word of another, up to which they are taken for the same.
const NEAR_MAX: usize = 3;

const NOTES_FIELDS: [&str; 5] = ["name", "description", "license", "source", "classes"];
const GOLDEN_FIELDS: [&str; 5] = ["cases", "name", "request", "response", "tolerance"];

/// Reads `bundle.yaml` and compares it with the model.
pub(crate) fn read(yaml: &[u8], model: &Model) -> Result<Notes, StoreError> {
    let text = std::str::from_utf8(yaml).map_err(|_| refused(format!("`{NOTES_FILE}` is not UTF-8")))?;
    // An empty file, or one of comments alone, says nothing.
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Notes::default());
    }
    let notes: Notes =
        serde_saphyr::from_str(text).map_err(|error| wrong(NOTES_FILE, &error.to_string(), &NOTES_FIELDS))?;
    for (output, labels) in &notes.classes {
        let Some(known) = model.outputs.iter().find(|known| &known.name == output) else {
            let names: Vec<_> = model.outputs.iter().map(|known| known.name.as_str()).collect();
            return Err(refused(format!(
                "`{NOTES_FILE}`: `classes` has the output `{output}`, which the model does not have: it has `{}`",
                names.join("`, `")
            )));
        };
        let columns = known.shape.last().filter(|_| known.shape.len() > 1).and_then(|size| usize::try_from(*size).ok());
        if columns.is_some_and(|columns| columns != labels.len()) {
            return Err(refused(format!(
                "`{NOTES_FILE}`: `classes` has {} labels for `{output}`, whose shape is {:?}: give one for each column",
                labels.len(),
                known.shape
            )));
        }
    }
    Ok(notes)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenCase {
    #[serde(default)]
    name: Option<String>,
    request: BTreeMap<String, IgnoredAny>,
    response: BTreeMap<String, IgnoredAny>,
    #[serde(default)]
    tolerance: Option<f64>,
}

/// Checks the form of `golden.json`; the runtime, which knows the protocol, runs the cases.
pub(crate) fn check_golden(json: &[u8]) -> Result<(), StoreError> {
    let golden: Golden =
        serde_json::from_slice(json).map_err(|error| wrong(GOLDEN_FILE, &error.to_string(), &GOLDEN_FIELDS))?;
    if golden.cases.is_empty() {
        return Err(refused(format!("`{GOLDEN_FILE}` has no cases: add some or leave the file out")));
    }
    if golden.cases.len() > GOLDEN_CASES_MAX {
        return Err(refused(format!(
            "`{GOLDEN_FILE}` has {} cases: keep at most {GOLDEN_CASES_MAX}, which run at every start",
            golden.cases.len()
        )));
    }
    for (at, case) in golden.cases.iter().enumerate() {
        let name = case.name.clone().unwrap_or_else(|| at.to_string());
        let lacks = [("request", &case.request, "inputs"), ("response", &case.response, "outputs")];
        if let Some((part, _, key)) = lacks.into_iter().find(|(_, map, key)| !map.contains_key(*key)) {
            return Err(refused(format!("`{GOLDEN_FILE}`: the {part} of case `{name}` has no `{key}`")));
        }
        if case.tolerance.is_some_and(|tolerance| !tolerance.is_finite() || tolerance < 0.0) {
            return Err(refused(format!("`{GOLDEN_FILE}`: the tolerance of case `{name}` must be zero or more")));
        }
    }
    Ok(())
}

/// A parser's message, on one line, with the known field that is nearest to an unknown one.
fn wrong(file: &str, message: &str, fields: &[&str]) -> StoreError {
    let first = message.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let short: String = first.chars().take(MESSAGE_LEN_MAX).collect();
    let unknown = message.split_once("unknown field").and_then(|(_, rest)| rest.split('`').nth(1));
    let near = unknown.and_then(|unknown| {
        let near = |known: &&&str| strsim::damerau_levenshtein(known, unknown);
        fields.iter().min_by_key(near).filter(|known| near(known) <= NEAR_MAX)
    });
    let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    refused(format!("`{file}`: {short}{hint}"))
}
