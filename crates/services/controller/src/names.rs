//! Names that nobody else has.

use rand::{TryRng as _, rngs::SysRng};

/// Characters of a replica's own part of its name: 51 bits, so that none comes twice in the life of a data directory.
pub(crate) const REPLICA_RANDOM_LEN: usize = 10;

const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// `length` letters and digits. They are not secrets: a socket's protection is its mode and its directory's.
pub(crate) fn random(length: usize) -> String {
    let letter = |number: u32| {
        let at = usize::try_from(number).unwrap_or(0) % ALPHABET.len();
        ALPHABET.get(at).copied().map_or('0', char::from)
    };
    (0..length).map(|_| letter(word())).collect()
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn uid() -> String {
    let high = (u64::from(word()) << 32) | u64::from(word());
    let low = (u64::from(word()) << 32) | u64::from(word());
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// The operating system's randomness; where it has none, the clock still tells names apart, and the database refuses a name that
/// is there already.
fn word() -> u32 {
    SysRng.try_next_u32().unwrap_or_else(|_| u32::try_from(daemon::time::now_ms() & 0xffff_ffff).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let (a, b) = (random(10), random(10));
        assert_ne!(a, b);
        assert!(a.len() == 10 && a.bytes().all(|byte| ALPHABET.contains(&byte)));
        let id = uid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, uid());
    }
}
