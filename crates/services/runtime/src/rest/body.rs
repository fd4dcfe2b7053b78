//! Reads the body of a request into one buffer, within a limit and a deadline.

use axum::body::Body;
use bytes::Bytes;
use daemon::http::{PAUSE_MAX, Stalled};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use inference::InferError;
use tokio::time::{Instant, timeout_at};

use super::buffers::Buffers;

/// Reserved at once for a declared length; more is reserved as it arrives, so that a mere promise takes no memory.
const RESERVED_BYTES_MAX: usize = 1024 * 1024;

/// Where a body is collected.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) buffers: &'a Buffers,
    /// Bytes before the tensors, so that those can be read where they are.
    pub(super) aligned: usize,
}

/// Collects `body`. A body that arrives in one piece is not copied.
pub(super) async fn collect(
    mut body: Body,
    bytes_max: usize,
    deadline: Option<Instant>,
    place: Place<'_>,
) -> Result<Bytes, InferError> {
    let declared = body.size_hint().lower();
    if declared > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(too_large(bytes_max));
    }
    let declared = usize::try_from(declared).unwrap_or(bytes_max);
    let Some(first) = piece(&mut body, deadline).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    if first.len() == declared && body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = piece(&mut body, deadline).await? else {
        return Ok(first);
    };
    let reserved = declared.min(RESERVED_BYTES_MAX).max(first.len() + second.len());
    let mut whole = place.buffers.take(reserved, place.aligned);
    whole.extend(&first);
    let mut next = Some(second);
    while let Some(bytes) = next {
        if bytes.len() > bytes_max.saturating_sub(whole.len()) {
            return Err(too_large(bytes_max));
        }
        whole.extend(&bytes);
        next = piece(&mut body, deadline).await?;
    }
    Ok(whole.freeze())
}

async fn piece(body: &mut Body, deadline: Option<Instant>) -> Result<Option<Bytes>, InferError> {
    loop {
        let pause_ends = Instant::now() + PAUSE_MAX;
        let until = deadline.map_or(pause_ends, |deadline| deadline.min(pause_ends));
        let late = |_| match deadline.filter(|deadline| *deadline <= pause_ends) {
            Some(_) => InferError::DeadlineExceeded("the body of the request did not arrive in time".to_owned()),
            None => InferError::Stalled(Stalled.to_string()),
        };
        match timeout_at(until, body.frame()).await.map_err(late)? {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(InferError::InvalidInput(format!("the body of the request broke off: {error}")));
            }
            // Trailers say nothing here.
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

pub(super) fn too_large(bytes_max: usize) -> InferError {
    InferError::TooLarge(format!("the body is larger than {bytes_max} bytes: send fewer rows at a time"))
}
