//! Finds the model's name and version in the first bytes of a gRPC message, without knowing the rest of it.
//!
//! `ModelInferRequest` and `ModelMetadataRequest` carry `model_name` as field 1 and `model_version` as field 2,
//! `ModelReadyRequest` carries them as `name` 1 and `version` 2. Protocol buffers allow any order, repeat a field by replacing it,
//! and let unknown fields stand anywhere; so does this reader.

/// Bytes of a message that are looked at. Every known encoder writes the name first; a client that puts more than this before
/// the name would make the gateway hold a body it cannot route.
pub(crate) const WINDOW_BYTES_MAX: usize = 64 * 1024;

/// Bytes before a gRPC message: a flag for compression and a 32-bit length.
pub(crate) const PREFIX_LEN: usize = 5;

/// What stands before a gRPC message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Whether the message is compressed.
    pub compressed: bool,
    /// Its length.
    pub len: u32,
}

impl Prefix {
    /// Reads the five bytes; nothing when there are fewer.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (flag, rest) = bytes.split_first()?;
        let len = rest.first_chunk::<4>()?;
        Some(Self { compressed: *flag != 0, len: u32::from_be_bytes(*len) })
    }
}

/// What a message says about the model it is for. Absent fields are empty, as in protocol buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model<'a> {
    /// `model_name`.
    pub name: &'a str,
    /// `model_version`.
    pub version: &'a str,
}

/// Why the bytes are not the beginning of such a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeekError {
    /// Not protocol buffers.
    #[error("the message is not a protocol buffer")]
    Malformed,
    /// Name or version are not text.
    #[error("the model's name or version is not UTF-8")]
    NotText,
}

/// Reads `window`, the beginning of a message. Where the window ends in the middle of a field, what stood before counts.
pub(crate) fn model(window: &[u8]) -> Result<Model<'_>, PeekError> {
    let mut rest = window.get(..WINDOW_BYTES_MAX).unwrap_or(window);
    let mut found = Model::default();
    while !rest.is_empty() {
        match field(&mut rest)? {
            Some((1, value)) => found.name = text(value)?,
            Some((2, value)) => found.version = text(value)?,
            Some(_) => {}
            None => break,
        }
    }
    Ok(found)
}

fn text(value: &[u8]) -> Result<&str, PeekError> {
    std::str::from_utf8(value).map_err(|_| PeekError::NotText)
}

/// Takes one field off `rest`: its number, and its bytes when it is length-delimited. Nothing when the window cuts it off.
fn field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u64, &'a [u8])>, PeekError> {
    let Some(key) = varint(rest)? else { return Ok(None) };
    let (number, wire) = (key >> 3, key & 7);
    if number == 0 || key > u64::from(u32::MAX) {
        return Err(PeekError::Malformed);
    }
    let len = match wire {
        0 => return Ok(varint(rest)?.map(|_| (u64::MAX, [].as_slice()))),
        1 => 8,
        2 => match varint(rest)? {
            Some(len) => usize::try_from(len).map_err(|_| PeekError::Malformed)?,
            None => return Ok(None),
        },
        5 => 4,
        // Groups (3, 4) left the language before this protocol was written; 6 and 7 never were in it.
        _ => return Err(PeekError::Malformed),
    };
    let Some((value, after)) = rest.split_at_checked(len) else { return Ok(None) };
    *rest = after;
    Ok(Some(if wire == 2 { (number, value) } else { (u64::MAX, value) }))
}

/// Takes a base-128 number off `rest`. Nothing when the window cuts it off.
fn varint(rest: &mut &[u8]) -> Result<Option<u64>, PeekError> {
    let mut value = 0_u64;
    for (at, byte) in rest.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return Err(PeekError::Malformed);
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *rest = rest.get(at + 1..).unwrap_or_default();
            return Ok(Some(value));
        }
    }
    if rest.len() < 10 { Ok(None) } else { Err(PeekError::Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }

    fn bytes_field(field: u64, value: &[u8], out: &mut Vec<u8>) {
        number(field << 3 | 2, out);
        number(value.len() as u64, out);
        out.extend_from_slice(value);
    }

    #[test]
    fn canonical_order() {
        let mut message = Vec::new();
        bytes_field(1, b"spam", &mut message);
        bytes_field(2, b"3", &mut message);
        bytes_field(5, &[0; 200], &mut message);
        assert_eq!(model(&message), Ok(Model { name: "spam", version: "3" }));
        assert_eq!(model(&[]), Ok(Model::default()));
    }

    #[test]
    fn any_order_with_strangers_between_and_the_last_one_wins() {
        let mut message = Vec::new();
        bytes_field(7, &[1; 300], &mut message);
        number(90 << 3, &mut message);
        number(u64::MAX, &mut message);
        bytes_field(1, b"other", &mut message);
        number(91 << 3 | 1, &mut message);
        message.extend([0xff; 8]);
        bytes_field(2, b"", &mut message);
        number(92 << 3 | 5, &mut message);
        message.extend([0xff; 4]);
        bytes_field(1, b"spam", &mut message);
        assert_eq!(model(&message), Ok(Model { name: "spam", version: "" }));
    }

    #[test]
    fn a_cut_window_says_what_it_saw() {
        let mut message = Vec::new();
        bytes_field(1, b"spam", &mut message);
        bytes_field(7, &vec![0; WINDOW_BYTES_MAX], &mut message);
        bytes_field(1, b"late", &mut message);
        assert_eq!(model(&message), Ok(Model { name: "spam", version: "" }));
        assert_eq!(model(&message[..3]), Ok(Model::default()));
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        assert_eq!(model(&[0x03]), Err(PeekError::Malformed));
        assert_eq!(model(&[0x00, 0x01]), Err(PeekError::Malformed));
        assert_eq!(model(&[0xff; 12]), Err(PeekError::Malformed));
        assert_eq!(model(&[0x0a, 0x01, 0xff]), Err(PeekError::NotText));
    }

    #[test]
    fn prefixes() {
        assert_eq!(Prefix::read(&[0, 0, 0, 1, 2, 9]), Some(Prefix { compressed: false, len: 258 }));
        assert_eq!(Prefix::read(&[1, 0, 0, 0, 0]), Some(Prefix { compressed: true, len: 0 }));
        assert_eq!(Prefix::read(&[0, 0, 0, 1]), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = model(&bytes);
            let _ = Prefix::read(&bytes);
        }

        #[test]
        fn finds_what_was_written(
            name in "\\PC{0,40}", version in "[0-9]{0,3}",
            before in proptest::collection::vec((3u64..100, proptest::collection::vec(any::<u8>(), 0..50)), 0..6),
            after in proptest::collection::vec((3u64..100, proptest::collection::vec(any::<u8>(), 0..50)), 0..6),
        ) {
            let mut message = Vec::new();
            for (field, value) in &before {
                bytes_field(*field, value, &mut message);
            }
            bytes_field(2, version.as_bytes(), &mut message);
            bytes_field(1, name.as_bytes(), &mut message);
            for (field, value) in &after {
                bytes_field(*field, value, &mut message);
            }
            prop_assert_eq!(model(&message), Ok(Model { name: &name, version: &version }));
        }
    }
}
