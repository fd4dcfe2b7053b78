//! The process that loads a model and answers the Open Inference Protocol v2 over REST and gRPC.

use std::{
    env,
    io::{self, Write},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use axum::Router;
use daemon::{
    OnExit, Supervisor,
    http::{EarlySocket, ServerLimits},
    supervisor::{Ended, chain},
};
use ort::environment::Environment;
use tokio::sync::oneshot;

use config::{Config, Listen};
use load::{LoadError, Loader};

pub mod admin;
pub mod backend;
pub mod batching;
pub mod config;
pub mod embedder;
pub mod error;
pub mod executor;
pub mod grpc;
pub mod library;
pub mod load;
pub mod metrics;
pub mod openapi;
pub mod placement;
pub mod registry;
pub mod rest;
pub mod sandbox;
pub mod size;
mod standby;
mod statistics;

#[cfg(test)]
mod onnx;
#[cfg(test)]
mod tests;

pub use config::Args;
pub use error::Error;
pub use registry::{Answer, Model, Registry, Timings};

/// Time for requests that have begun to end after the first signal; the longest a gateway waits for an answer.
const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// Runs the process until a signal or a failure ends it.
///
/// Flow: start again if the environment would let ONNX Runtime send telemetry; then bind the socket, load ONNX Runtime, restrict the process, then start threads, serve, and load the model while
/// `/status` and health already answer. Nothing of the model is read before the process is restricted. With `--standby`, it
/// waits for its model between loading ONNX Runtime and restricting itself.
///
/// # Errors
///
/// [`Error`]; when the model does not load, `model failed to load: <reason>` has been written to standard error.
pub fn run(args: Args) -> Result<Ended, Error> {
    library::silence()?;
    // Otherwise it would be called `exe` after it started again. The name is for people alone.
    let _named = rustix::thread::set_name(c"berth-runtime");
    daemon::telemetry::init();
    if args.standby {
        return stand_by(args);
    }
    let probe = args.sandbox_probe;
    let config = Config::from_args(args)?;
    if let Some(mode) = probe {
        sandbox::probe::serve(mode, &config)?;
        return Ok(Ended::Drained);
    }
    let socket = bind(&config.listen)?;
    let environment = library::load(env::var_os(library::OVERRIDE).map(PathBuf::from))?;
    begin(config, socket, environment)
}

/// Does what can be done without a model, waits for one, and goes on.
fn stand_by(args: Args) -> Result<Ended, Error> {
    let path = args.socket.ok_or_else(|| Error::Arguments("give `--socket` with `--standby`".to_owned()))?;
    let socket = bind(&Listen::Unix(path.clone()))?;
    let environment = library::load(env::var_os(library::OVERRIDE).map(PathBuf::from))?;
    tracing::info!("waiting for a model");
    match standby::wait(&path)? {
        Some(args) => begin(Config::from_args(args)?, socket, environment),
        None => Ok(Ended::Drained),
    }
}

/// Restricts this process, then starts threads, serves and loads.
fn begin(config: Config, socket: EarlySocket, environment: Environment) -> Result<Ended, Error> {
    // Read before the sandbox closes /proc and /sys. The standard library reads the affinity mask and the quotas of
    // cgroup v1 and v2, rounding a fraction of a CPU down to a whole one, at least one.
    let cpus = config.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    // Of a library of one's own nobody knows which it is the next time.
    let cpu = env::var_os(library::OVERRIDE).is_none().then(load::findings::cpu);
    let sandbox = enter_sandbox(&config)?;
    tracing::info!(model = config.model_name, cpus, "restricted, loading the model");
    let failed = |source| Error::Io { doing: "cannot start threads", source };
    // Never one alone: small models run on these threads, and one that holds its thread up must not stop health and deadlines.
    let workers = cpus.max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let loader = Loader {
        environment,
        cpus,
        batching: config.batching,
        memory_bytes_max: config.memory_bytes_max,
        cpu,
        known: config.known.clone(),
    };
    let ended = runtime.map_err(failed)?.block_on(serve(config, socket, loader, sandbox));
    if let Err(error @ Error::Model(_)) = &ended {
        // The last line of the log, for whoever looks there first. Nothing is left to do if it cannot be written.
        drop(writeln!(io::stderr(), "{}", chain(error)));
    }
    ended
}

fn bind(listen: &Listen) -> Result<EarlySocket, Error> {
    let failed = |source| {
        let address = match listen {
            Listen::Unix(path) => path.display().to_string(),
            Listen::Tcp(address) => address.to_string(),
        };
        Error::Bind { address, source }
    };
    match listen {
        Listen::Unix(path) => EarlySocket::unix(path),
        Listen::Tcp(address) => EarlySocket::tcp(*address),
    }
    .map_err(failed)
}

fn enter_sandbox(config: &Config) -> Result<admin::SandboxStatus, Error> {
    if !config.sandbox {
        let missing = vec!["everything: the sandbox is switched off by `--no-sandbox`".to_owned()];
        return Ok(admin::SandboxStatus { enforced: false, rules: Vec::new(), missing });
    }
    let rules = sandbox::Rules { model: config.model_path.clone(), memory_bytes_max: config.memory_bytes_max };
    let sandbox::Report { enforced, missing } = sandbox::enter(&rules)?;
    for rule in &missing {
        tracing::warn!(rule, "a rule of the sandbox is not in force");
    }
    Ok(admin::SandboxStatus { enforced: missing.is_empty(), rules: enforced, missing })
}

async fn serve(
    config: Config,
    socket: EarlySocket,
    loader: Loader,
    sandbox: admin::SandboxStatus,
) -> Result<Ended, Error> {
    let listener = socket.listen().map_err(|source| Error::Io { doing: "cannot serve on the socket", source })?;
    let supervisor = Supervisor::new();
    let model = Arc::new(Model::announced(config.model_name, config.model_version));
    let registry = Registry::new(vec![Arc::clone(&model)], supervisor.stopping());
    let router = router(&registry, sandbox)?;
    let server = daemon::http::serve_linked(listener, router, ServerLimits::default(), supervisor.clone());
    supervisor.spawn("http", OnExit::StopProcess, server);
    let (failure, mut failed) = oneshot::channel();
    let loading = load_model(loader, Arc::clone(&model), config.model_path);
    let stop = supervisor.clone();
    supervisor.spawn("load", OnExit::Continue, async move {
        if let Err(error) = loading.await {
            drop(failure.send(error));
            stop.stop();
        }
        Ok(())
    });
    let ended = supervisor.run(DRAIN_GRACE).await;
    if let Ok(error) = failed.try_recv() {
        return Err(Error::Model(error));
    }
    let ended = ended.map_err(|source| Error::Io { doing: "cannot wait for signals", source })?;
    if ended == Ended::CutOff {
        // A run of the model may go on for long, and its threads are joined when the last registry goes.
        std::mem::forget(registry);
    }
    Ok(ended)
}

/// Every path of this process.
fn router(registry: &Registry, sandbox: admin::SandboxStatus) -> Result<Router, Error> {
    let limits = rest::Limits::default();
    let protocol = rest::router(registry.clone(), limits).merge(grpc::routes(registry.clone(), limits)?);
    Ok(protocol.merge(admin::router(registry.clone(), sandbox)))
}

async fn load_model(loader: Loader, model: Arc<Model>, path: PathBuf) -> Result<(), LoadError> {
    let loaded = {
        let model = Arc::clone(&model);
        tokio::task::spawn_blocking(move || loader.load(model.metadata(), &path)).await
    };
    let loaded = loaded.unwrap_or_else(|panic| Err(LoadError::Refused(panic.to_string())));
    match loaded {
        Ok(loaded) => {
            tracing::info!(model = model.name(), version = model.version(), "model ready");
            model.load(loaded);
            Ok(())
        }
        Err(error) => {
            let reason = chain(&error);
            tracing::error!(model = model.name(), reason, "model failed to load");
            model.fail(reason);
            Err(error)
        }
    }
}
