//! A hold on a process: its own child or one that was found. It never takes another process for it, and it knows at once when
//! it ends.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use daemon::{OnExit, Supervisor};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::{Child, ChildStdin, Command},
    sync::{Notify, watch},
};

use super::procfs;
use crate::db::ProcessId;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// When, milliseconds.
    pub(crate) at_ms: u64,
    /// How, in words.
    pub(crate) how: String,
}

/// A process that is watched.
#[derive(Debug)]
pub(crate) struct Handle {
    process: ProcessId,
    pidfd: Arc<OwnedFd>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Handle {
    /// Starts a process; `wake` is notified when it ends.
    pub(crate) fn spawn(command: &mut Command, supervisor: &Supervisor, wake: &Arc<Notify>) -> io::Result<Self> {
        Self::hold(command.kill_on_drop(false).spawn()?, supervisor, wake)
    }

    /// Starts a process whose standard input is a pipe that this process alone can write to.
    pub(crate) fn spawn_with_channel(
        command: &mut Command,
        supervisor: &Supervisor,
        wake: &Arc<Notify>,
    ) -> io::Result<(Self, ChildStdin)> {
        let mut child = command.stdin(Stdio::piped()).kill_on_drop(false).spawn()?;
        let channel = child.stdin.take().ok_or_else(|| io::Error::other("the process has no standard input"))?;
        Ok((Self::hold(child, supervisor, wake)?, channel))
    }

    fn hold(mut child: Child, supervisor: &Supervisor, wake: &Arc<Notify>) -> io::Result<Self> {
        let gone = || io::Error::other("the process ended at once");
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or_else(gone)?;
        // Until it is reaped, which only the task below does, the number stands for this process alone.
        let pidfd = open(pid)?;
        let born = procfs::identify(pid).map_or(0, |process| process.born);
        let (tell, ended) = watch::channel(None);
        let wake = Arc::clone(wake);
        supervisor.spawn("child", OnExit::Continue, async move {
            let status = child.wait().await;
            let how = status.map_or_else(|error| format!("its end could not be seen: {error}"), describe);
            tell.send_replace(Some(Ended { at_ms: daemon::time::now_ms(), how }));
            wake.notify_one();
            Ok(())
        });
        Ok(Self { process: ProcessId { pid, born }, pidfd, ended })
    }

    /// Takes hold of a process that somebody else started. Nothing when it has ended or is another one.
    pub(crate) fn adopt(process: ProcessId, supervisor: &Supervisor, wake: &Arc<Notify>) -> io::Result<Option<Self>> {
        let Ok(pidfd) = open(process.pid) else { return Ok(None) };
        // Asked after the hold: a process that is the right one now is the one that is held.
        if procfs::identify(process.pid) != Some(process) {
            return Ok(None);
        }
        let (tell, ended) = watch::channel(None);
        let polled = polled(Arc::clone(&pidfd))?;
        let wake = Arc::clone(wake);
        supervisor.spawn("adopted", OnExit::Continue, async move {
            drop(polled.readable().await?);
            let how = "in a way that only the controller that started it could see".to_owned();
            tell.send_replace(Some(Ended { at_ms: daemon::time::now_ms(), how }));
            wake.notify_one();
            Ok(())
        });
        Ok(Some(Self { process, pidfd, ended }))
    }

    /// Which process it is.
    pub(crate) fn process(&self) -> ProcessId {
        self.process
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        let unseen = || Ended { at_ms: daemon::time::now_ms(), how: "its end could not be seen".to_owned() };
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or_else(unseen),
            Err(_) => unseen(),
        }
    }

    /// Asks it to end by itself.
    pub(crate) fn stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        match pidfd_send_signal(&*self.pidfd, signal) {
            // It has ended already, which is what was wanted.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.process.pid, %error, "cannot send a signal"),
        }
    }
}

#[expect(
    deprecated,
    reason = "the successor is unsafe: its caller vouches for one descriptor for life, which `OwnedFd` does"
)]
fn polled(pidfd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

fn open(pid: i32) -> io::Result<Arc<OwnedFd>> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(Arc::new(pidfd_open(pid, PidfdFlags::NONBLOCK)?))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "signal 9: killed, by a person or because memory ran out".to_owned(),
        (None, Some(31)) => "signal 31: it made a system call for which the sandbox ends a process".to_owned(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[tokio::test]
    async fn a_child_is_seen_to_end() {
        let (supervisor, wake) = (Supervisor::new(), Arc::new(Notify::new()));
        let handle = Handle::spawn(&mut sleeper(), &supervisor, &wake).unwrap();
        assert_eq!(handle.ended(), None);
        assert_eq!(procfs::identify(handle.process().pid), Some(handle.process()));
        handle.stop();
        wake.notified().await;
        assert_eq!(handle.wait().await.how, "signal 15");
        // A signal to a process that has gone is not an error, and hits nobody else.
        handle.kill();
    }

    #[tokio::test]
    async fn a_found_process_is_told_from_a_later_one() {
        let (supervisor, wake) = (Supervisor::new(), Arc::new(Notify::new()));
        let child = Handle::spawn(&mut sleeper(), &supervisor, &wake).unwrap();
        let process = child.process();
        let other = ProcessId { born: process.born + 1, ..process };
        assert!(Handle::adopt(other, &supervisor, &wake).unwrap().is_none());
        let adopted = Handle::adopt(process, &supervisor, &wake).unwrap().unwrap();
        adopted.kill();
        adopted.wait().await;
        assert!(child.wait().await.how.starts_with("signal 9"));
        assert!(Handle::adopt(process, &supervisor, &wake).unwrap().is_none());
    }
}
