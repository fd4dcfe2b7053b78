//! What a client is told whose connection is one too many.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use crate::Supervisor;

/// Refusals under way at a time; beyond them connections are closed without a word.
const REFUSALS_MAX: usize = 64;
/// Time for a client to take its refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// What is read of its request meanwhile: closing over unread bytes would reset the connection under the answer.
const READ_BYTES_MAX: u64 = 64 * 1024;

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 75\r\n\
    retry-after: 1\r\nconnection: close\r\n\r\n\
    {\"error\":\"the server has as many connections as it holds: ask again later\"}";

/// Refuses connections, so many at a time.
#[derive(Clone, Debug)]
pub(super) struct Refuser(Arc<Semaphore>);

impl Refuser {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(REFUSALS_MAX)))
    }

    /// Tells the client in HTTP/1.1 why, whatever it speaks.
    pub(super) fn refuse(&self, stream: TcpStream, supervisor: &Supervisor) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else { return };
        supervisor.spawn_connection(async move {
            let _permit = permit;
            // A client that does not want to know is no concern of ours.
            let _ = timeout(REFUSAL_TIME, tell(stream)).await;
        });
    }
}

async fn tell(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(REFUSAL).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(READ_BYTES_MAX), &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::REFUSAL;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
