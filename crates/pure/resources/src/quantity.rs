//! Quantities in Kubernetes' notation: `500m`, `2`, `256Mi`, `1.5G`.

/// Why a text is not a quantity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuantityError {
    /// Not a number of CPUs.
    #[error("`{0}` is not a number of CPUs: write `2`, `0.5` or `500m`")]
    Cpu(String),
    /// Not a number of bytes.
    #[error("`{0}` is not a number of bytes: write `268435456`, `256Mi` or `1G`")]
    Bytes(String),
}

/// Digits of a number, before and after the point together: enough for any machine, and no overflow.
const DIGITS_MAX: usize = 18;

/// Reads CPUs as thousandths of one; more than zero. Less than a thousandth rounds up, as in Kubernetes.
pub fn cpu_milli(text: &str) -> Result<u64, QuantityError> {
    let wrong = || QuantityError::Cpu(text.to_owned());
    let (number, scale) = match text.strip_suffix('m') {
        Some(number) => (number, 1),
        None => (text, 1000),
    };
    scaled(number, scale).filter(|milli| *milli > 0).ok_or_else(wrong)
}

/// Reads bytes; more than zero.
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    const SUFFIXES: [(&str, u64); 10] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("Pi", 1 << 50),
        ("P", 1_000_000_000_000_000),
    ];
    let wrong = || QuantityError::Bytes(text.to_owned());
    let suffix = SUFFIXES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale)));
    let (number, scale) = suffix.unwrap_or((text, 1));
    scaled(number, scale).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// The shortest text for thousandths of a CPU that [`cpu_milli`] reads back.
pub fn cpu_text(milli: u64) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// The shortest text for bytes that [`bytes`] reads back, in powers of 1024.
pub fn bytes_text(bytes: u64) -> String {
    for (suffix, scale) in [("Pi", 1_u64 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(scale) {
            return format!("{}{suffix}", bytes / scale);
        }
    }
    bytes.to_string()
}

/// `number * scale`, rounded up; nothing when it is no decimal number or does not fit.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() > DIGITS_MAX {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let of = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = fraction.parse().ok()?;
    let scale = u128::from(scale);
    u64::try_from(whole * scale + (fraction * scale).div_ceil(of)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{bytes, bytes_text, cpu_milli, cpu_text};

    #[test]
    fn cpus() {
        for (text, milli) in [("2", 2000), ("0.5", 500), ("500m", 500), ("1m", 1), ("0.0001", 1), ("1.25", 1250)] {
            assert_eq!(cpu_milli(text), Ok(milli), "{text}");
        }
        for text in ["", "0", "0m", "m", "-1", "1e3", "two", "1.", ".5", "1 ", "1M", "99999999999999999999"] {
            assert!(cpu_milli(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory() {
        for (text, expected) in
            [("268435456", 268_435_456), ("256Mi", 256 << 20), ("1G", 1_000_000_000), ("1.5Ki", 1536), ("1k", 1000)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "Mi", "1K", "1mi", "-5", "1GiB", "100000000Ti", "1m"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,24}", number in "[0-9.]{0,20}(Ki|Mi|P|m)?") {
            drop((cpu_milli(&text), bytes(&text), cpu_milli(&number), bytes(&number)));
        }

        #[test]
        fn what_is_written_is_read_back(milli in 1..1_000_000_000_u64, size in 1..u64::MAX >> 8, shift in 0..52_u32) {
            prop_assert_eq!(cpu_milli(&cpu_text(milli)), Ok(milli));
            let size = (size >> shift).max(1) << shift;
            prop_assert_eq!(bytes(&bytes_text(size)), Ok(size));
        }
    }
}
