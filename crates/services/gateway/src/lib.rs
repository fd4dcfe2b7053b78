//! The one door to every model: TLS, keys, limits, routing, retries. It parses no tensor on the way of a request.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use daemon::{
    OnExit, Supervisor,
    http::{Listener, ServerLimits},
    supervisor::Ended,
    telemetry::Tracing,
};
use tokio::net::TcpListener;

mod admin;
mod balance;
mod body;
mod config;
mod contract;
mod deadline;
mod error;
mod exchange;
mod gather;
mod headers;
mod index;
mod inflate;
mod keep;
mod limit;
mod merge;
mod metrics;
mod named;
mod outlier;
mod own;
mod peek;
mod pool;
mod proxy;
mod report;
mod retry;
mod route;
mod sending;
mod shadow;
mod snapshot;
mod split;
mod stack;
mod statistics;
mod table;
mod tls;
mod watch;
mod window;

pub use config::{Args, Config, Limits};
pub use error::Error;
pub use tls::Files;

/// Time for requests to finish after the signal to stop: what a prediction needs many times over. Requests that wait for a replica are refused at once.
const GRACE: Duration = Duration::from_secs(30);
/// Connections to the gateway's own socket: the controller needs one or two.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Files and sockets that the gateway needs beside its clients' connections: links to replicas, its own socket, its configuration.
const OWN_FILES_MAX: usize = 1024;

/// Runs the gateway until a signal stops it.
pub fn run(args: Args) -> Result<Ended, Error> {
    daemon::telemetry::init();
    let config = Config::try_from(args)?;
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let ended = runtime.block_on(async {
        let supervisor = Supervisor::new();
        let tracing = Tracing::from_env("berth-gateway")?;
        start(&config, &supervisor, tracing.clone()).await?;
        let ended = supervisor.run(GRACE).await.map_err(Error::Start);
        tracing.shutdown().await;
        ended
    });
    runtime.shutdown_background();
    ended
}

/// Binds, then starts every task under `supervisor`. Gives the address that is listened on.
pub async fn start(config: &Config, supervisor: &Supervisor, tracing: Tracing) -> Result<SocketAddr, Error> {
    let certificate = config.tls.clone().map(tls::Certificate::load).transpose()?;
    let (listener, address) = bind(config, certificate.as_ref()).await?;
    let socket = config.data_dir.join("run/gateway.sock");
    let admin =
        daemon::http::bind_unix(&socket).map_err(|source| Error::Bind { at: socket.display().to_string(), source })?;

    let dir: PathBuf = config.data_dir.join("gateway");
    let store = snapshot::Store::open(dir.clone()).map_err(|source| Error::Io { path: dir, source })?;
    let own = own::Services::new().map_err(|error| Error::Start(io::Error::other(error)))?;
    let gateway = Arc::new(stack::Gateway {
        limits: config.limits,
        tables: Arc::default(),
        metrics: Arc::default(),
        supervisor: supervisor.clone(),
        tracing,
        own,
        in_flight: limit::Counter::default(),
        held_bytes: limit::Counter::default(),
        answers: Arc::default(),
        mirrors: limit::Counter::default(),
        outliers: Arc::default(),
        missed: Arc::default(),
    });
    let control = config.data_dir.join("run/control.sock");
    let missed = Arc::clone(&gateway.missed);
    let reporter = report::Reporter::new(control.clone(), Arc::clone(&gateway.tables), missed);
    let watcher = watch::Watcher::new(control, store, Arc::clone(&gateway.tables), Arc::clone(&gateway.metrics));
    watcher.restore();
    supervisor.spawn("report", OnExit::StopProcess, reporter.run(supervisor.clone()));
    spawn(supervisor, (listener, admin), gateway, watcher);
    if let Some(certificate) = certificate {
        supervisor.spawn("certificate", OnExit::Continue, certificate.watch(supervisor.clone()));
    }
    tracing::info!(%address, tls = config.tls.is_some(), "listening");
    Ok(address)
}

async fn bind(config: &Config, certificate: Option<&Arc<tls::Certificate>>) -> Result<(Listener, SocketAddr), Error> {
    let failed = |source| Error::Bind { at: config.listen.to_string(), source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    match certificate {
        Some(certificate) => Ok((Listener::Tls(listener, certificate.config()?), address)),
        None => Ok((Listener::Tcp(listener), address)),
    }
}

fn spawn(
    supervisor: &Supervisor,
    (listener, admin): (Listener, Listener),
    gateway: Arc<stack::Gateway>,
    watcher: watch::Watcher,
) {
    let limits = ServerLimits { connections_max: connections_max(daemon::files::raise()), ..ServerLimits::default() };
    supervisor.spawn("answers", OnExit::StopProcess, Arc::clone(&gateway.answers).watch(supervisor.clone()));
    supervisor.spawn("health", OnExit::Continue, report_health(Arc::clone(&gateway), supervisor.clone()));
    let looks = outlier::sweep(Arc::clone(&gateway.tables), Arc::clone(&gateway.outliers), supervisor.clone());
    supervisor.spawn("outliers", OnExit::StopProcess, looks);
    let own = ServerLimits { connections_max: ADMIN_CONNECTIONS_MAX, same_user_only: true, ..limits };
    let admin = daemon::http::serve(admin, admin::Admin(Arc::clone(&gateway)), own, supervisor.clone());
    supervisor.spawn("admin", OnExit::StopProcess, admin);
    let door = daemon::http::serve(listener, stack::Door(gateway), limits, supervisor.clone());
    supervisor.spawn("door", OnExit::StopProcess, door);
    supervisor.spawn("watch", OnExit::StopProcess, watcher.run(supervisor.clone()));
}

/// As many connections as there are files for beside what the gateway itself needs, up to the usual limit: one more is then refused,
/// and the gateway does not run out of them.
fn connections_max(files: usize) -> usize {
    let usual = ServerLimits::default().connections_max;
    usual.min(files.saturating_sub(OWN_FILES_MAX).max(files / 2))
}

/// Keeps gRPC health in step with whether there is a configuration.
async fn report_health(gateway: Arc<stack::Gateway>, supervisor: Supervisor) -> Result<(), daemon::BoxError> {
    let stop = supervisor.stopping();
    let mut generations = gateway.tables.subscribe();
    loop {
        let serving = *generations.borrow_and_update() > 0;
        gateway.own.set_serving(serving).await;
        tokio::select! {
            changed = generations.changed() => changed?,
            () = stop.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
