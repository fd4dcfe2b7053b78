//! Follows the controller: asks for what comes after the generation being served, and goes on serving while nobody answers.

use std::{
    path::{Path, PathBuf},
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
use tokio::net::UnixStream;

use crate::{
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
        // The first question is for everything: it acknowledges nothing, and what it brings may be what is served already.
        let mut after = 0;
        let mut pause = PAUSE_MIN;
        loop {
            let heard = tokio::select! {
                heard = tokio::time::timeout(ANSWER_TIME_MAX, ask(&self.socket, after)) => heard,
                () = stop.cancelled() => return Ok(()),
            };
            let served = match heard {
                Ok(Ok(Heard::News(snapshot))) => self.take(*snapshot).await,
                Ok(Ok(Heard::Nothing)) => {
                    // A controller that is stopping answers at once, again and again.
                    pause = PAUSE_MIN;
                    false
                }
                Ok(Err(error)) => {
                    tracing::debug!(error = %daemon::supervisor::chain(error.as_ref()), "the controller is away");
                    false
                }
                Err(_) => {
                    tracing::debug!("the controller does not answer");
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

    /// Serves a snapshot, then keeps it. Whether it, or a newer one, is being served.
    ///
    /// It is served even where it cannot be kept: a full disk must not keep a revoked key alive.
    async fn take(&self, snapshot: GatewaySnapshot) -> bool {
        match self.tables.apply(&snapshot, &self.metrics) {
            Ok(Applied::Yes) => tracing::info!(generation = snapshot.generation, "serving a new configuration"),
            Ok(Applied::Same) => return true,
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
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.save(&snapshot)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "cannot keep the configuration on disk"),
            Err(error) => tracing::error!(%error, "cannot keep the configuration on disk"),
        }
        true
    }
}

async fn ask(socket: &Path, after: u64) -> Result<Heard, BoxError> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request =
        Request::get(format!("{PATH}?after={after}")).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
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
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        heard = exchange.as_mut() => return heard,
        ended = connection => ended?,
    }
    exchange.await
}
