//! Notes the bytes of an answer while they pass to the client.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::oneshot;

use super::{ANSWER_BYTES_MAX, answer::Taken};

/// What is noted of an answer so far. Dropping it before the end says that the client did not read it.
#[derive(Debug)]
pub(crate) struct Tee {
    taken: Taken,
    sender: Option<oneshot::Sender<Result<Taken, &'static str>>>,
}

impl Tee {
    /// An answer with this status and these headers.
    pub(crate) fn new(status: u16, headers: &HeaderMap, sender: oneshot::Sender<Result<Taken, &'static str>>) -> Self {
        Self { taken: Taken::new(status, headers), sender: Some(sender) }
    }

    /// Notes what passes. Past the bound nothing is kept.
    pub(crate) fn add(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.taken.note_trailers(trailers);
        }
        let Some(data) = frame.data_ref() else { return };
        if self.sender.is_some() && !self.taken.add(data.clone(), ANSWER_BYTES_MAX) {
            self.taken.clear();
            self.tell(Err("answer_large"));
        }
    }

    /// The answer is over.
    pub(crate) fn finish(mut self) {
        let taken = std::mem::take(&mut self.taken);
        self.tell(Ok(taken));
    }

    fn tell(&mut self, what: Result<Taken, &'static str>) {
        if let Some(sender) = self.sender.take() {
            // Where nobody listens the copy has ended before.
            let _ = sender.send(what);
        }
    }
}
