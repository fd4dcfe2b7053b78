//! From floating point to counts, where the value is bounded first.

/// `value` as a whole number: NaN and what is negative give 0, what is too large the highest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from floating point saturates, which is what is wanted here"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// The same, up to the highest of 32 bits.
pub(crate) fn at_most_u32(value: f64) -> u32 {
    u32::try_from(whole(value)).unwrap_or(u32::MAX)
}

/// The smallest whole number from `value` on, with the hair's breadth that sums of decimals are off taken as none.
pub(crate) fn ceiling(value: f64) -> u32 {
    at_most_u32((value - 1e-9).ceil())
}
