//! Back-off between starts of replicas that end by themselves.

/// Longest wait between two starts. Kubernetes waits up to five minutes; a person at a laptop does not.
pub(crate) const BACKOFF_MS_MAX: u64 = 60_000;
/// First wait, after the second failure in a row.
const BACKOFF_MS_FIRST: u64 = 1_000;

/// Wait before the next start after `count` failures in a row: none after the first, then 1 s, doubling to 60 s.
pub fn backoff_ms(count: u32) -> u64 {
    match count {
        0 | 1 => 0,
        more => BACKOFF_MS_FIRST.saturating_mul(1_u64.checked_shl(more - 2).unwrap_or(u64::MAX)).min(BACKOFF_MS_MAX),
    }
}
