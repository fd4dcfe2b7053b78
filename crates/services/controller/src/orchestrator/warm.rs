//! The warm pool: runtimes that have loaded ONNX Runtime and wait for a model, so that a start costs only the model's load.
//!
//! Each has the socket of the replica that it may become, and a pipe without a name on which it is told which one that is. This
//! process holds the other end: when it is gone, however it ended, the pipe closes and those that wait end by themselves.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use daemon::{Supervisor, assignment};
use planner::backoff_ms;
use tokio::{io::AsyncWriteExt as _, process::ChildStdin, sync::Notify};

use super::{command, handle::Handle, logs, procfs};
use crate::names;

/// Time for a process to take its assignment. It fits into the pipe, so that only a process that is gone does not.
const ASSIGN_TIME_MAX: Duration = Duration::from_secs(1);
/// Time for those that wait to end when the pool does.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// Time after which an end says nothing about whether starting again works.
const HEALTHY_MS: u64 = 60_000;
/// Lines of the log of a process that ended by itself.
const TAIL_LINES: usize = 5;
const LOG_PREFIX: &str = "warm-";
const LOG_SUFFIX: &str = ".log";

/// Keeps processes that wait.
#[derive(Debug)]
pub(crate) struct Pool {
    executable: PathBuf,
    run_dir: PathBuf,
    logs_dir: PathBuf,
    supervisor: Supervisor,
    wake: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wanted: usize,
    waiting: Vec<Waiting>,
    /// Ends and failed starts in a row, and when the next start may be.
    failures: u32,
    not_before_ms: u64,
}

/// A process that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The random part of the name of the replica that it may become.
    name: String,
    handle: Handle,
    channel: ChildStdin,
    /// Whether a replica of this pass has its name.
    promised: bool,
    since_ms: u64,
}

/// The pool as the API shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolState {
    /// Processes that there should be.
    pub(crate) wanted: usize,
    /// Processes that wait.
    pub(crate) waiting: usize,
    /// What they take, shared pages counted in parts.
    pub(crate) memory_bytes: u64,
}

