//! Buffers of large bodies, used again: fresh memory of that size costs a page fault for every four KiB, every time.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bodies below this are in memory that the allocator keeps by itself.
const BYTES_MIN: usize = 128 * 1024;

/// Larger buffers are given back to the system.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// Buffers kept while nobody uses them: as many as requests of that size usually run and wait on one machine.
const KEPT_MAX: usize = 8;

/// What tensors are aligned to: every element has a size that divides it.
const ALIGNMENT: usize = 64;

/// Buffers that nobody uses. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A body being collected.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Bytes before the body.
    pad: usize,
    home: Buffers,
}

impl Buffers {
    /// A buffer for `declared` bytes, so placed that the byte at `aligned` begins a tensor.
    pub(super) fn take(&self, declared: usize, aligned: usize) -> Buffer {
        let wanted = declared.saturating_add(ALIGNMENT);
        let kept = if declared < BYTES_MIN { None } else { self.pop(wanted) };
        let mut bytes = kept.unwrap_or_default();
        bytes.reserve(wanted);
        let begins = bytes.as_ptr().addr().wrapping_add(aligned);
        let pad = begins.next_multiple_of(ALIGNMENT).wrapping_sub(begins);
        bytes.resize(pad, 0);
        Buffer { bytes, pad, home: self.clone() }
    }

    fn pop(&self, wanted: usize) -> Option<Vec<u8>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = kept.iter().position(|buffer| buffer.capacity() >= wanted)?;
        Some(kept.swap_remove(fits))
    }

    fn push(&self, mut buffer: Vec<u8>) {
        if (BYTES_MIN..=BYTES_MAX).contains(&buffer.capacity()) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT_MAX {
                buffer.clear();
                kept.push(buffer);
            }
        }
    }
}

impl Buffer {
    /// Bytes of the body so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.pad)
    }

    pub(super) fn extend(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The body; its buffer is used again when the last part of it has gone.
    pub(super) fn freeze(self) -> Bytes {
        let pad = self.pad;
        Bytes::from_owner(self).slice(pad..)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(buffers: &Buffers, len: usize, aligned: usize) -> Bytes {
        let mut buffer = buffers.take(len, aligned);
        buffer.extend(&vec![7; len / 2]);
        buffer.extend(&vec![9; len - len / 2]);
        assert_eq!(buffer.len(), len);
        buffer.freeze()
    }

    #[test]
    fn tensors_begin_where_their_elements_can_be_read() {
        let buffers = Buffers::default();
        for aligned in [0, 1, 103, 104, 4096] {
            let body = body(&buffers, 200_000, aligned);
            assert_eq!(body[aligned..].as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!((body.len(), body[0], body[199_999]), (200_000, 7, 9));
        }
        assert_eq!(body(&buffers, 3, 1).as_ref(), [7, 9, 9]);
    }

    #[test]
    fn a_buffer_is_used_again_once_its_last_part_has_gone() {
        let buffers = Buffers::default();
        let first = body(&buffers, 600_000, 0);
        let place = first.as_ptr();
        let part = first.slice(10..20);
        drop(first);
        assert!(buffers.0.lock().unwrap().is_empty());
        drop(part);
        assert_eq!(body(&buffers, 500_000, 0).as_ptr(), place);
    }

    #[test]
    fn few_are_kept_and_none_that_is_small_or_huge() {
        let buffers = Buffers::default();
        drop([1000, BYTES_MAX + 1].map(|len| body(&buffers, len, 0)));
        assert!(buffers.0.lock().unwrap().is_empty());
        let many: Vec<Bytes> = (0..20).map(|_| body(&buffers, BYTES_MIN, 0)).collect();
        drop(many);
        assert_eq!(buffers.0.lock().unwrap().len(), KEPT_MAX);
    }
}
