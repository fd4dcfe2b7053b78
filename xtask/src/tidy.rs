//! Checks what the compiler and clippy do not: the house, its files, its pins and what is built into it.

use std::{fmt, path::Path, process::ExitCode};

use anyhow::Result;

use crate::{complain, say, workspace::Workspace};

mod files;
mod house;
mod lock;
mod manifest;
mod pins;

/// Something that must change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Where, relative to the root.
    place: String,
    /// What is wrong and what to do.
    what: String,
}

impl Finding {
    fn new(place: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { place: place.to_string(), what: what.into() }
    }

    fn at(path: &Path, what: impl Into<String>) -> Self {
        Self::new(path.display(), what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Runs every check and prints every finding.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut findings = house::check(&workspace.root, &workspace.packages);
    findings.extend(manifest::check(workspace)?);
    findings.extend(files::check(&workspace.root)?);
    findings.extend(pins::check(&workspace.root)?);
    findings.extend(lock::check(&workspace.root)?);
    for finding in &findings {
        complain(&finding.to_string());
    }
    if findings.is_empty() {
        say(&format!("tidy: {} crates, nothing to say", workspace.packages.len()));
        return Ok(ExitCode::SUCCESS);
    }
    complain(&format!("tidy: {} to change", findings.len()));
    Ok(ExitCode::FAILURE)
}