impl Pool {
    /// A pool of the data directory `data_dir`, without processes yet; `wake` is notified when one ends.
    pub(crate) fn new(executable: PathBuf, data_dir: &Path, supervisor: Supervisor, wake: Arc<Notify>) -> Self {
        let (run_dir, logs_dir) = (data_dir.join("run"), data_dir.join("logs"));
        // Those that an earlier controller's processes wrote, which have ended with it.
        for entry in fs::read_dir(&logs_dir).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_log) {
                drop(fs::remove_file(entry.path()));
            }
        }
        Self { executable, run_dir, logs_dir, supervisor, wake, state: Mutex::default() }
    }

    /// What is started.
    pub(crate) fn executable(&self) -> &Path {
        &self.executable
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The random part of the name of the next replica: that of a process that waits, when there is one.
    pub(crate) fn name(&self) -> String {
        let mut state = self.state();
        let free = |waiting: &&mut Waiting| !waiting.promised && waiting.handle.ended().is_none();
        match state.waiting.iter_mut().find(free) {
            Some(waiting) => {
                waiting.promised = true;
                waiting.name.clone()
            }
            None => names::random(names::REPLICA_RANDOM_LEN),
        }
    }

    /// Where the replica with the random part `name` listens.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.run_dir.join(format!("r-{name}.sock"))
    }

    /// Whether the socket is that of a process that waits.
    pub(crate) fn has(&self, socket: &Path) -> bool {
        self.state().waiting.iter().any(|waiting| self.socket(&waiting.name) == socket)
    }

    /// Makes the process that waits at `socket` the replica whose arguments are `words` and whose log is `log`. `None` when no
    /// process does: the replica has to be started.
    pub(crate) async fn assign(&self, socket: &Path, words: &[OsString], log: &Path) -> Option<Handle> {
        let waiting = {
            let mut state = self.state();
            let at = state.waiting.iter().position(|waiting| self.socket(&waiting.name) == socket)?;
            state.waiting.swap_remove(at)
        };
        let Waiting { name, handle, mut channel, .. } = waiting;
        let told = async {
            let bytes = assignment::encode(words).map_err(io::Error::other)?;
            // It writes to the file wherever that is.
            fs::rename(self.log(&name), log)?;
            tokio::time::timeout(ASSIGN_TIME_MAX, channel.write_all(&bytes)).await?
        };
        let told: io::Result<()> = told.await;
        match told {
            Ok(()) => {
                self.state().failures = 0;
                Some(handle)
            }
            Err(error) => {
                tracing::warn!(pid = handle.process().pid, %error, "a warm process cannot be used");
                // It must be gone before another one takes its socket.
                handle.kill();
                handle.wait().await;
                None
            }
        }
    }

    /// Sees to it that `wanted` processes wait. Those that are missing are started one in each pass, and only in a `quiet` one: the
    /// load of a model that somebody waits for comes first.
    pub(crate) fn keep(&self, wanted: usize, quiet: bool) {
        let mut state = self.state();
        let now_ms = daemon::time::now_ms();
        state.wanted = wanted;
        let (ended, mut waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|waiting| waiting.handle.ended().is_some());
        for gone in &ended {
            self.bury(gone);
            if now_ms >= gone.since_ms + HEALTHY_MS {
                state.failures = 0;
            }
            state.failed(now_ms);
        }
        for spare in waiting.drain(wanted.min(waiting.len())..) {
            // Its channel closes, and it ends.
            drop(fs::remove_file(self.log(&spare.name)));
        }
        for waiting in &mut waiting {
            waiting.promised = false;
        }
        if quiet && waiting.len() < wanted && now_ms >= state.not_before_ms {
            match self.start() {
                Ok(started) => waiting.push(started),
                Err(error) => {
                    tracing::error!(%error, "cannot start a warm process");
                    state.failed(now_ms);
                }
            }
        }
        state.waiting = waiting;
    }

    fn start(&self) -> io::Result<Waiting> {
        let name = names::random(names::REPLICA_RANDOM_LEN);
        let mut command = command::runtime(&self.executable, &self.log(&name))?;
        command.arg("--socket").arg(self.socket(&name)).arg("--standby");
        let (handle, channel) = Handle::spawn_with_channel(&mut command, &self.supervisor, &self.wake)?;
        Ok(Waiting { name, handle, channel, promised: false, since_ms: daemon::time::now_ms() })
    }

    /// Says how a process ended that waited, and removes what it left.
    fn bury(&self, gone: &Waiting) {
        let how = gone.handle.ended().map(|ended| ended.how).unwrap_or_default();
        let log = logs::tail(&self.log(&gone.name), TAIL_LINES).unwrap_or_default();
        tracing::warn!(pid = gone.handle.process().pid, how, log, "a process of the warm pool ended by itself");
        drop(fs::remove_file(self.log(&gone.name)));
        drop(fs::remove_file(self.socket(&gone.name)));
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs_dir.join(format!("{LOG_PREFIX}{name}{LOG_SUFFIX}"))
    }

    /// Ends every process that waits.
    pub(crate) async fn close(&self) {
        let waiting = {
            let mut state = self.state();
            state.wanted = 0;
            std::mem::take(&mut state.waiting)
        };
        for Waiting { name, handle, channel, .. } in waiting {
            drop(channel);
            if tokio::time::timeout(END_TIME_MAX, handle.wait()).await.is_err() {
                handle.kill();
                handle.wait().await;
            }
            drop(fs::remove_file(self.log(&name)));
        }
    }

    /// How the pool is.
    pub(crate) fn show(&self) -> PoolState {
        let state = self.state();
        let pids = state.waiting.iter().filter(|waiting| waiting.handle.ended().is_none());
        let pids: Vec<i32> = pids.map(|waiting| waiting.handle.process().pid).collect();
        let memory_bytes = pids.iter().map(|pid| procfs::memory_bytes(*pid).unwrap_or(0)).sum();
        PoolState { wanted: state.wanted, waiting: pids.len(), memory_bytes }
    }
}

