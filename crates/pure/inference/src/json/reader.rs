//! A pull reader over UTF-8 JSON text (RFC 8259): the caller asks for what it expects and is told what stands there instead.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    fault::{Fault, Parsed, quoted},
    number::Number,
    text,
};
use crate::{InferError, limits::DEPTH_MAX};

/// A position in a JSON text.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    source: &'a Bytes,
    text: &'a str,
    at: usize,
}

/// Which literals a skipped value may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Literals {
    /// Those of RFC 8259.
    Strict,
    /// Also `NaN`, `Infinity` and `-Infinity`, as Python writes them.
    WithNonFinite,
}

impl<'a> Reader<'a> {
    /// Begins at the first byte of `source`, which must be UTF-8 as a whole.
    pub(super) fn new(source: &'a Bytes) -> Result<Self, InferError> {
        let text = std::str::from_utf8(source).map_err(|error| {
            let place = error.valid_up_to();
            InferError::InvalidInput(format!(
                "the JSON is not UTF-8 at byte {place}: send text as UTF-8, and binary tensors with the header `Inference-Header-Content-Length`"
            ))
        })?;
        Ok(Self { source, text, at: 0 })
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The same text from `at` on.
    pub(super) fn rewound(&self, at: usize) -> Self {
        Self { at, ..*self }
    }

    /// The next byte, white space included.
    #[inline]
    pub(super) fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The first byte of the next token.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    /// Takes `byte` if it is the next token.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    /// Takes `word` if the text goes on with it.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    /// Says what was expected and what stands here instead.
    #[cold]
    pub(super) fn fault(&mut self, expected: &str) -> Box<Fault> {
        let found = self.found();
        let at = self.at;
        Fault::new(format!("expected {expected}, found {found} at byte {at}"))
    }

    fn found(&mut self) -> String {
        match self.peek() {
            None => "the end of the JSON".to_owned(),
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b'"') => "a string".to_owned(),
            Some(_) => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let end = rest.find([',', ']', '}', ':', ' ', '\n', '\r', '\t', '"']).unwrap_or(rest.len()).max(1);
                quoted(rest.get(..end).unwrap_or(rest))
            }
        }
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Parsed<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("the end of the JSON")),
        }
    }

    /// Reads an object; `each` must consume the value of the key that it is given.
    pub(super) fn object(&mut self, mut each: impl FnMut(&mut Self, &str) -> Parsed<()>) -> Parsed<()> {
        if !self.take(b'{') {
            return Err(self.fault("an object"));
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.fault("a key in double quotes"));
            }
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.fault("`:` after the key").within(&key));
            }
            each(self, &key).map_err(|fault| fault.within(&key))?;
            if !self.take(b',') {
                return if self.take(b'}') { Ok(()) } else { Err(self.fault("`,` or `}`")) };
            }
        }
    }

    /// Reads an array; `each` must consume the element whose index it is given.
    pub(super) fn array(&mut self, mut each: impl FnMut(&mut Self, usize) -> Parsed<()>) -> Parsed<()> {
        if !self.take(b'[') {
            return Err(self.fault("an array"));
        }
        if self.take(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            each(self, index).map_err(|fault| fault.at(index))?;
            if !self.take(b',') {
                return if self.take(b']') { Ok(()) } else { Err(self.fault("`,` or `]`")) };
            }
            index += 1;
        }
    }

    /// Reads a string; borrowed unless it has escapes.
    pub(super) fn string(&mut self) -> Parsed<Cow<'a, str>> {
        if !self.take(b'"') {
            return Err(self.fault("a string"));
        }
        let start = self.at;
        let rest = self.rest();
        let plain = text::plain_prefix(rest);
        self.at += plain;
        let prefix = self.text.get(start..self.at).unwrap_or_default();
        match self.byte() {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(prefix))
            }
            Some(b'\\') => {
                let mut owned = String::with_capacity(prefix.len() + 16);
                owned.push_str(prefix);
                text::unescape(self, &mut owned)?;
                Ok(Cow::Owned(owned))
            }
            _ => Err(self.text_fault()),
        }
    }

    /// Text between `from` and here.
    pub(super) fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    pub(super) fn text_fault(&self) -> Box<Fault> {
        let at = self.at;
        match self.byte() {
            None => Fault::new("the string has no end: expected `\"`"),
            Some(byte) => Fault::new(format!(
                "a string holds the control character {byte:#04x} at byte {at}: write it as `\\u{byte:04x}`"
            )),
        }
    }

    /// Reads a string as bytes; without escapes they are a slice of the source, not a copy.
    pub(super) fn string_bytes(&mut self) -> Parsed<Bytes> {
        match self.string()? {
            Cow::Owned(owned) => Ok(Bytes::from(owned)),
            Cow::Borrowed(plain) => {
                let end = self.at - 1;
                Ok(self.source.slice(end - plain.len()..end))
            }
        }
    }

    /// Whether a number begins here, rather than a literal for what is not finite.
    #[inline]
    pub(super) fn at_number(&mut self) -> bool {
        match self.peek() {
            Some(b'0'..=b'9') => true,
            Some(b'-') => matches!(self.text.as_bytes().get(self.at + 1), Some(b'0'..=b'9')),
            _ => false,
        }
    }

    /// Reads a number; what it may be is the caller's question.
    #[inline]
    pub(super) fn number(&mut self) -> Parsed<Number<'a>> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => Number::scan(self),
            _ => Err(self.fault("a number")),
        }
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&mut self) -> Parsed<bool> {
        match self.peek() {
            Some(b't') if self.take_word("true") => Ok(true),
            Some(b'f') if self.take_word("false") => Ok(false),
            _ => Err(self.fault("`true` or `false`")),
        }
    }

    /// Passes over any one value, checking its syntax.
    pub(super) fn skip(&mut self, literals: Literals) -> Parsed<()> {
        self.skip_at(0, literals)
    }

    fn skip_at(&mut self, depth: usize, literals: Literals) -> Parsed<()> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let lenient = literals == Literals::WithNonFinite;
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.skip_at(depth + 1, literals)),
            Some(b'[') => self.array(|reader, _| reader.skip_at(depth + 1, literals)),
            Some(b'"') => self.string().map(drop),
            Some(b't' | b'f') => self.boolean().map(drop),
            Some(b'n') if self.take_word("null") => Ok(()),
            Some(b'N') if lenient && self.take_word("NaN") => Ok(()),
            Some(b'I') if lenient && self.take_word("Infinity") => Ok(()),
            Some(b'-') if lenient && self.take_word("-Infinity") => Ok(()),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => Err(self.fault("a value")),
        }
    }
}
