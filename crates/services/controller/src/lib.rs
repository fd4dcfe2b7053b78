//! The control plane of one machine: the resource API, the reconcile loop, and the processes of the platform.

use std::{path::Path, sync::Arc, time::Duration};

use daemon::{
    OnExit, Supervisor,
    http::{ServerLimits, bind_unix},
    lock::{Lock, LockError},
    supervisor::Ended,
};
use store::Store;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

mod api;
mod changes;
mod config;
mod db;
mod deploy;
mod digests;
mod disk;
mod error;
#[cfg(test)]
mod fixture;
mod gateway_process;
mod metrics;
mod names;
mod observe;
mod orchestrator;
mod reconcile;
mod scaler;
mod snapshot;
mod windows;

pub use config::{Args, Config, WARM_POOL_MAX};
pub use error::{Error, Status};

/// Time for everything to stop: the gateway's and then the replicas' own grace, and a little.
const GRACE: Duration = Duration::from_secs(90);
/// Connections to the API at a time: people, scripts and their watches, on one machine.
const CONNECTIONS_MAX: usize = 512;

/// Runs the controller until a signal or `POST /shutdown` stops the platform.
///
/// A controller that is killed leaves the gateway and the replicas as they are; the next one adopts them.
pub fn run(args: Args) -> Result<Ended, Error> {
    daemon::telemetry::init();
    // Whatever is made from here on is for this user alone.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let config = Config::try_from(args)?;
    let failed = |source| Error::Io { action: "start threads in", path: config.data_dir.clone(), source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // It decides and waits; what it starts does the work.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(failed)?;
    let ended = runtime.block_on(serve(config));
    runtime.shutdown_background();
    ended
}

async fn serve(config: Config) -> Result<Ended, Error> {
    let _lock = lock(&config.data_dir)?;
    let supervisor = Supervisor::new();
    start(&config, &supervisor).await?;
    let failed = |source| Error::Io { action: "wait for signals in", path: config.data_dir.clone(), source };
    supervisor.run(GRACE).await.map_err(failed)
}

/// Opens everything, finds what runs, then starts every task under `supervisor`.
async fn start(config: &Config, supervisor: &Supervisor) -> Result<(), Error> {
    let data_dir = &config.data_dir;
    let db = db::Db::open(&data_dir.join("berth.db")).await?;
    let store = Store::open(&data_dir.join("store"))?;
    let publisher = Arc::new(snapshot::Publisher::open(db.clone()).await?);
    let keeper =
        gateway_process::Keeper::prepare(config.clone(), db.clone(), Arc::clone(&publisher), supervisor.clone())?;
    let socket = data_dir.join("run/control.sock");
    let listener = bind_unix(&socket).map_err(|source| Error::Io { action: "listen on", path: socket, source })?;
    let (metrics, imports) = (Arc::new(metrics::Metrics::new()), Arc::new(RwLock::new(())));
    let windows = Arc::new(windows::Windows::default());
    let wake = Arc::clone(db.wake());
    let executable = config.executable.clone();
    let pool = Arc::new(orchestrator::warm::Pool::new(executable, data_dir, supervisor.clone(), Arc::clone(&wake)));
    let reconciler = reconcile::Reconciler {
        db: db.clone(),
        orchestrator: orchestrator::process::Processes::new(Arc::clone(&pool), data_dir, supervisor.clone(), wake),
        publisher: Arc::clone(&publisher),
        store: store.clone(),
        metrics: Arc::clone(&metrics),
        windows: Arc::clone(&windows),
        scaler: scaler::Scaler::default(),
        config: config.clone(),
        gateway: keeper.state(),
        imports: Arc::clone(&imports),
        pressure: None,
        refused: String::new(),
        digests: digests::Digests::default(),
        tidied_ms: 0,
    };
    let app = api::App::new(api::Inner {
        config: config.clone(),
        db: db.clone(),
        deployer: deploy::Deployer::new(db, store, imports, config.data_dir.clone()),
        publisher,
        gateway: keeper.state(),
        pool,
        metrics,
        windows,
        supervisor: supervisor.clone(),
    });
    let limits = ServerLimits { connections_max: CONNECTIONS_MAX, same_user_only: true, ..ServerLimits::default() };
    supervisor.spawn(
        "api",
        OnExit::StopProcess,
        daemon::http::serve(listener, api::router(app), limits, supervisor.clone()),
    );
    let gateway_gone = CancellationToken::new();
    let gone = gateway_gone.clone().drop_guard();
    supervisor.spawn("gateway", OnExit::StopProcess, async move {
        let _gone = gone;
        keeper.run().await
    });
    supervisor.spawn("reconcile", OnExit::StopProcess, reconciler.run(supervisor.stopping(), gateway_gone));
    tracing::info!(data_dir = %data_dir.display(), "controller started");
    Ok(())
}

/// Makes sure that this is the one controller of the data directory, for as long as the lock is held.
fn lock(data_dir: &Path) -> Result<Lock, Error> {
    let path = data_dir.join("run/controller.lock");
    daemon::lock::hold(&path).map_err(|error| match error {
        LockError::Held(process) => {
            let holder = process.map(|id| format!(" (process {id})")).unwrap_or_default();
            Error::Locked { path: data_dir.to_owned(), holder }
        }
        LockError::Io(source) => Error::Io { action: "lock", path, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_controller_is_told_of_the_first() {
        let home = tempfile::tempdir().unwrap();
        let data = config::prepare_data_dir(&home.path().join("d")).unwrap();
        let first = lock(&data).unwrap();
        let error = lock(&data).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        lock(&data).unwrap();
    }
}
