//! What cargo says about the workspace.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The part of `cargo metadata --no-deps` that the tasks use.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// Folder of the root manifest.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
    /// The members.
    pub(crate) packages: Vec<Package>,
}

/// A member.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for `[dependencies]`, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Set when it is a crate of this workspace.
    pub(crate) path: Option<PathBuf>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        let text = output(Command::new(cargo()).args(["metadata", "--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&text).context("cannot read what `cargo metadata` printed")
    }

    /// Folders that hold executables: those of the profiles for development and for `make up`.
    pub(crate) fn executable_dirs(&self) -> Vec<PathBuf> {
        ["debug", "release"].iter().map(|profile| self.target_directory.join(profile)).collect()
    }
}

impl Package {
    /// Folder of the crate, relative to the root.
    pub(crate) fn folder<'a>(&'a self, root: &Path) -> &'a Path {
        let folder = self.manifest_path.parent().unwrap_or(Path::new(""));
        folder.strip_prefix(root).unwrap_or(folder)
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// Runs a command that must succeed and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?} ended with {}:\n{}", done.status, String::from_utf8_lossy(&done.stderr).trim_end());
    }
    String::from_utf8(done.stdout).with_context(|| format!("{command:?} did not print UTF-8"))
}
