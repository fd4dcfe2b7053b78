//! One copy of a request: sent once, within its own time, and then compared.

use std::{sync::Arc, time::Duration};

use daemon::Supervisor;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    ANSWER_BYTES_MAX, Form, Outcome,
    answer::{Taken, judge},
    metrics::ShadowMetrics,
};
use crate::{
    body::UpBody,
    error::Protocol,
    limit::Share,
    pool::{SendError, Upstream},
};

/// A copy on its way.
pub(super) struct Mirror {
    pub(super) protocol: Protocol,
    pub(super) form: Form,
    pub(super) request: Request<UpBody>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) deadline: Instant,
    /// The other answer, once the client has it; or why it is not compared.
    pub(super) primary: oneshot::Receiver<Result<Taken, &'static str>>,
    /// Time that the other answer took to begin.
    pub(super) took: Duration,
    pub(super) metrics: Arc<ShadowMetrics>,
    pub(super) shares: [Share; 2],
}

/// What was asked for, or how it ended before.
type Found = Result<Taken, Outcome>;

impl Mirror {
    /// Sends it, waits for both answers, and counts what they say of each other.
    pub(super) async fn run(self, supervisor: Supervisor) {
        let Self { protocol, form, request, upstream, deadline, primary, took, metrics, shares } = self;
        let stop = supervisor.stopping();
        let both = async {
            let began = Instant::now();
            let late = || Err(Outcome::Failed("deadline"));
            let asked = timeout_at(deadline, ask(&upstream, request, &supervisor));
            let mirrored = asked.await.unwrap_or_else(|_| (late(), began.elapsed()));
            // A client that reads slowly does not keep others out for longer than the copy itself may take.
            let unread = || Err("unread");
            let primary =
                timeout_at(deadline, primary).await.map_or_else(|_| unread(), |read| read.unwrap_or_else(|_| unread()));
            (primary, mirrored)
        };
        let (primary, (mirrored, mirrored_took)) = tokio::select! {
            both = both => both,
            () = stop.cancelled() => return metrics.count(Outcome::Dropped("draining")),
        };
        let (primary, mirrored) = match (primary, mirrored) {
            // What fails is told even when there is nothing to compare it with.
            (_, Err(outcome)) => return metrics.count(outcome),
            (Err(reason), Ok(_)) => return metrics.count(Outcome::Dropped(reason)),
            (Ok(primary), Ok(mirrored)) => (primary, mirrored),
        };
        metrics.took(took, mirrored_took);
        // Reading numbers takes a processor, which requests must not wait for.
        let judged = tokio::task::spawn_blocking(move || judge((protocol, form), primary, mirrored)).await;
        if let Ok((outcome, agreement)) = judged {
            metrics.compared(outcome, agreement.and_then(|agreement| agreement.difference_max));
        }
        drop(shares);
    }
}

/// The answer to a copy and the time until it began.
async fn ask(upstream: &Upstream, request: Request<UpBody>, supervisor: &Supervisor) -> (Found, Duration) {
    let began = Instant::now();
    let _busy = upstream.occupy();
    let bytes = http_body::Body::size_hint(request.body()).exact().and_then(|bytes| usize::try_from(bytes).ok());
    let answered = match upstream.lease(bytes, supervisor).await {
        Ok(lease) => lease.send(request).await,
        Err(error) => Err(error),
    };
    let took = began.elapsed();
    match answered {
        Ok(answer) => (read(answer).await, took),
        Err(SendError::Connect(_)) => (Err(Outcome::Failed("connect")), took),
        Err(SendError::Link(_)) => (Err(Outcome::Failed("broken")), took),
    }
}

async fn read(answer: Response<daemon::link::Body>) -> Found {
    let (head, mut body) = answer.into_parts();
    let mut taken = Taken::new(head.status.as_u16(), &head.headers);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Outcome::Failed("broken"))?;
        match frame.into_data() {
            Ok(data) => {
                if !taken.add(data, ANSWER_BYTES_MAX) {
                    // The answer that it is compared with is shorter.
                    return Err(Outcome::Differed("form"));
                }
            }
            Err(frame) => drop(frame.into_trailers().map(|trailers| taken.note_trailers(&trailers))),
        }
    }
    Ok(taken)
}
