//! The protobuf wire format over a file: varints, lengths, and seeking over what is not needed.

use std::io::{BufReader, ErrorKind, Read, Seek};

use super::{OnnxError, not_onnx};

/// Longest text that is read: names and paths.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// A field's number and the start of its value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// A whole number.
    Varint(u32, u64),
    /// So many bytes follow.
    Bytes(u32, u64),
    /// 4 or 8 bytes follow.
    Fixed(u64),
}

#[derive(Debug)]
pub(super) struct Wire<R> {
    source: BufReader<R>,
    position: u64,
}

impl<R: Read + Seek> Wire<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source: BufReader::with_capacity(64 * 1024, source), position: 0 }
    }

    /// The next field of a message that ends at `end`; `None` at its end.
    pub(super) fn field(&mut self, end: u64) -> Result<Option<Field>, OnnxError> {
        if self.position == end {
            return Ok(None);
        }
        let tag = self.varint(end)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..=536_870_911).contains(number));
        let number = number.ok_or_else(|| not_onnx("a field has an impossible number"))?;
        let field = match tag & 7 {
            0 => Field::Varint(number, self.varint(end)?),
            1 => Field::Fixed(8),
            2 => Field::Bytes(number, self.varint(end)?),
            5 => Field::Fixed(4),
            _ => return Err(not_onnx("a field has an impossible type")),
        };
        Ok(Some(field))
    }

    /// Where a value of `length` bytes ends, which must be within `outer`.
    pub(super) fn end(&self, length: u64, outer: u64) -> Result<u64, OnnxError> {
        let end = self.position.checked_add(length).filter(|end| *end <= outer);
        end.ok_or_else(|| not_onnx("it is cut off: a field is longer than what is left"))
    }

    /// Passes over a field that is not needed.
    pub(super) fn skip(&mut self, field: Field, outer: u64) -> Result<(), OnnxError> {
        let (Field::Bytes(_, length) | Field::Fixed(length)) = field else { return Ok(()) };
        let end = self.end(length, outer)?;
        let offset = i64::try_from(length).map_err(|_| not_onnx("a field is too long"))?;
        self.source.seek_relative(offset)?;
        self.position = end;
        Ok(())
    }

    /// A text of `length` bytes.
    pub(super) fn text(&mut self, length: u64, outer: u64) -> Result<String, OnnxError> {
        let end = self.end(length, outer)?;
        if length > TEXT_BYTES_MAX {
            return Err(not_onnx(format!("a name has {length} bytes, more than {TEXT_BYTES_MAX}")));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.source.read_exact(&mut bytes).map_err(cut_off)?;
        self.position = end;
        String::from_utf8(bytes).map_err(|_| not_onnx("a name is not UTF-8"))
    }

    fn varint(&mut self, end: u64) -> Result<u64, OnnxError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            if self.position >= end {
                return Err(not_onnx("it is cut off"));
            }
            let mut byte = [0];
            self.source.read_exact(&mut byte).map_err(cut_off)?;
            self.position += 1;
            let [byte] = byte;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(not_onnx("a number is too long"))
    }
}

fn cut_off(error: std::io::Error) -> OnnxError {
    if error.kind() == ErrorKind::UnexpectedEof { not_onnx("it is cut off") } else { OnnxError::Io(error) }
}