impl State {
    fn failed(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms.saturating_add(backoff_ms(self.failures));
    }
}

/// Whether a file is the log of a process that waits. A replica's has a service, a revision and a random part.
fn is_log(file_name: &str) -> bool {
    let name = file_name.strip_prefix(LOG_PREFIX).and_then(|rest| rest.strip_suffix(LOG_SUFFIX));
    name.is_some_and(|name| !name.is_empty() && !name.contains('-'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A stand-in for the executable: it takes as many bytes as it is told and answers with what they were.
    const STAND_IN: &str = "#!/bin/sh\necho \"$@\"\nhead -c 4 >/dev/null\nexec cat\n";

    fn pool(home: &Path) -> Pool {
        let executable = home.join("berth");
        fs::write(&executable, STAND_IN).unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["run", "logs"] {
            fs::create_dir(home.join(name)).unwrap();
        }
        Pool::new(executable, home, Supervisor::new(), Arc::new(Notify::new()))
    }

    #[tokio::test]
    async fn a_process_that_waits_becomes_the_replica_with_its_name() {
        let home = tempfile::tempdir().unwrap();
        let pool = pool(home.path());
        pool.keep(2, true);
        pool.keep(2, true);
        assert_eq!((pool.show().wanted, pool.show().waiting), (2, 2));
        let (first, second, third) = (pool.name(), pool.name(), pool.name());
        assert!(first != second && second != third && first != third);
        assert!(pool.has(&pool.socket(&first)) && !pool.has(&pool.socket(&third)));
        let log = home.path().join("logs/a-1-x.log");
        let handle = pool.assign(&pool.socket(&first), &["--model".into(), "a=b".into()], &log).await.unwrap();
        // The channel is closed once it was told.
        handle.wait().await;
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.starts_with("runtime --socket") && text.contains("--standby\n--model\0a=b\0"), "{text}");
        assert!(pool.assign(&pool.socket(&third), &[], &log).await.is_none());
        assert!(!pool.has(&pool.socket(&first)) && pool.show().waiting == 1);
        // What was promised and not taken can be taken again.
        pool.keep(1, true);
        assert_eq!(pool.name(), second);
        pool.close().await;
        assert_eq!(pool.show(), PoolState::default());
        assert_eq!(fs::read_dir(home.path().join("logs")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_pool_is_filled_in_quiet_passes_and_its_ends_are_counted() {
        let home = tempfile::tempdir().unwrap();
        let pool = pool(home.path());
        pool.keep(1, false);
        assert_eq!(pool.show().waiting, 0);
        for failures in 1..=2 {
            pool.keep(1, true);
            let name = pool.name();
            let gone = {
                let state = pool.state();
                let handle = &state.waiting.first().unwrap().handle;
                handle.kill();
                handle.process()
            };
            while procfs::identify(gone.pid) == Some(gone) || pool.show().waiting > 0 {
                tokio::task::yield_now().await;
            }
            // Gone before it could be told.
            assert_ne!(pool.name(), name);
            pool.keep(1, false);
            assert_eq!(pool.state().failures, failures);
        }
        // After two in a row there is a pause.
        pool.keep(1, true);
        assert_eq!(pool.show().waiting, 0);
    }

    #[test]
    fn logs_of_replicas_are_not_taken_for_those_of_the_pool() {
        assert!(is_log("warm-0123456789.log"));
        for name in ["warm-1-0123456789.log", "warm-.log", "warm-x.txt", "gateway.log", "iris-1-x.log"] {
            assert!(!is_log(name), "{name}");
        }
    }
}
