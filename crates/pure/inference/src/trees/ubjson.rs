//! Universal Binary JSON (draft 12) as XGBoost writes it, read straight into what serde asks for.
//!
//! Source: <https://ubjson.org/>. Numbers are big-endian; arrays may be typed and counted (`[$d#`). Depth is bounded, and
//! a count or length that the rest of the input cannot hold is refused before anything is allocated.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer,
};

/// Objects within objects; XGBoost's models need seven.
const DEPTH_MAX: u32 = 32;

/// Reads one value that takes all of `bytes`.
pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = Reader { rest: bytes };
    let marker = reader.byte()?;
    let value = T::deserialize(Element { reader: &mut reader, marker, depth: 0 })?;
    if reader.rest.is_empty() { Ok(value) } else { Err(wrong("bytes follow the end of the UBJSON value")) }
}

/// What is wrong with the input.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(String);

impl de::Error for Error {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

fn wrong(text: impl Into<String>) -> Error {
    Error(text.into())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| wrong("the UBJSON file ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| wrong("the UBJSON file ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    /// Whether the next byte is `wanted`, which is then taken.
    fn took(&mut self, wanted: u8) -> bool {
        let rest = self.rest.strip_prefix(&[wanted]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn integer(&mut self, marker: u8) -> Result<i64, Error> {
        Ok(match marker {
            b'i' => i64::from(i8::from_be_bytes(self.array()?)),
            b'U' => i64::from(self.byte()?),
            b'I' => i64::from(i16::from_be_bytes(self.array()?)),
            b'l' => i64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?),
            other => return Err(wrong(format!("`{}` is not a UBJSON marker", char::from(other).escape_default()))),
        })
    }

    /// A length or count. Whatever it counts takes at least a byte each, so the rest of the input bounds it.
    fn length(&mut self) -> Result<usize, Error> {
        let marker = self.byte()?;
        let length = self.integer(marker)?;
        let fits = usize::try_from(length).ok().filter(|length| *length <= self.rest.len());
        fits.ok_or_else(|| wrong(format!("a UBJSON length of {length} does not fit the file")))
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| wrong("a UBJSON string is not UTF-8"))
    }

    /// The type and the count of a container, when it has them.
    fn container(&mut self) -> Result<(Option<u8>, Option<usize>), Error> {
        let marker = if self.took(b'$') { Some(self.byte()?) } else { None };
        // Types without a payload would let a count of billions cost nothing.
        if matches!(marker, Some(b'Z' | b'N' | b'T' | b'F')) {
            return Err(wrong("a UBJSON container of values without content"));
        }
        let count = if self.took(b'#') { Some(self.length()?) } else { None };
        if marker.is_some() && count.is_none() {
            return Err(wrong("a typed UBJSON container has no count"));
        }
        Ok((marker, count))
    }
}

/// A value whose marker has been read.
struct Element<'r, 'a> {
    reader: &'r mut Reader<'a>,
    marker: u8,
    depth: u32,
}

impl<'de> de::Deserializer<'de> for Element<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let reader = self.reader;
        if self.depth > DEPTH_MAX {
            return Err(wrong(format!("UBJSON values are nested more than {DEPTH_MAX} deep")));
        }
        match self.marker {
            b'Z' | b'N' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'd' => visitor.visit_f32(f32::from_be_bytes(reader.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(reader.array()?)),
            b'C' => visitor.visit_char(char::from(reader.byte()?)),
            b'S' => visitor.visit_str(reader.text()?),
            b'[' | b'{' => {
                let end = if self.marker == b'[' { b']' } else { b'}' };
                let (marker, left) = reader.container()?;
                let container = Container { reader, marker, left, end, depth: self.depth + 1 };
                if end == b']' { visitor.visit_seq(container) } else { visitor.visit_map(container) }
            }
            marker => visitor.visit_i64(reader.integer(marker)?),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.marker, b'Z' | b'N') { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The rest of an array or object.
struct Container<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// Type of every value.
    marker: Option<u8>,
    /// How many are left, when they were counted.
    left: Option<usize>,
    /// What ends one that was not counted.
    end: u8,
    depth: u32,
}

impl<'de> Container<'_, 'de> {
    fn value<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let marker = self.marker.map_or_else(|| self.reader.byte(), Ok)?;
        seed.deserialize(Element { reader: self.reader, marker, depth: self.depth })
    }

    fn ended(&mut self) -> bool {
        match &mut self.left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => self.reader.took(self.end),
        }
    }
}

impl<'de> SeqAccess<'de> for Container<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if self.ended() {
            return Ok(None);
        }
        self.value(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

impl<'de> MapAccess<'de> for Container<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if self.ended() {
            return Ok(None);
        }
        let key: StrDeserializer<'_, Error> = self.reader.text()?.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.value(seed)
    }
}
