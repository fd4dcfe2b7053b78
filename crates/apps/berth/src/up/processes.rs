//! Processes of a data directory, found by the sockets that they listen on.

use std::{
    fs,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::socket_peercred,
    process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal},
};

use crate::{
    failure::{Exit, Failure},
    quantities::counted,
};

/// Time for one process to finish its requests: its own grace and a little.
const STOP_TIME_MAX: Duration = Duration::from_secs(40);
/// Time for a killed process to be gone.
const KILL_TIME_MAX: Duration = Duration::from_secs(5);
/// How often an ending process is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Sockets looked at: more than the replicas that one machine runs.
const SOCKETS_MAX: usize = 4096;
/// In the order in which they are stopped: who starts others first, then who hands requests on.
const ROLES: [&str; 4] = ["up", "controller", "gateway", "runtime"];

/// A process of Berth, held so that its number cannot become another's.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// `controller`, `gateway` or `runtime`.
    pub(crate) role: String,
    fd: OwnedFd,
}

impl Process {
    /// The process `pid`, if it is a Berth of one of `ROLES`.
    fn of(pid: i32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Read after the process is held: what is read is its own.
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let role = line.split(|byte| *byte == 0).nth(1).map(|word| String::from_utf8_lossy(word).into_owned())?;
        ROLES.contains(&role.as_str()).then_some(Self { pid, role, fd })
    }

    /// The process `pid`, if it is a `berth up`.
    pub(super) fn berth_up(pid: i32) -> Option<Self> {
        Self::of(pid).filter(|process| process.role == "up")
    }

    pub(super) fn terminate(&self) {
        // It may have ended just now.
        let _ = pidfd_send_signal(&self.fd, Signal::TERM);
    }

    fn kill(&self) {
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        while self.is_alive() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Whether it lives: its descriptor becomes readable when it ends (pidfd_open(2)).
    fn is_alive(&self) -> bool {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
    }

    async fn ends_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.ended()).await.is_ok()
    }
}

/// The processes that listen on a socket of the data directory, in the order in which they are to be stopped.
pub(crate) fn leftovers(data_dir: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir(data_dir.join("run")) else { return Vec::new() };
    let sockets =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "sock"));
    let mut found: Vec<Process> = sockets.take(SOCKETS_MAX).filter_map(|socket| listener(&socket)).collect();
    found.sort_by_key(|process| (ROLES.iter().position(|role| *role == process.role), process.pid));
    found.dedup_by_key(|process| process.pid);
    found
}

/// Who listens on a socket, if it is a process of ours.
fn listener(socket: &Path) -> Option<Process> {
    let stream = UnixStream::connect(socket).ok()?;
    let peer = socket_peercred(stream.as_fd()).ok()?;
    let process = Process::of(peer.pid.as_raw_nonzero().get())?;
    (peer.uid == geteuid()).then_some(process)
}

/// What a drain still waits for.
pub(super) fn left(running: &[Process]) -> String {
    let alive = |role: &str| running.iter().filter(|process| process.role == role && process.is_alive()).count();
    let replicas = alive("runtime");
    match (alive("gateway"), replicas) {
        (1.., _) => format!("the gateway finishes its requests; {} after it", counted(replicas, "replica")),
        (0, 0) => "the controller finishes".to_owned(),
        (0, _) => format!("{} left to finish", counted(replicas, "replica")),
    }
}

/// Stops them one role after the other; kills what does not stop in time.
pub(super) async fn stop(processes: Vec<Process>) -> Result<(), Failure> {
    for role in ROLES {
        let these: Vec<&Process> = processes.iter().filter(|process| process.role == role).collect();
        these.iter().for_each(|process| process.terminate());
        for process in these {
            if !process.ends_within(STOP_TIME_MAX).await {
                process.kill();
                if !process.ends_within(KILL_TIME_MAX).await {
                    let message = format!("the {role} (process {}) does not stop", process.pid);
                    return Err(Failure::new(Exit::TimedOut, message));
                }
            }
        }
    }
    Ok(())
}

/// Kills them.
pub(super) async fn kill(processes: Vec<Process>) {
    processes.iter().for_each(Process::kill);
    for process in processes {
        process.ends_within(KILL_TIME_MAX).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_stranger_on_a_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("run")).unwrap();
        assert!(leftovers(home.path()).is_empty());
        // This test's process listens, and it is no Berth.
        let _listener = UnixListener::bind(home.path().join("run/r-1.sock")).unwrap();
        drop(UnixListener::bind(home.path().join("run/stale.sock")).unwrap());
        assert!(leftovers(home.path()).is_empty());
    }
}
