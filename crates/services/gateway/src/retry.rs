//! Whether a request may be sent again: a pure function of what failed and what has been sent.
//!
//! A prediction is a function of its request and changes nothing, so running it twice is safe. What stands in the way of a second
//! try is only the body, which may be gone, and an answer that the client has begun to read.

/// Times that one request is sent. It bounds what a request that kills its replica can do.
pub(crate) const SENDS_MAX: u32 = 3;

/// What went wrong before a response head arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// The connection closed after the request, or a part of it, was sent.
    Closed,
    /// The replica said that it ran nothing and that another may answer.
    Declined,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Times that it was sent on a connection that then closed.
    pub sends: u32,
    /// Whether the gateway still has all of the body.
    pub replayable: bool,
}

/// Whether to try again. Failures that sent nothing do not count: the time a request may wait bounds them.
pub(crate) fn again(failure: Failure, progress: Progress) -> bool {
    match failure {
        Failure::Connect => true,
        Failure::Declined => progress.replayable,
        Failure::Closed => progress.replayable && progress.sends < SENDS_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        for (failure, sends, replayable, wanted) in [
            (Failure::Connect, 0, true, true),
            (Failure::Connect, 0, false, true),
            (Failure::Connect, 9, true, true),
            (Failure::Declined, 9, true, true),
            (Failure::Declined, 0, false, false),
            (Failure::Closed, 1, true, true),
            (Failure::Closed, 2, true, true),
            (Failure::Closed, 3, true, false),
            (Failure::Closed, 1, false, false),
        ] {
            assert_eq!(again(failure, Progress { sends, replayable }), wanted, "{failure:?} {sends} {replayable}");
        }
    }
}
