//! What is wrong with a body, and where.

use crate::InferError;

/// Result of reading; the error is boxed so that the common case stays small.
pub(super) type Parsed<T> = Result<T, Box<Fault>>;

/// An error with its place, built from the inside out: `data[3]` first, then `inputs[0]` before it.
#[derive(Debug)]
pub(super) struct Fault {
    path: String,
    message: String,
    too_large: bool,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { path: String::new(), message: message.into(), too_large: false })
    }

    pub(super) fn too_large(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { path: String::new(), message: message.into(), too_large: true })
    }

    /// The same fault with more said.
    pub(super) fn followed_by(mut self: Box<Self>, more: &str) -> Box<Self> {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// The fault lies inside member `key`.
    pub(super) fn within(mut self: Box<Self>, key: &str) -> Box<Self> {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{joint}{}", shortened(key), self.path);
        self
    }

    /// The fault lies inside element `index`.
    pub(super) fn at(mut self: Box<Self>, index: usize) -> Box<Self> {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{joint}{}", self.path);
        self
    }
}

impl From<Box<Fault>> for InferError {
    fn from(fault: Box<Fault>) -> Self {
        let Fault { path, message, too_large } = *fault;
        let text = if path.is_empty() { message } else { format!("`{path}`: {message}") };
        if too_large { Self::TooLarge(text) } else { Self::InvalidInput(text) }
    }
}

/// A key or value as it may be repeated to the sender: on one line, and not longer than is useful.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shortened(text))
}

fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut shown: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
