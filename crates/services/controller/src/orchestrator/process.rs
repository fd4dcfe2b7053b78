//! Replicas as processes of this machine, each behind a Unix socket of its own.
//!
//! They are not this process's children in life and death. One that an earlier controller started is found by its number and
//! its birth, by who listens on its socket, or by its arguments, and adopted.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use daemon::{OnExit, Supervisor};
use futures_util::{StreamExt as _, stream};
use planner::Machine;
use resources::id::ReplicaId;
use tokio::sync::Notify;

use super::{
    Answer, End, Launch, Life, Memory, Orchestrator, Seen, Started, command,
    findings::Findings,
    handle::{Ended, Handle},
    logs, memory, probe, procfs,
    warm::Pool,
};
use crate::db::{ProcessId, ReplicaRow};

/// Replicas asked at a time.
const PROBES_MAX: usize = 16;
/// How often a ready replica is asked.
const READY_LOOK_MS: u64 = 1_000;
/// Time after a start in which the warm pool is not filled again: the first requests come first.
const QUIET_MS: u64 = 500;
/// Lines of a log that are remembered of an end.
const TAIL_LINES: usize = 20;
/// Bytes of them; longer ones are cut at the front.
const TAIL_BYTES_MAX: usize = 4 * 1024;
/// Time for a process that belongs to nobody to end by itself.
const STRAY_MS_MAX: u64 = 35_000;

/// Runs replicas as processes.
#[derive(Debug)]
pub(crate) struct Processes {
    executable: PathBuf,
    run_dir: PathBuf,
    logs_dir: PathBuf,
    supervisor: Supervisor,
    wake: Arc<Notify>,
    pool: Arc<Pool>,
    findings: Findings,
    /// When a replica was last seen to start, milliseconds.
    starting_ms: AtomicU64,
    known: Mutex<BTreeMap<ReplicaId, Known>>,
    strays: Mutex<BTreeMap<PathBuf, u64>>,
}

/// A replica that this process started or adopted.
#[derive(Clone, Debug)]
struct Known {
    process: Process,
    answer: Option<Answer>,
    asked_ms: u64,
    silent_since_ms: Option<u64>,
    unready_since_ms: Option<u64>,
    /// Its model, until what it found out about it is kept.
    bundle_dir: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Process {
    Held(Arc<Handle>),
    NeverStarted(Ended),
}

impl Known {
    fn new(process: Process) -> Self {
        Self { process, answer: None, asked_ms: 0, silent_since_ms: None, unready_since_ms: None, bundle_dir: None }
    }
}

impl Processes {
    /// Replicas of the data directory `data_dir`, made of processes of `pool` where there are some; `wake` is notified when one
    /// becomes ready or ends.
    pub(crate) fn new(pool: Arc<Pool>, data_dir: &Path, supervisor: Supervisor, wake: Arc<Notify>) -> Self {
        let (run_dir, logs_dir) = (data_dir.join("run"), data_dir.join("logs"));
        let executable = pool.executable().to_owned();
        let (known, strays, starting_ms) = (Mutex::default(), Mutex::default(), AtomicU64::default());
        let findings = Findings::new(data_dir);
        Self { executable, run_dir, logs_dir, supervisor, wake, pool, findings, starting_ms, known, strays }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, replica: &ReplicaId) -> PathBuf {
        self.logs_dir.join(format!("{replica}.log"))
    }

    async fn look(&self, replica: &ReplicaRow) -> Seen {
        let known = self.known().get(&replica.id).cloned();
        let (mut known, adopted) = match known {
            Some(known) => (known, false),
            None => match self.adopt(replica).await {
                Some(handle) => {
                    let handle = Arc::new(handle);
                    self.await_ready(&replica.socket, &handle);
                    (Known::new(Process::Held(handle)), true)
                }
                None => return Seen::default(),
            },
        };
        let handle = match &known.process {
            Process::Held(handle) => Arc::clone(handle),
            Process::NeverStarted(ended) => return self.ended(replica, ended.clone(), known.answer),
        };
        if let Some(ended) = handle.ended() {
            self.known().insert(replica.id.clone(), known.clone());
            return self.ended(replica, ended, known.answer);
        }
        let now_ms = daemon::time::now_ms();
        let settled = known.answer.as_ref().is_some_and(|answer| answer.ready) && known.silent_since_ms.is_none();
        if !settled || now_ms >= known.asked_ms + READY_LOOK_MS {
            known.hear(probe::ask(&replica.socket).await.ok(), now_ms);
            self.keep_findings(&mut known);
        }
        if known.answer.as_ref().is_none_or(|answer| !answer.ready) {
            self.starting_ms.store(now_ms, Ordering::Relaxed);
        }
        self.known().insert(replica.id.clone(), known.clone());
        Seen {
            life: Life::Running { process: handle.process(), adopted },
            answer: known.answer,
            silent_since_ms: known.silent_since_ms,
            unready_since_ms: known.unready_since_ms,
        }
    }

