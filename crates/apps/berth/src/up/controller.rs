//! The controller as a child of `berth up`.

use std::{
    env, fs,
    fs::OpenOptions,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::{cli::Up, failure::Failure, output::printable};

/// Where the gateway listens unless told otherwise: KServe's port, on this machine alone.
const LISTEN: &str = "127.0.0.1:8080";
/// Bytes of the log that are looked at for the reason of an end.
const LOG_BYTES_MAX: u64 = 64 * 1024;
/// Lines shown when none of them is an error.
const LINES_SHOWN: usize = 3;

/// What of the environment a controller may see: nothing that could be a secret.
fn may_pass(name: &str) -> bool {
    matches!(name, "PATH" | "HOME" | "LANG" | "TMPDIR" | "RUST_LOG" | "RUST_BACKTRACE" | "BERTH_ONNXRUNTIME")
        || name.starts_with("OTEL_")
}

/// This executable. Asked before somebody replaces it, after which the system says no path that can be used.
pub(super) fn executable() -> Result<PathBuf, Failure> {
    env::current_exe().map_err(|error| Failure::failed(format!("cannot find this executable: {error}")))
}

/// Makes the directories that `up` itself needs; the controller checks them.
pub(super) fn prepare(data_dir: &Path) -> Result<(), Failure> {
    for path in [data_dir.to_owned(), data_dir.join("run"), data_dir.join("logs")] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| Failure::io("make the directory", &path, &error))?;
    }
    Ok(())
}

/// A controller that `up` started. It outlives `up` when that is killed.
pub(super) struct Controller {
    child: Child,
    log: PathBuf,
    /// Where this controller's part of the log begins.
    log_from: u64,
    began: Instant,
}

impl Controller {
    pub(super) fn start(executable: &Path, data_dir: &Path, args: &Up) -> Result<Self, Failure> {
        let log = data_dir.join("logs/controller.log");
        let failed = |error: std::io::Error| Failure::io("write", &log, &error);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&log).map_err(failed)?;
        let log_from = file.metadata().map_err(failed)?.len();
        let mut command = Command::new(executable);
        command
            .arg("controller")
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--listen")
            .arg(args.listen.as_deref().unwrap_or(LISTEN));
        for (name, path) in [("--tls-cert", &args.tls_cert), ("--tls-key", &args.tls_key)] {
            if let Some(path) = path {
                let path = std::path::absolute(path).map_err(|error| Failure::io("find", path, &error))?;
                command.arg(name).arg(path);
            }
        }
        if args.insecure_listen_in_the_clear {
            command.arg("--insecure-listen-in-the-clear");
        }
        if let Some(processes) = args.warm_pool {
            command.arg("--warm-pool").arg(processes.to_string());
        }
        command.env_clear().envs(env::vars_os().filter(|(name, _)| name.to_str().is_some_and(may_pass)));
        // A group of its own: Ctrl-C in the terminal is for `up`, which asks politely.
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
        let child = command.spawn().map_err(|error| Failure::io("start", executable, &error))?;
        Ok(Self { child, log, log_from, began: Instant::now() })
    }

    /// Waits for its end. Safe to drop and to call again.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        self.child.wait().await.map_err(|error| Failure::failed(format!("cannot wait for the controller: {error}")))
    }

    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// The number belongs to it until it was waited for.
    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended just now.
            let _ = kill_process(pid, signal);
        }
    }

    /// Why it ended, by the last lines of its log.
    pub(super) fn failure(&self, ended: &ExitStatus) -> Failure {
        let text = self.last_words().unwrap_or_default();
        match reason(&text, ended) {
            Ok(error) => Failure::failed(error),
            Err(silent) => Failure::failed(silent).hint(format!("its log is `{}`", self.log.display())),
        }
    }

    fn last_words(&self) -> std::io::Result<String> {
        let mut file = fs::File::open(&self.log)?;
        let from = self.log_from.max(file.metadata()?.len().saturating_sub(LOG_BYTES_MAX));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The line that begins with `error:`, or else how it ended and the last lines that are no ordinary log.
fn reason(log: &str, ended: &ExitStatus) -> Result<String, String> {
    let log = printable(log);
    if let Some(error) = log.lines().rev().find_map(|line| line.strip_prefix("error: ")) {
        return Ok(error.to_owned());
    }
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('{')).collect();
    let last: Vec<&str> = lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).copied().collect();
    let last = if last.is_empty() { String::new() } else { format!(": {}", last.join("\n")) };
    Err(format!("the controller ended by itself ({ended}){last}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_reason_of_an_end() {
        let killed = ExitStatus::from_raw(9);
        assert_eq!(reason("{}\nerror: no\n{}\n", &killed), Ok("no".to_owned()));
        let said = reason("a\nb\n\n{\"level\":1}\nc\nd\n", &killed).unwrap_err();
        assert_eq!(said, "the controller ended by itself (signal: 9 (SIGKILL)): b\nc\nd");
        assert!(reason("\n", &killed).unwrap_err().ends_with("(SIGKILL))"));
    }

    #[test]
    fn secrets_are_not_passed_on() {
        for name in ["BERTH_API_KEY", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "BERTH_DATA_DIR"] {
            assert!(!may_pass(name), "{name}");
        }
        assert!(may_pass("OTEL_EXPORTER_OTLP_ENDPOINT") && may_pass("BERTH_ONNXRUNTIME"));
    }
}
