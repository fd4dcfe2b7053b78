//! One rule for every door: a client that sends no piece of its request's body for half a minute is given up.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Longest pause between two pieces of a body: a client that sends nothing for so long has gone, and what it holds others could use.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The next piece of a body did not come. HTTP 408, gRPC `DEADLINE_EXCEEDED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no piece of the request's body came for {} s: send it without such pauses", PAUSE_MAX.as_secs())]
pub struct Stalled;

/// Watches for pauses while a body is polled. Costs nothing while pieces are there when they are asked for.
#[derive(Debug, Default)]
pub struct Pause {
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Pause {
    /// What became of polling a body, or that the pause has become too long. To be called with the outcome of every poll.
    pub fn watch<T>(&mut self, polled: Poll<T>, cx: &mut Context<'_>) -> Poll<Result<T, Stalled>> {
        if let Poll::Ready(piece) = polled {
            self.waiting = false;
            return Poll::Ready(Ok(piece));
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(PAUSE_MAX)));
        if !std::mem::replace(&mut self.waiting, true) {
            sleep.as_mut().reset(Instant::now() + PAUSE_MAX);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(Stalled))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{sync::mpsc, time::advance};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_pause_is_counted_for_itself() {
        let (sender, mut pieces) = mpsc::channel(1);
        let mut pause = Pause::default();
        let almost = PAUSE_MAX - Duration::from_millis(1);
        for piece in 0..3 {
            let next = poll_fn(|cx| {
                let polled = pieces.poll_recv(cx);
                pause.watch(polled, cx)
            });
            let send = async {
                advance(almost).await;
                sender.send(piece).await.unwrap();
            };
            assert_eq!(tokio::join!(next, send).0, Ok(Some(piece)));
        }
        let last = poll_fn(|cx| {
            let polled = pieces.poll_recv(cx);
            pause.watch(polled, cx)
        });
        assert_eq!(last.await, Err(Stalled));
    }
}
