//! Tells the controller each second what happened, and at once when a service that has no replica is asked.
//!
//! A window that cannot be handed over is dropped: the next one counts from where it ended, and old ones help nobody.

use std::{
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use daemon::{BoxError, Supervisor};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use resources::window::{GatewayWindow, WINDOW_MS};
use tokio::{
    net::UnixStream,
    sync::Notify,
    time::{Instant, MissedTickBehavior, timeout},
};

use crate::{
    table::Tables,
    window::{Reading, between},
};

/// Where the controller takes windows.
pub(crate) const PATH: &str = "/apis/berth.dev/v1alpha1/internal/gateway-window";
/// Longest time for one to be taken: then the next is due.
const POST_TIME_MAX: Duration = Duration::from_millis(WINDOW_MS);
/// Time between two readings at least: clients that come and go in no time must not keep the controller busy.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Bytes of an answer; there is nothing in it that matters.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

type Connection = Pin<Box<http1::Connection<TokioIo<UnixStream>, Full<Bytes>>>>;

/// Reads the counters and hands over what they say.
#[derive(Debug)]
pub(crate) struct Reporter {
    socket: PathBuf,
    tables: Arc<Tables>,
    urgent: Arc<Notify>,
    link: Option<Link>,
}

/// A kept connection. It is driven while something is sent on it; that it was closed meanwhile shows then.
struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Connection,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Reporter {
    /// Reports to the controller at `socket`, each second and whenever `urgent` says so.
    pub(crate) fn new(socket: PathBuf, tables: Arc<Tables>, urgent: Arc<Notify>) -> Self {
        Self { socket, tables, urgent, link: None }
    }

    /// Reports until the supervisor stops.
    pub(crate) async fn run(mut self, supervisor: Supervisor) -> Result<(), BoxError> {
        let stop = supervisor.stopping();
        let urgent = Arc::clone(&self.urgent);
        let mut ticks = tokio::time::interval(Duration::from_millis(WINDOW_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let (mut before, mut since) = (read(&self.tables), Instant::now());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = urgent.notified() => tokio::time::sleep_until(since + PAUSE_MIN).await,
                () = stop.cancelled() => return Ok(()),
            }
            let (now, after) = (Instant::now(), read(&self.tables));
            let span_ms = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
            let window = between(&before, &after, (daemon::time::now_ms(), span_ms.max(1)));
            (before, since) = (after, now);
            tokio::select! {
                () = self.hand_over(&window) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn hand_over(&mut self, window: &GatewayWindow) {
        let kept = self.link.is_some();
        let mut posted = timeout(POST_TIME_MAX, self.post(window)).await;
        if kept && matches!(posted, Ok(Err(_))) {
            // The controller closes connections when it stops, and another one may be there by now.
            posted = timeout(POST_TIME_MAX, self.post(window)).await;
        }
        if let Err(error) = posted.map_err(BoxError::from).and_then(|posted| posted) {
            tracing::debug!(error = %daemon::supervisor::chain(error.as_ref()), "a window was dropped");
        }
    }

    /// Posts one window. The connection is kept only when all went well.
    async fn post(&mut self, window: &GatewayWindow) -> Result<(), BoxError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => {
                let stream = TokioIo::new(UnixStream::connect(&self.socket).await?);
                let (sender, connection) = http1::handshake(stream).await?;
                Link { sender, connection: Box::pin(connection) }
            }
        };
        let request = Request::post(PATH)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(window)?)))?;
        if link.send(request).await? {
            self.link = Some(link);
        }
        Ok(())
    }
}

impl Link {
    /// Sends a request and reads what is answered. Whether the connection may be used again.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<bool, BoxError> {
        let Self { sender, connection } = self;
        let exchange = async {
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?;
            if status.is_success() { Ok(()) } else { Err(BoxError::from(format!("the controller answered {status}"))) }
        };
        let mut exchange = pin!(exchange);
        tokio::select! {
            posted = exchange.as_mut() => return posted.map(|()| true),
            // When it ends first, the exchange says how.
            ended = connection => ended?,
        }
        exchange.await.map(|()| false)
    }
}

/// Every counter as it is now.
fn read(tables: &Tables) -> Reading {
    let table = tables.load();
    let mut reading = Reading::default();
    for service in table.services() {
        reading.service(&service.name, &service.metrics.counts);
        for target in service.targets() {
            let in_flight = target.upstreams.iter().map(|upstream| upstream.load()).sum();
            reading.revision(&service.name, (target.revision, in_flight), &target.metrics.counts);
        }
    }
    reading
}
