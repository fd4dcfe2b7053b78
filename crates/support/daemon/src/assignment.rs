//! What a process that waits for its work is told over its channel: a list of arguments, whole or not at all.
//!
//! Four bytes give the length of what follows, big end first; then every word ends with a zero byte, which no argument of a
//! process holds.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

/// Bytes of the words, at most: paths and names, and a quarter of what a pipe takes, so that the writer never waits.
pub const BYTES_MAX: usize = 16 * 1024;
/// Words, at most: some four times as many as a runtime has options.
pub const WORDS_MAX: usize = 64;

const LENGTH_BYTES: usize = 4;

/// Why words cannot be sent, or what came is none.
#[derive(Debug, thiserror::Error)]
pub enum AssignmentError {
    /// Too many bytes.
    #[error("the assignment has {0} bytes, more than {BYTES_MAX}")]
    TooLong(usize),
    /// Too many words.
    #[error("the assignment has more than {WORDS_MAX} words")]
    TooMany,
    /// A word with a zero byte in it, or one that does not end.
    #[error("the assignment is no list of words that end with a zero byte")]
    Malformed,
    /// The channel could not be read, or ended within the assignment.
    #[error("the channel broke off")]
    Channel(#[from] io::Error),
}

/// The bytes that say `words`.
///
/// # Errors
///
/// [`AssignmentError`] when they are too many or too long.
pub fn encode(words: &[OsString]) -> Result<Vec<u8>, AssignmentError> {
    if words.len() > WORDS_MAX {
        return Err(AssignmentError::TooMany);
    }
    let length = words.iter().map(|word| word.len().saturating_add(1)).fold(0_usize, usize::saturating_add);
    let too_long = AssignmentError::TooLong(length);
    let Some(prefix) = u32::try_from(length).ok().filter(|_| length <= BYTES_MAX) else { return Err(too_long) };
    let mut bytes = prefix.to_be_bytes().to_vec();
    for word in words {
        if word.as_bytes().contains(&0) {
            return Err(AssignmentError::Malformed);
        }
        bytes.extend_from_slice(word.as_bytes());
        bytes.push(0);
    }
    Ok(bytes)
}

/// Waits for the words on `channel`; `None` when it ends before any came, which means that nobody has work any more. Reads no
/// byte beyond them.
///
/// # Errors
///
/// [`AssignmentError`] when something else came.
pub fn read(channel: &mut impl Read) -> Result<Option<Vec<OsString>>, AssignmentError> {
    let mut prefix = [0; LENGTH_BYTES];
    let Some((first, rest)) = prefix.split_first_mut() else { return Ok(None) };
    let first = std::slice::from_mut(first);
    let came = loop {
        match channel.read(first) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if came == 0 {
        return Ok(None);
    }
    channel.read_exact(rest)?;
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > BYTES_MAX {
        return Err(AssignmentError::TooLong(length));
    }
    let mut bytes = vec![0; length];
    channel.read_exact(&mut bytes)?;
    words(&bytes).map(Some)
}

fn words(bytes: &[u8]) -> Result<Vec<OsString>, AssignmentError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let words = bytes.strip_suffix(&[0]).ok_or(AssignmentError::Malformed)?;
    // One more than there may be, so that more are noticed.
    let words: Vec<OsString> =
        words.split(|byte| *byte == 0).take(WORDS_MAX + 1).map(|word| OsString::from_vec(word.to_vec())).collect();
    if words.len() > WORDS_MAX { Err(AssignmentError::TooMany) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn os(words: Vec<Vec<u8>>) -> Vec<OsString> {
        words.into_iter().map(OsString::from_vec).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_sent_is_read_and_no_byte_more(given in vec(vec(1_u8.., 0..60), 0..20), more in vec(any::<u8>(), 0..9)) {
            let given = os(given);
            let mut bytes = encode(&given).unwrap();
            bytes.extend(&more);
            let mut channel = bytes.as_slice();
            prop_assert_eq!(read(&mut channel).unwrap().unwrap(), given);
            prop_assert_eq!(channel, more.as_slice());
        }

        #[test]
        fn a_part_is_never_taken_for_the_whole(given in vec(vec(1_u8.., 0..60), 1..20), at in any::<prop::sample::Index>()) {
            let bytes = encode(&os(given)).unwrap();
            let cut = at.index(bytes.len());
            let outcome = read(&mut &bytes[..cut]);
            if cut == 0 {
                prop_assert!(outcome.unwrap().is_none());
            } else {
                prop_assert!(matches!(outcome, Err(AssignmentError::Channel(_))));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused_within_the_bounds(bytes in vec(any::<u8>(), 0..200), small in any::<bool>()) {
            // Lengths that four random bytes say are nearly all over the bound.
            let bytes = if small { [&[0, 0, 0], bytes.as_slice()].concat() } else { bytes };
            if let Ok(Some(words)) = read(&mut bytes.as_slice()) {
                prop_assert!(words.len() <= WORDS_MAX);
                let again = encode(&words).unwrap();
                prop_assert_eq!(&bytes[..again.len()], again.as_slice());
            }
        }
    }

    #[test]
    fn the_bounds_hold_on_both_ends() {
        let long = vec![OsString::from("x".repeat(BYTES_MAX - 1))];
        let bytes = encode(&long).unwrap();
        assert_eq!(read(&mut bytes.as_slice()).unwrap().unwrap(), long);
        let longer = vec![OsString::from("x".repeat(BYTES_MAX))];
        assert!(matches!(encode(&longer), Err(AssignmentError::TooLong(_))));
        let claims = u32::try_from(BYTES_MAX + 1).unwrap().to_be_bytes();
        assert!(
            matches!(read(&mut claims.as_slice()), Err(AssignmentError::TooLong(length)) if length == BYTES_MAX + 1)
        );
        assert!(matches!(encode(&vec![OsString::new(); WORDS_MAX + 1]), Err(AssignmentError::TooMany)));
        let many = [65_u32.to_be_bytes().as_slice(), &[0; 65]].concat();
        assert!(matches!(read(&mut many.as_slice()), Err(AssignmentError::TooMany)));
        let open = [2_u32.to_be_bytes().as_slice(), b"ab"].concat();
        assert!(matches!(read(&mut open.as_slice()), Err(AssignmentError::Malformed)));
        assert!(matches!(encode(&[OsString::from("a\0b")]), Err(AssignmentError::Malformed)));
    }
}
