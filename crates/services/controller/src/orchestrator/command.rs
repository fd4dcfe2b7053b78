//! How every process is started: nothing of this one's environment but a few names, a log of its own, a process group of its own.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Stdio,
};

use resources::inference_service::Batcher;
use tokio::process::Command;

use super::Launch;

/// Names that are passed on. None of them holds a secret of Berth's.
const PASSED: [&str; 6] = ["PATH", "HOME", "RUST_LOG", "RUST_BACKTRACE", "LANG", "BERTH_ONNXRUNTIME"];
/// What a runtime would otherwise set itself, at the cost of a second start.
const TELEMETRY_OFF: &str = "ORT_DISABLE_TELEMETRY";
/// OpenTelemetry's own settings.
const PASSED_PREFIX: &str = "OTEL_";

/// `<executable> <role>`, with its output appended to `log`.
pub(crate) fn role(executable: &Path, role: &str, log: &Path) -> io::Result<Command> {
    let log = open_log(log)?;
    let mut command = Command::new(executable);
    command.arg(role).env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    for (name, value) in std::env::vars_os() {
        let passed = name.to_str().is_some_and(|name| PASSED.contains(&name) || name.starts_with(PASSED_PREFIX));
        if passed {
            command.env(name, value);
        }
    }
    Ok(command)
}

/// `<executable> runtime`, which need not be started anew to keep ONNX Runtime from sending telemetry.
pub(crate) fn runtime(executable: &Path, log: &Path) -> io::Result<Command> {
    let mut command = role(executable, "runtime", log)?;
    command.env(TELEMETRY_OFF, "1");
    Ok(command)
}

/// The arguments of the runtime that `launch` asks for, after its role. `findings` are those of an earlier replica.
pub(crate) fn arguments(launch: &Launch, findings: Option<String>) -> Vec<OsString> {
    let mut model = OsString::from(format!("{}=", launch.service));
    model.push(&launch.bundle_dir);
    let mut words: Vec<OsString> = vec!["--socket".into(), launch.socket.clone().into(), "--model".into(), model];
    words.extend(["--model-version".into(), launch.revision.to_string().into()]);
    if let Some(threads) = launch.allowance.threads {
        words.extend(["--threads".into(), threads.to_string().into()]);
    }
    if let Some(bytes) = launch.allowance.memory_bytes {
        words.extend(["--memory-max".into(), bytes.to_string().into()]);
    }
    words.extend(batching(launch.batcher).into_iter().map(OsString::from));
    words.extend(findings.into_iter().flat_map(|findings| ["--findings".into(), findings.into()]));
    words
}

/// Arguments that pass `batcher` on; none for what is the runtime's own default.
fn batching(batcher: Option<Batcher>) -> Vec<String> {
    let batcher = batcher.unwrap_or_default();
    let rows = batcher.max_batch_size.map(|rows| ["--batch-size-max".to_owned(), rows.to_string()]);
    let wait = batcher.max_latency.map(|wait_ms| ["--batch-latency-max-ms".to_owned(), wait_ms.to_string()]);
    rows.into_iter().chain(wait).flatten().collect()
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batcher_is_passed_on_as_far_as_it_says_something() {
        assert!(batching(None).is_empty());
        assert!(batching(Some(Batcher::default())).is_empty());
        let both = Batcher { max_batch_size: Some(8), max_latency: Some(5) };
        assert_eq!(batching(Some(both)), ["--batch-size-max", "8", "--batch-latency-max-ms", "5"]);
    }
}
