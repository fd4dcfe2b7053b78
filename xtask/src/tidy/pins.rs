//! The runtime and the set-up name the same ONNX Runtime.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::Finding;
use crate::setup::pin::{FILE, PINS, VERSION};

/// Where the runtime keeps its side of the pin.
const RUNTIME: &str = "crates/services/runtime/src/library.rs";

/// Compares the two sides.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(root.join(RUNTIME)).with_context(|| format!("cannot read `{RUNTIME}`"))?;
    Ok(missing(&text))
}

fn missing(runtime: &str) -> Vec<Finding> {
    let wanted = [VERSION, FILE].into_iter().chain(PINS.iter().map(|pin| pin.library));
    wanted
        .filter(|value| !runtime.contains(&format!("\"{value}\"")))
        .map(|value| {
            let what = format!(
                "`\"{value}\"` of xtask/src/setup/pin.rs is not in it: change version, file and digests in both"
            );
            Finding::new(RUNTIME, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_differs_is_found() {
        let all = format!("\"{VERSION}\" \"{FILE}\" \"{}\" \"{}\"", PINS[0].library, PINS[1].library);
        assert_eq!(missing(&all), Vec::new());
        let changed = all.replace("6c15", "6c16");
        assert!(missing(&changed)[0].to_string().contains("6c1585d1"));
    }
}
