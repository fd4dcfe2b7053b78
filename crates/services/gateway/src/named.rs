//! Finds the model's name in a body of JSON, without knowing the rest of it.
//!
//! Clients of OpenAI's API write `model` anywhere in the object, so the whole body is looked through, once, without recursion and
//! without memory of its own. What is between keys is stepped over: whether it is JSON at all the runtime says, which also
//! refuses a request whose name is not that of the service it was routed to.

use std::borrow::Cow;

/// The key.
const KEY: &str = "model";
/// Bytes of the name as it is written: that of a service has at most 63, and each may be an escape of six.
const NAME_BYTES_MAX: usize = 512;

/// Why there is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// The body is not one object.
    #[error("the body is not a JSON object")]
    Malformed,
    /// The object has no such key.
    #[error("the body names no model: give `model`")]
    Missing,
    /// Which of two would count depends on who reads them.
    #[error("the body has `model` twice")]
    Twice,
    /// The name is not text, or too long to be one.
    #[error("`model` must be the name of a service")]
    NotAName,
}

/// The value of the key `model` of the object in `body`.
pub(crate) fn model(body: &[u8]) -> Result<String, NameError> {
    let mut rest = Rest(body);
    let mut found = None;
    rest.expect(b'{')?;
    if rest.next_is(b'}') {
        rest.step();
    } else {
        loop {
            let key = rest.text()?;
            rest.expect(b':')?;
            let value = rest.value()?;
            if unescaped(key).is_some_and(|key| key == KEY) {
                let name = Some(value).filter(|value| value.len() <= NAME_BYTES_MAX).and_then(unescaped);
                let name = name.ok_or(NameError::NotAName)?;
                if found.replace(name.into_owned()).is_some() {
                    return Err(NameError::Twice);
                }
            }
            if !rest.next_is(b',') {
                break;
            }
            rest.step();
        }
        rest.expect(b'}')?;
    }
    rest.blank();
    if rest.0.is_empty() { found.ok_or(NameError::Missing) } else { Err(NameError::Malformed) }
}

/// What a text of JSON, in its quotes, says.
fn unescaped(text: &[u8]) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') || inner.iter().any(u8::is_ascii_control) {
        return serde_json::from_slice::<String>(text).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// What was not looked at yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn blank(&mut self) {
        let blanks = self.0.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.take(blanks);
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }

    fn step(&mut self) {
        self.take(1);
    }

    /// Whether `byte` comes next, after blanks.
    fn next_is(&mut self, byte: u8) -> bool {
        self.blank();
        self.0.first() == Some(&byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), NameError> {
        if !self.next_is(byte) {
            return Err(NameError::Malformed);
        }
        self.step();
        Ok(())
    }

    /// A text with its quotes.
    fn text(&mut self) -> Result<&'a [u8], NameError> {
        if !self.next_is(b'"') {
            return Err(NameError::Malformed);
        }
        let len = text_len(self.0).ok_or(NameError::Malformed)?;
        Ok(self.take(len))
    }

    /// Any value: a text, or everything up to where its brackets are closed, or up to what ends a number or a word.
    fn value(&mut self) -> Result<&'a [u8], NameError> {
        if self.next_is(b'"') {
            return self.text();
        }
        let whole = self.0;
        let (mut depth, mut at) = (0_usize, 0_usize);
        loop {
            let here = whole.get(at..).unwrap_or_default();
            match here.first().ok_or(NameError::Malformed)? {
                b'"' if depth > 0 => {
                    at += text_len(here).ok_or(NameError::Malformed)?;
                    continue;
                }
                b'"' => return Err(NameError::Malformed),
                b'[' | b'{' => depth += 1,
                b']' | b'}' | b',' if depth == 0 => break,
                b']' | b'}' => {
                    depth -= 1;
                    if depth == 0 {
                        at += 1;
                        break;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if at == 0 { Err(NameError::Malformed) } else { Ok(self.take(at)) }
    }
}

/// Bytes of the text that begins with a quote, both quotes with it; nothing when it does not end.
fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let stop = bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        at += stop;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        // The backslash and what it escapes; of `\u` the digits are no quotes.
        at += 2;
    }
}

#[cfg(test)]
mod tests;
