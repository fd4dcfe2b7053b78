//! Follows the controller: asks for what comes after the generation being served, and goes on serving while nobody answers.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use daemon::{BoxError, Supervisor};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use resources::snapshot::GatewaySnapshot;
use tokio::{net::UnixStream, time::timeout};

use crate::{
    keep::{self, Keeper},
    metrics::Metrics,
    snapshot::{SNAPSHOT_BYTES_MAX, Store},
    table::{Applied, Tables},
};

/// Where the controller answers.
const PATH: &str = "/apis/berth.dev/v1alpha1/internal/gateway-snapshot";
/// The controller answers within 25 s; one that does not in this time is stuck or gone.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);
/// First pause after a failure, and the longest one. A controller that restarts is found again within a second or two.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What became of one question.
#[derive(Debug)]
enum Heard {
    News(Box<GatewaySnapshot>),
    Nothing,
    /// What could not be kept on disk before is kept now.
    Kept,
}

/// Keeps the table up to date.
#[derive(Debug)]
pub(crate) struct Watcher {
    socket: PathBuf,
    store: Store,
    tables: Arc<Tables>,
    metrics: Arc<Metrics>,
}

impl Watcher {
    /// Follows the controller at `socket`.
    pub(crate) fn new(socket: PathBuf, store: Store, tables: Arc<Tables>, metrics: Arc<Metrics>) -> Self {
        Self { socket, store, tables, metrics }
    }

    /// Serves what is on disk. A file that cannot be used is no reason not to start: the controller may have a better one.
    pub(crate) fn restore(&self) {
        let loaded = match self.store.load() {
            Ok(Some(snapshot)) => self.tables.apply(&snapshot, &self.metrics).map_err(|error| error.to_string()),
            Ok(None) => return,
            Err(error) => Err(error.to_string()),
        };
        match loaded {
            Ok(_) => tracing::info!(generation = self.tables.load().generation, "serving the last configuration"),
            Err(error) => tracing::error!(error, "the last configuration cannot be used; waiting for the controller"),
        }
    }

    /// Asks until the supervisor stops.
    pub(crate) async fn run(self, supervisor: Supervisor) -> Result<(), BoxError> {
        let stop = supervisor.stopping();
        let mut keeper = Keeper::new(self.store.clone(), Arc::clone(&self.metrics));
        // The first question is for everything: it acknowledges nothing, and what it brings may be what is served already.
        let mut after = 0;
        let mut pause = PAUSE_MIN;
        loop {
            let heard = tokio::select! {
                heard = self.hear(after, &mut keeper) => heard,
                () = stop.cancelled() => return Ok(()),
            };
            let served = match heard {
                Ok(Heard::News(snapshot)) => self.take(*snapshot, &mut keeper).await,
                Ok(Heard::Nothing) => {
                    // A controller that is stopping answers at once, again and again.
                    pause = PAUSE_MIN;
                    false
                }
                Ok(Heard::Kept) => true,
                Err(error) => {
                    tracing::debug!(error = %daemon::supervisor::chain(error.as_ref()), "the controller is away");
                    false
                }
            };
            if served {
                after = self.tables.load().generation;
                pause = PAUSE_MIN;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Asks once. While something has yet to be kept on disk it is tried meanwhile; that it worked ends the question, for the
    /// next one acknowledges it.
    async fn hear(&self, after: u64, keeper: &mut Keeper) -> Result<Heard, BoxError> {
        let mut asking = pin!(timeout(ANSWER_TIME_MAX, ask(&self.socket, after, keeper.kept())));
        while keeper.is_behind() {
            if let Ok(heard) = timeout(keep::AGAIN_AFTER, asking.as_mut()).await {
                return heard?;
            }
            if keeper.again().await {
                return Ok(Heard::Kept);
            }
        }
        asking.await?
    }

    /// Serves a snapshot, then keeps it. Whether it, or a newer one, is being served.
    ///
    /// It is served even where it cannot be kept: a full disk must not keep a revoked key alive.
    async fn take(&self, snapshot: GatewaySnapshot, keeper: &mut Keeper) -> bool {
        match self.tables.apply(&snapshot, &self.metrics) {
            Ok(Applied::Yes) => tracing::info!(generation = snapshot.generation, "serving a new configuration"),
            Ok(Applied::Same) => {}
            Ok(Applied::Older) => {
                let (offered, served) = (snapshot.generation, self.tables.load().generation);
                tracing::warn!(offered, served, "refused a configuration older than the one being served");
                return true;
            }
            Err(error) => {
                tracing::error!(%error, generation = snapshot.generation, "refused a configuration");
                return false;
            }
        }
        keeper.keep(snapshot).await;
        true
    }
}

/// Asks for what follows generation `after`, of which `kept` is on disk.
async fn ask(socket: &Path, after: u64, kept: u64) -> Result<Heard, BoxError> {
    let kept = if kept < after { format!("&kept={kept}") } else { String::new() };
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = Request::get(format!("{PATH}?after={after}{kept}"))
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::NO_CONTENT => return Ok(Heard::Nothing),
            StatusCode::OK => {}
            status => return Err(format!("the controller answered {status}").into()),
        }
        let bytes_max = usize::try_from(SNAPSHOT_BYTES_MAX).unwrap_or(usize::MAX);
        let body = Limited::new(answer.into_body(), bytes_max).collect().await?.to_bytes();
        Ok::<_, BoxError>(Heard::News(Box::new(serde_json::from_slice(&body)?)))
    };
    // The connection is driven beside the exchange; when it ends first, the exchange says how.
    let mut exchange = pin!(exchange);
    tokio::select! {
        heard = exchange.as_mut() => return heard,
        ended = connection => ended?,
    }
    exchange.await
}