    /// Keeps what a replica that became ready found out, unless that is known already.
    fn keep_findings(&self, known: &mut Known) {
        let Some(found) = known.answer.as_ref().and_then(|answer| answer.findings.as_ref()) else { return };
        let Some(bundle_dir) = known.bundle_dir.take() else { return };
        if self.findings.read(&bundle_dir).as_ref() != Some(found)
            && let Err(error) = self.findings.write(&bundle_dir, found)
        {
            tracing::warn!(%error, "cannot keep what a replica found out; the next one finds it out again");
        }
    }

    /// Wakes the loop at the moment in which the replica says that it is ready.
    fn await_ready(&self, socket: &Path, handle: &Arc<Handle>) {
        let (socket, handle, wake) = (socket.to_owned(), Arc::clone(handle), Arc::clone(&self.wake));
        self.supervisor.spawn("readiness", OnExit::Continue, async move {
            tokio::select! {
                () = probe::ready(&socket) => wake.notify_one(),
                _ = handle.wait() => {}
            }
            Ok(())
        });
    }

    fn ended(&self, replica: &ReplicaRow, ended: Ended, answer: Option<Answer>) -> Seen {
        let read = logs::tail(&self.log(&replica.id), TAIL_LINES);
        let log_tail = read.map(|text| cut(&readable(&text))).unwrap_or_default();
        let life = Life::Ended { at_ms: ended.at_ms, how: ended.how, log_tail };
        Seen { life, answer, silent_since_ms: None, unready_since_ms: None }
    }

    async fn adopt(&self, replica: &ReplicaRow) -> Option<Handle> {
        let process = self.find(replica.process, &replica.socket).await?;
        match Handle::adopt(process, &self.supervisor, &self.wake) {
            Ok(handle) => handle,
            Err(error) => {
                tracing::error!(replica = %replica.id, %error, "cannot watch a process");
                None
            }
        }
    }

    /// The runtime behind `socket`: the one that was written down, or who listens, or who has it in its arguments, which is so
    /// from its first moment.
    async fn find(&self, written: Option<ProcessId>, socket: &Path) -> Option<ProcessId> {
        let text = socket.to_string_lossy().into_owned();
        let ours = |arguments: &[String]| procfs::is_role(arguments, "runtime", "--socket", &text);
        let right = |process: &ProcessId| ours(&procfs::arguments(process.pid));
        let written = written.filter(|process| procfs::identify(process.pid) == Some(*process)).filter(right);
        if written.is_some() {
            return written;
        }
        let listens = probe::listener(socket).await.and_then(procfs::identify).filter(right);
        listens.or_else(|| procfs::find(ours).into_iter().next())
    }

    /// Starts a process from nothing.
    fn start_cold(&self, launch: &Launch, words: &[OsString]) -> io::Result<Handle> {
        let mut command = command::runtime(&self.executable, &self.log(&launch.id))?;
        Handle::spawn(command.args(words), &self.supervisor, &self.wake)
    }

