//! Errors as gRPC statuses, and deadlines as gRPC metadata has them.

use std::time::Duration;

use inference::InferError;
use tokio::time::Instant;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::rest::TIMEOUT_MAX;

/// The one mapping from errors to gRPC. `UNAVAILABLE` also says that nothing was run.
pub(super) fn of(error: InferError) -> Status {
    let (code, message) = match error {
        InferError::InvalidInput(message) => (Code::InvalidArgument, message),
        InferError::NotFound(message) => (Code::NotFound, message),
        InferError::TooLarge(message) => (Code::ResourceExhausted, message),
        InferError::Unsupported(message) => (Code::Unimplemented, message),
        InferError::Unavailable(message) => (Code::Unavailable, message),
        InferError::Stalled(message) | InferError::DeadlineExceeded(message) => (Code::DeadlineExceeded, message),
        InferError::Internal(message) => (Code::Internal, message),
    };
    let mut status = Status::new(code, message);
    if code == Code::Unavailable {
        status.metadata_mut().insert("x-berth-retry", MetadataValue::from_static("safe"));
    }
    status
}

/// When the client stops to wait, by `grpc-timeout`.
pub(super) fn deadline(metadata: &MetadataMap) -> Result<Option<Instant>, InferError> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(timeout);
    let refused =
        || InferError::InvalidInput("the metadata `grpc-timeout` is malformed: expected such as `100m`".to_owned());
    Ok(Some(Instant::now() + timeout.ok_or_else(refused)?.min(TIMEOUT_MAX)))
}

/// One to eight digits and a unit, as gRPC over HTTP/2 has it.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::timeout;

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        assert_eq!(timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout("1n"), Some(Duration::from_nanos(1)));
        for malformed in ["", "m", "1", "1x", "123456789m", "-1m", "+1m", "1 m", "1é"] {
            assert_eq!(timeout(malformed), None, "{malformed}");
        }
    }
}
