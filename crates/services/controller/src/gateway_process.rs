//! Keeps one gateway running: starts it, adopts one that an earlier controller started, starts it again when it ends.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use daemon::{BoxError, Supervisor};
use planner::backoff_ms;
use resources::event::Severity;
use tokio::sync::{Notify, watch};

use crate::{
    config::Config,
    db::Db,
    error::Error,
    orchestrator::{
        command,
        handle::{Ended, Handle},
        logs, procfs,
    },
    snapshot::Publisher,
};

/// Time for a gateway to finish its requests: its own grace and a little.
const STOP_TIME_MAX: Duration = Duration::from_secs(40);
/// Time as a running process after which a failure starts no longer wait.
const HEALTHY_MS: u64 = 60_000;
/// The gateway asks for news at least every 40 s. One that has asked and then does not for this long hangs.
const SILENT_MS_MAX: u64 = 120_000;
/// How often that is looked at.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// Lines of its log in an event.
const TAIL_LINES: usize = 5;

/// The gateway as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayState {
    /// Where it listens, or will.
    pub(crate) listen: SocketAddr,
    /// Its process, when there is one.
    pub(crate) pid: Option<i32>,
    /// Why there is none.
    pub(crate) message: String,
}

/// Keeps the gateway running.
#[derive(Debug)]
pub(crate) struct Keeper {
    config: Config,
    db: Db,
    publisher: Arc<Publisher>,
    supervisor: Supervisor,
    state: watch::Sender<GatewayState>,
    found: Option<Handle>,
    /// Notified when processes end; the keeper waits on its handle instead.
    ends: Arc<Notify>,
}

impl Keeper {
    /// Looks for a gateway that runs already, or else makes sure that the address is free.
    pub(crate) fn prepare(
        config: Config,
        db: Db,
        publisher: Arc<Publisher>,
        supervisor: Supervisor,
    ) -> Result<Self, Error> {
        let ends = Arc::new(Notify::new());
        let found = find(&config.data_dir, &supervisor, &ends);
        let serving = found.as_ref().and_then(|handle| wanted_address(&config, handle));
        let listen = match serving {
            Some(listen) => listen,
            // The one that runs has other settings. It holds the address perhaps, and gives it back when it is stopped.
            None if found.is_some() && config.listen.port() != 0 => config.listen,
            None => free_address(config.listen)?,
        };
        let state = watch::Sender::new(GatewayState { listen, pid: None, message: "starting".to_owned() });
        Ok(Self { config, db, publisher, supervisor, state, found, ends })
    }

    fn listen(&self) -> SocketAddr {
        self.state.borrow().listen
    }

    fn show(&self, pid: Option<i32>, message: &str) {
        self.state.send_modify(|state| {
            state.pid = pid;
            message.clone_into(&mut state.message);
        });
    }

    pub(crate) fn state(&self) -> watch::Receiver<GatewayState> {
        self.state.subscribe()
    }

    /// Keeps it running until the supervisor stops, then stops it.
    pub(crate) async fn run(mut self) -> Result<(), BoxError> {
        let stop = self.supervisor.stopping();
        let mut failures = 0;
        let mut held = self.take_found().await?;
        loop {
            let handle = match held.take() {
                Some(handle) => handle,
                None => match self.start() {
                    Ok(handle) => {
                        let pid = handle.process().pid;
                        self.say(Severity::Normal, "GatewayStarted", &format!("process {pid}, on {}", self.listen()))
                            .await;
                        handle
                    }
                    Err(error) => {
                        failures += 1;
                        self.ended(&format!("it could not be started: {error}")).await;
                        if self.pause(failures).await { continue } else { return Ok(()) }
                    }
                },
            };
            self.show(Some(handle.process().pid), "");
            let began_ms = daemon::time::now_ms();
            let ended = tokio::select! {
                ended = self.watch(&handle) => ended,
                () = stop.cancelled() => {
                    stop_gracefully(&handle).await;
                    self.show(None, "stopped");
                    return Ok(());
                }
            };
            failures = if ended.at_ms >= began_ms + HEALTHY_MS { 1 } else { failures + 1 };
            self.publisher.forget_gateway();
            self.ended(&ended.how).await;
            self.move_if_taken();
            if !self.pause(failures).await {
                return Ok(());
            }
        }
    }

    /// Adopts the gateway that was found, or stops it when its settings are not the ones of now.
    async fn take_found(&mut self) -> Result<Option<Handle>, BoxError> {
        let Some(handle) = self.found.take() else { return Ok(None) };
        let pid = handle.process().pid;
        if wanted_address(&self.config, &handle) == Some(self.listen()) {
            self.say(Severity::Normal, "GatewayAdopted", &format!("process {pid}, on {}", self.listen())).await;
            return Ok(Some(handle));
        }
        self.say(Severity::Normal, "GatewayStopped", &format!("process {pid} has other settings: replacing it")).await;
        stop_gracefully(&handle).await;
        Ok(None)
    }

