//! How long a request may take: the service's limit and the client's, read from headers. Pure.

use std::time::Duration;

/// Why a header is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeoutError {
    /// `x-berth-timeout-ms`.
    #[error("`x-berth-timeout-ms` must be a whole number of milliseconds with at most 10 digits")]
    Milliseconds,
    /// `grpc-timeout`.
    #[error("`grpc-timeout` must be at most 8 digits and one of the units H, M, S, m, u, n")]
    Grpc,
}

/// Reads `x-berth-timeout-ms`.
pub(crate) fn milliseconds(value: &[u8]) -> Result<Duration, TimeoutError> {
    digits(value, 10).map(Duration::from_millis).ok_or(TimeoutError::Milliseconds)
}

/// Reads `grpc-timeout` (gRPC over HTTP/2, "Timeout").
pub(crate) fn grpc(value: &[u8]) -> Result<Duration, TimeoutError> {
    let (unit, number) = value.split_last().ok_or(TimeoutError::Grpc)?;
    let number = digits(number, 8).ok_or(TimeoutError::Grpc)?;
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(TimeoutError::Grpc),
    }
}

/// Writes `grpc-timeout` in milliseconds, in seconds where that needs more than 8 digits; rounds up.
pub(crate) fn to_grpc(left: Duration) -> String {
    let ms = to_ms(left);
    if ms <= 99_999_999 { format!("{ms}m") } else { format!("{}S", ms.div_ceil(1000).min(99_999_999)) }
}

/// Whole milliseconds, rounded up, so that a time that is not over is not written as zero.
pub(crate) fn to_ms(left: Duration) -> u64 {
    u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn digits(text: &[u8], len_max: usize) -> Option<u64> {
    if text.is_empty() || text.len() > len_max || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_both_forms() {
        assert_eq!(milliseconds(b"1500"), Ok(Duration::from_millis(1500)));
        assert_eq!(grpc(b"2S"), Ok(Duration::from_secs(2)));
        assert_eq!(grpc(b"99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(grpc(b"5u"), Ok(Duration::from_micros(5)));
        for wrong in ["", "-1", "1.5", " 1", "12345678901", "1s"] {
            assert_eq!(milliseconds(wrong.as_bytes()), Err(TimeoutError::Milliseconds), "{wrong}");
        }
        for wrong in ["", "S", "1", "123456789S", "1s", "-1S", "1.5S", " 1S"] {
            assert_eq!(grpc(wrong.as_bytes()), Err(TimeoutError::Grpc), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = milliseconds(&bytes);
            let _ = grpc(&bytes);
        }

        #[test]
        fn what_is_written_is_read_and_never_shorter(ms in 0u64..1_000_000_000_000) {
            let read = grpc(to_grpc(Duration::from_millis(ms)).as_bytes()).unwrap();
            if ms <= 99_999_999_000 {
                prop_assert!(read >= Duration::from_millis(ms) && read <= Duration::from_millis(ms + 1000));
            }
        }
    }
}
