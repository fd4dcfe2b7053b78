//! How every process is started: nothing of this one's environment but a few names, a log of its own, a process group of its own.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Stdio,
};

use tokio::process::Command;

/// Names that are passed on. None of them holds a secret of Berth's.
const PASSED: [&str; 6] = ["PATH", "HOME", "RUST_LOG", "RUST_BACKTRACE", "LANG", "BERTH_ONNXRUNTIME"];
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

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
