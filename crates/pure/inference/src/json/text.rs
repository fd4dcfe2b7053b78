//! Strings: where the plain part ends, and what escapes stand for.

use super::{
    fault::{Fault, Parsed},
    reader::Reader,
};

/// Bytes before the first quote, backslash or control character.
#[inline]
pub(super) fn plain_prefix(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20).unwrap_or(bytes.len())
}

/// Reads the rest of a string, from its first backslash to its closing quote.
pub(super) fn unescape(reader: &mut Reader<'_>, into: &mut String) -> Parsed<()> {
    loop {
        let start = reader.position();
        let plain = plain_prefix(reader.rest());
        reader.advance(plain);
        into.push_str(reader.since(start));
        match reader.byte() {
            Some(b'"') => {
                reader.advance(1);
                return Ok(());
            }
            Some(b'\\') => {
                reader.advance(1);
                into.push(escape(reader)?);
            }
            _ => return Err(reader.text_fault()),
        }
    }
}

/// Reads what follows a backslash.
fn escape(reader: &mut Reader<'_>) -> Parsed<char> {
    let at = reader.position();
    let byte = reader.byte();
    reader.advance(1);
    match byte {
        Some(b'"') => Ok('"'),
        Some(b'\\') => Ok('\\'),
        Some(b'/') => Ok('/'),
        Some(b'b') => Ok('\u{8}'),
        Some(b'f') => Ok('\u{c}'),
        Some(b'n') => Ok('\n'),
        Some(b'r') => Ok('\r'),
        Some(b't') => Ok('\t'),
        Some(b'u') => unicode(reader),
        _ => Err(Fault::new(format!("a string has an unknown escape at byte {at}"))),
    }
}

/// Reads the hexadecimal digits of one character: four, or two times four for a surrogate pair.
fn unicode(reader: &mut Reader<'_>) -> Parsed<char> {
    let at = reader.position();
    let alone = || Fault::new(format!("a string has half of a surrogate pair at byte {at}"));
    let first = hex4(reader)?;
    let code = match first {
        0xD800..=0xDBFF => {
            if !reader.take_word("\\u") {
                return Err(alone());
            }
            let second = hex4(reader)?;
            if !(0xDC00..=0xDFFF).contains(&second) {
                return Err(alone());
            }
            0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
        }
        other => other,
    };
    char::from_u32(code).ok_or_else(alone)
}

fn hex4(reader: &mut Reader<'_>) -> Parsed<u32> {
    let mut code = 0;
    for _ in 0..4 {
        let digit = reader.byte().and_then(|byte| char::from(byte).to_digit(16));
        let Some(digit) = digit else {
            let at = reader.position();
            return Err(Fault::new(format!("expected four hexadecimal digits after `\\u`, at byte {at}")));
        };
        code = code * 16 + digit;
        reader.advance(1);
    }
    Ok(code)
}
