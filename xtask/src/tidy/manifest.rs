//! Every crate takes the workspace's lints, so that `unsafe` is forbidden everywhere but where a list says why.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::Finding;
use crate::workspace::Workspace;

/// Crates with a lint table of their own, because they need `unsafe`.
const UNSAFE_CRATES: [&str; 0] = [];

/// Reads every manifest.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let text = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("cannot read `{}`", package.manifest_path.display()))?;
        let place = package.folder(&workspace.root).join("Cargo.toml");
        findings.extend(check_lints(&place, &package.name, &text));
    }
    Ok(findings)
}

fn check_lints(place: &Path, name: &str, manifest: &str) -> Option<Finding> {
    let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
    let inherits = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
    let listed = UNSAFE_CRATES.contains(&name);
    (!inherits && !listed).then(|| {
        Finding::at(
            place,
            "does not take the workspace's lints: write `[lints]` and `workspace = true`; a crate that needs `unsafe` has \
             its own table, a reason, and a place on the list in xtask/src/tidy/manifest.rs",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_are_taken_or_found_missing() {
        let place = Path::new("crates/pure/a/Cargo.toml");
        assert_eq!(check_lints(place, "a", "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"), None);
        let found = check_lints(place, "a", "[package]\nname = \"a\"\n\n[lints.rust]\nunsafe_code = \"allow\"\n");
        assert!(found.unwrap().to_string().contains("does not take"));
    }
}
