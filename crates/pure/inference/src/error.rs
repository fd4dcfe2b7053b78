//! What can be wrong with an inference, with the side that has to change something.

/// Why an inference was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// The request is wrong; asking again unchanged gives the same answer. HTTP 400, gRPC `INVALID_ARGUMENT`.
    #[error("{0}")]
    InvalidInput(String),
    /// No such model or version. HTTP 404, gRPC `NOT_FOUND`.
    #[error("{0}")]
    NotFound(String),
    /// The body or a tensor is over a limit. HTTP 413, gRPC `RESOURCE_EXHAUSTED`.
    #[error("{0}")]
    TooLarge(String),
    /// The protocol allows it, Berth does not do it. HTTP 501, gRPC `UNIMPLEMENTED`.
    #[error("{0}")]
    Unsupported(String),
    /// The model is not ready, or the queue is full; asking again later may help. HTTP 503, gRPC `UNAVAILABLE`.
    #[error("{0}")]
    Unavailable(String),
    /// The client sent nothing of the request's body for too long. HTTP 408, gRPC `DEADLINE_EXCEEDED`.
    #[error("{0}")]
    Stalled(String),
    /// The deadline passed. HTTP 504, gRPC `DEADLINE_EXCEEDED`.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The model failed on a request that was well formed. HTTP 500, gRPC `INTERNAL`.
    #[error("{0}")]
    Internal(String),
}