    /// Ends the process behind a socket that belongs to no replica, or removes the file when there is none.
    async fn end_stray(&self, socket: PathBuf) -> Option<String> {
        let Some(process) = self.find(None, &socket).await else {
            drop(fs::remove_file(&socket));
            return None;
        };
        let handle = Handle::adopt(process, &self.supervisor, &self.wake).ok().flatten()?;
        let now_ms = daemon::time::now_ms();
        let mut strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        let since_ms = strays.get(&socket).copied();
        match since_ms {
            Some(since_ms) if now_ms < since_ms + STRAY_MS_MAX => None,
            Some(_) => {
                handle.kill();
                None
            }
            None => {
                strays.insert(socket, now_ms);
                handle.stop();
                Some(format!("process {} serves no replica of this data directory", process.pid))
            }
        }
    }
}

impl Known {
    fn hear(&mut self, answer: Option<Answer>, now_ms: u64) {
        self.asked_ms = now_ms;
        match answer {
            Some(answer) => {
                self.silent_since_ms = None;
                self.unready_since_ms = if answer.ready { None } else { self.unready_since_ms.or(Some(now_ms)) };
                self.answer = Some(answer);
            }
            None => self.silent_since_ms = self.silent_since_ms.or(Some(now_ms)),
        }
    }
}

impl Orchestrator for Processes {
    fn machine(&self) -> Machine {
        procfs::machine()
    }

    fn memory(&self) -> Option<Memory> {
        memory::read(Path::new("/"))
    }

    async fn observe(&self, replicas: &[ReplicaRow]) -> Vec<Seen> {
        let mut looks = Vec::new();
        for replica in replicas {
            looks.push(self.look(replica));
        }
        stream::iter(looks).buffered(PROBES_MAX).collect().await
    }

    fn name(&self) -> String {
        self.pool.name()
    }

    async fn start(&self, launch: &Launch) -> Result<Started, String> {
        self.starting_ms.store(daemon::time::now_ms(), Ordering::Relaxed);
        let words = command::arguments(launch, self.findings.read(&launch.bundle_dir));
        let warm = self.pool.assign(&launch.socket, &words, &self.log(&launch.id)).await;
        let (started, warm) = match warm {
            Some(handle) => (Ok(handle), true),
            None => (self.start_cold(launch, &words), false),
        };
        let (known, answer) = match started {
            Ok(handle) => {
                let started = Started { process: handle.process(), warm };
                let handle = Arc::new(handle);
                self.await_ready(&launch.socket, &handle);
                let bundle_dir = Some(launch.bundle_dir.clone());
                (Known { bundle_dir, ..Known::new(Process::Held(handle)) }, Ok(started))
            }
            Err(error) => {
                let how = format!("it could not be started: {error}");
                let ended = Ended { at_ms: daemon::time::now_ms(), how: how.clone() };
                (Known::new(Process::NeverStarted(ended)), Err(how))
            }
        };
        self.known().insert(launch.id.clone(), known);
        answer
    }

    fn keep_warm(&self, processes: usize) {
        let quiet_ms = self.starting_ms.load(Ordering::Relaxed).saturating_add(QUIET_MS);
        self.pool.keep(processes, daemon::time::now_ms() >= quiet_ms);
    }

    fn end(&self, replica: &ReplicaId, how: End) {
        if let Some(Known { process: Process::Held(handle), .. }) = self.known().get(replica) {
            match how {
                End::Stop => handle.stop(),
                End::Kill => handle.kill(),
            }
        }
    }

    fn forget(&self, replica: &ReplicaId) {
        self.known().remove(replica);
    }

    async fn sweep(&self, replicas: &[ReplicaRow]) -> Vec<String> {
        let known: BTreeSet<&Path> = replicas.iter().map(|replica| replica.socket.as_path()).collect();
        let Ok(entries) = fs::read_dir(&self.run_dir) else { return Vec::new() };
        let mut ended = Vec::new();
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let replica = name.to_str().is_some_and(|name| name.starts_with("r-") && name.ends_with(".sock"));
            if replica && !known.contains(path.as_path()) && !self.pool.has(&path) {
                ended.extend(self.end_stray(path).await);
            }
        }
        self.strays.lock().unwrap_or_else(PoisonError::into_inner).retain(|socket, _| socket.exists());
        ended
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn readable(text: &str) -> String {
    text.lines().map(logs::readable).collect::<Vec<_>>().join("\n")
}

/// The end of a text, at the start of a line where one is near.
fn cut(text: &str) -> String {
    let skip = text.len().saturating_sub(TAIL_BYTES_MAX);
    let at = (skip..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.get(at..).unwrap_or_default().to_owned()
}
