//! Names in a zip archive, without unpacking anything (PKWARE's APPNOTE 6.3, sections 4.3 and 4.4).

use std::ops::Range;

/// Bytes of a central directory that are read: about 50 000 names.
const DIRECTORY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The names that are known of an archive.
#[derive(Debug)]
pub(crate) struct Members {
    names: Vec<String>,
}

impl Members {
    /// The names of the central directory; when there are none, those of the local headers at the start of the file.
    pub(crate) fn new(central: &[String], head: &[u8]) -> Self {
        let names = if central.is_empty() { local_names(head) } else { central.to_vec() };
        Self { names }
    }

    pub(crate) fn any(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.names.iter().any(|name| fits(name))
    }
}

/// Where the central directory is in a file of `size` bytes that ends with `tail`.
pub(crate) fn directory_range(tail: &[u8], size: u64) -> Option<Range<u64>> {
    let at = tail.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let end = tail.get(at..)?;
    let (mut length, mut start) = (u64::from(number(end, 12)?), u64::from(number(end, 16)?));
    if start == u64::from(u32::MAX) || length == u64::from(u32::MAX) {
        // Zip64: its own record of the end is before this one, when it is in the sample.
        let at = tail.windows(4).rposition(|window| window == b"PK\x06\x06")?;
        let end = tail.get(at..)?;
        (length, start) = (wide(end, 40)?, wide(end, 48)?);
    }
    let end = start.checked_add(length.min(DIRECTORY_BYTES_MAX))?;
    (start < end && end <= size).then_some(start..end)
}

/// The names in a central directory, as far as it is whole.
pub(crate) fn central_names(directory: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = directory;
    while rest.starts_with(b"PK\x01\x02") {
        let Some((name, after)) = entry(rest, 46, [28, 30, 32], 0) else { break };
        names.push(name);
        rest = after;
    }
    names
}

/// The names in the local headers that follow one another at the start of a file.
fn local_names(head: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = head;
    while rest.starts_with(b"PK\x03\x04") {
        let stored = number(rest, 18).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
        let Some(length) = short(rest, 26) else { break };
        let Some(name) = rest.get(30..30 + length) else { break };
        names.push(String::from_utf8_lossy(name).into_owned());
        match entry(rest, 30, [26, 28, 28], stored) {
            // Without the size, which then comes after the data, the next header cannot be found.
            Some((_, after)) if stored > 0 => rest = after,
            _ => break,
        }
    }
    names
}

/// A header's name and what follows it: fixed part, name, extra field, comment, data.
fn entry(bytes: &[u8], fixed: usize, lengths: [usize; 3], data: usize) -> Option<(String, &[u8])> {
    let [name, extra, comment] = lengths;
    let name_length = short(bytes, name)?;
    let extra_length = short(bytes, extra)?;
    // A local header has no comment: its offset is that of the extra field again.
    let comment_length = if comment == extra { 0 } else { short(bytes, comment)? };
    let name = bytes.get(fixed..fixed + name_length)?;
    let after = (fixed + name_length + extra_length + comment_length).checked_add(data)?;
    Some((String::from_utf8_lossy(name).into_owned(), bytes.get(after..)?))
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let two: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_le_bytes(two)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn wide(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