    /// Waits for its end; ends it when it hangs.
    async fn watch(&self, handle: &Handle) -> Ended {
        loop {
            tokio::select! {
                ended = handle.wait() => return ended,
                () = tokio::time::sleep(LOOK_TIME) => {}
            }
            let asked_ms = self.publisher.asked_ms();
            if asked_ms > 0 && daemon::time::now_ms() > asked_ms + SILENT_MS_MAX {
                self.say(Severity::Warning, "GatewayKilled", "it has not asked for its configuration for two minutes")
                    .await;
                handle.kill();
                return handle.wait().await;
            }
        }
    }

    fn start(&self) -> std::io::Result<Handle> {
        let log = log(&self.config.data_dir);
        logs::bound(&log)?;
        let mut command = command::role(&self.config.executable, "gateway", &log)?;
        command.args(arguments(&self.config, self.listen()));
        Handle::spawn(&mut command, &self.supervisor, &self.ends)
    }

    async fn ended(&self, how: &str) {
        let tail = logs::tail(&log(&self.config.data_dir), TAIL_LINES).unwrap_or_default();
        let tail = tail.lines().map(logs::readable).collect::<Vec<_>>().join("\n");
        let message = format!("{how}; its log ended:\n{tail}");
        self.show(None, &message);
        self.say(Severity::Warning, "GatewayExited", &message).await;
    }

    /// With any port to choose from, one that somebody else has taken meanwhile is given up.
    fn move_if_taken(&self) {
        let listen = self.listen();
        if self.config.listen.port() == 0
            && TcpListener::bind(listen).is_err()
            && let Ok(free) = free_address(self.config.listen)
        {
            tracing::warn!(from = %listen, to = %free, "the gateway's port was taken by somebody else");
            self.state.send_modify(|state| state.listen = free);
        }
    }

    /// Waits for the back-off. Whether to go on.
    async fn pause(&self, failures: u32) -> bool {
        let stop = self.supervisor.stopping();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(backoff_ms(failures))) => true,
            () = stop.cancelled() => false,
        }
    }

    async fn say(&self, severity: Severity, reason: &str, message: &str) {
        let told = async {
            let mut write = self.db.write().await?;
            write.event(severity, "", reason, message).await?;
            write.commit().await
        };
        if let Err(error) = told.await {
            tracing::error!(%error, reason, message, "cannot keep an event");
        }
    }
}

async fn stop_gracefully(handle: &Handle) {
    handle.stop();
    if tokio::time::timeout(STOP_TIME_MAX, handle.wait()).await.is_err() {
        tracing::warn!(pid = handle.process().pid, "the gateway did not stop in time");
        handle.kill();
        handle.wait().await;
    }
}

fn log(data_dir: &Path) -> PathBuf {
    data_dir.join("logs/gateway.log")
}

fn arguments(config: &Config, listen: SocketAddr) -> Vec<String> {
    let mut arguments = vec!["--data-dir".to_owned(), config.data_dir.to_string_lossy().into_owned()];
    arguments.extend(["--listen".to_owned(), listen.to_string()]);
    if let Some((cert, key)) = &config.tls {
        arguments.extend(["--tls-cert".to_owned(), cert.to_string_lossy().into_owned()]);
        arguments.extend(["--tls-key".to_owned(), key.to_string_lossy().into_owned()]);
    }
    if config.in_the_clear {
        arguments.push("--insecure-listen-in-the-clear".to_owned());
    }
    arguments
}

/// The gateway of this data directory, if one runs.
fn find(data_dir: &Path, supervisor: &Supervisor, ends: &Arc<Notify>) -> Option<Handle> {
    let data_dir = data_dir.to_string_lossy();
    let ours = |arguments: &[String]| procfs::is_role(arguments, "gateway", "--data-dir", &data_dir);
    let process = procfs::find(ours).into_iter().next()?;
    Handle::adopt(process, supervisor, ends).ok().flatten()
}

/// Where a running gateway listens, if its settings are the ones of now.
fn wanted_address(config: &Config, handle: &Handle) -> Option<SocketAddr> {
    let given = procfs::arguments(handle.process().pid);
    let listen = given.windows(2).find_map(|pair| match pair {
        [name, value] if name == "--listen" => value.parse::<SocketAddr>().ok(),
        _ => None,
    })?;
    let right =
        listen.ip() == config.listen.ip() && (config.listen.port() == 0 || config.listen.port() == listen.port());
    (right && given.get(2..) == Some(arguments(config, listen).as_slice())).then_some(listen)
}

/// The address, with a free port in place of 0. The gateway binds it a moment later.
fn free_address(address: SocketAddr) -> Result<SocketAddr, Error> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|source| Error::Address { address, source })
}
