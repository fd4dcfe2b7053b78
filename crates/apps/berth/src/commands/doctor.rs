//! `berth doctor`: what this machine offers.

use std::{env, fs, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use runtime::{library, sandbox::probe};
use serde::Serialize;
use serde_json::json;

use crate::{context::Context, failure::Failure, output::Tone, table::table};

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Models are served, with less than all.
    Lacking,
    /// Models are not served.
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { name, verdict, detail: detail.into() }
    }
}

pub(super) fn doctor(context: &Context) -> Result<(), Failure> {
    // The library must not be loaded in a process where it would send telemetry.
    library::silence().map_err(|error| Failure::failed(error.to_string()))?;
    let mut checks = vec![kernel(), data_dir(context), memory()];
    let findings = probe::self_test();
    checks.extend(sandbox(&findings));
    checks.push(onnxruntime());
    let bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    let out = context.out;
    if out.is_for_people() {
        let word = |verdict| match verdict {
            Verdict::Ok => out.toned("ok", Tone::Good),
            Verdict::Lacking => out.toned("lacking", Tone::Waiting),
            Verdict::Bad => out.toned("bad", Tone::Bad),
        };
        let rows = checks
            .iter()
            .map(|check| vec![check.name.to_owned(), word(check.verdict), check.detail.replace('\n', "; ")]);
        out.text(&table(&["CHECK", "RESULT", "DETAIL"], rows.collect()))?;
    } else {
        out.value(&json!({"ok": !bad, "checks": checks, "sandbox": findings.ok()}))?;
    }
    if bad { Err(Failure::failed("models cannot be served here")) } else { Ok(()) }
}

fn kernel() -> Check {
    let read =
        |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Check::new(
        "machine",
        Verdict::Ok,
        format!("{} {}, {}, {cpus} CPUs to use", read("ostype"), read("osrelease"), env::consts::ARCH),
    )
}

fn data_dir(context: &Context) -> Check {
    let path = context.data_dir();
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if meta.mode() & 0o022 != 0 => Check::new(
            "data directory",
            Verdict::Bad,
            format!("others can write to `{shown}`: run `chmod 700 {shown}`"),
        ),
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => Check::new(
            "data directory",
            Verdict::Bad,
            format!("`{shown}` belongs to another user: name another with `--data-dir`"),
        ),
        Ok(_) => Check::new("data directory", Verdict::Ok, format!("`{shown}`")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::new("data directory", Verdict::Ok, format!("`{shown}` will be made by `berth up`"))
        }
        Err(error) => Check::new("data directory", Verdict::Bad, format!("`{shown}`: {error}")),
    }
}

fn memory() -> Check {
    /// What one runtime takes before its model.
    const NEEDED_KIB: u64 = 256 * 1024;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    match line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()) {
        Some(kib) if kib < NEEDED_KIB => Check::new("memory", Verdict::Lacking, format!("{} MiB are free", kib / 1024)),
        Some(kib) => Check::new("memory", Verdict::Ok, format!("{} MiB are free", kib / 1024)),
        None => Check::new("memory", Verdict::Lacking, "`/proc/meminfo` does not say how much is free"),
    }
}

/// Tries in a process of its own what a model must not be able to do.
fn sandbox(findings: &io::Result<probe::Findings>) -> Vec<Check> {
    let findings = match findings {
        Ok(findings) => findings,
        Err(error) => return vec![Check::new("sandbox", Verdict::Bad, format!("it cannot be tried: {error}"))],
    };
    let mut checks: Vec<Check> = findings
        .probes
        .iter()
        .filter(|probe| !probe.is_proof())
        .map(|probe| {
            let verdict = if probe.with_sandbox == probe::Outcome::Allowed && !probe.is_meant {
                Verdict::Lacking
            } else {
                Verdict::Bad
            };
            let detail =
                format!("{}: {:?} without it, {:?} with it", probe.name, probe.without_sandbox, probe.with_sandbox);
            Check::new("sandbox", verdict, detail.to_lowercase())
        })
        .collect();
    checks.extend(findings.missing.iter().map(|missing| Check::new("sandbox", Verdict::Lacking, missing.clone())));
    if checks.is_empty() {
        let forbidden = findings.probes.iter().filter(|probe| !probe.is_meant).count();
        checks.push(Check::new("sandbox", Verdict::Ok, format!("{forbidden} forbidden acts were tried and refused")));
    }
    checks
}

fn onnxruntime() -> Check {
    let given = env::var_os(library::OVERRIDE).map(PathBuf::from);
    let from = given.as_ref().map_or_else(String::new, |path| format!(", from `{}`", path.display()));
    match library::load(given) {
        Ok(_) => Check::new("ONNX Runtime", Verdict::Ok, format!("{}{from}", library::VERSION)),
        Err(error) => Check::new("ONNX Runtime", Verdict::Bad, daemon::supervisor::chain(&error)),
    }
}
