//! What is built into the project: one TLS provider, one SQLite, no OpenSSL.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::Result;

use super::Finding;
use crate::workspace::{cargo, output};

/// Crates that must not be built, and what to do instead. The lock file may name them: an optional dependency stays there.
const NEVER_BUILT: [(&str, &str); 5] = [
    (
        "ring",
        "a second cryptographic provider beside aws-lc-rs: switch the crate that pulls it to its `aws_lc_rs` feature",
    ),
    ("openssl-sys", "TLS is rustls: switch the crate that pulls it to rustls"),
    ("native-tls", "TLS is rustls: switch the crate that pulls it to rustls"),
    ("reqwest", "clients are hyper's: switch the feature that pulls it off"),
    ("rusqlite", "SQLite comes through sqlx: the two link different libraries"),
];

/// Crates that may be built in one version only: they hold global state or link a C library.
const ONE_VERSION: [&str; 5] = ["aws-lc-sys", "libsqlite3-sys", "opentelemetry", "rustls", "tokio"];

/// Asks cargo what a build on this machine takes.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let tree =
        ["tree", "--workspace", "--locked", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"];
    Ok(judge(&output(Command::new(cargo()).current_dir(root).args(tree))?))
}

/// Judges lines of `name vVERSION …`.
fn judge(tree: &str) -> Vec<Finding> {
    let mut built: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            let versions = built.entry(name).or_default();
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
    }
    let never = NEVER_BUILT.iter().filter(|(name, _)| built.contains_key(name)).map(|(name, why)| {
        Finding::new("Cargo.lock", format!("`{name}` is built, {why} (`cargo tree -i {name} -e normal,build,dev`)"))
    });
    let twice = ONE_VERSION.iter().filter_map(|name| {
        let versions = built.get(name).filter(|versions| versions.len() > 1)?;
        let what = format!("`{name}` is built in {}: bring its users to one version", versions.join(" and "));
        Some(Finding::new("Cargo.lock", what))
    });
    never.chain(twice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_built_is_found() {
        assert_eq!(judge("tokio v1.2.3\nrustls v0.23.1\ntokio v1.2.3 (*)\n"), Vec::new());
        assert!(judge("ring v0.17.14\n")[0].to_string().contains("cargo tree -i ring"));
        assert!(judge("rustls v0.23.1\nrustls v0.22.4\n")[0].to_string().contains("v0.23.1 and v0.22.4"));
    }
}
