//! The queue before a model's sessions: first in, first out, bounded by number and bytes, with deadlines. Pure.

use std::{collections::VecDeque, time::Instant};

/// Most requests that wait; at a tiny model's rate they are served within milliseconds, at a big one's no client waits so long.
pub const REQUESTS_MAX: usize = 1024;
/// Most bytes of inputs that wait: their bodies are in memory already.
pub const BYTES_MAX: usize = 512 * 1024 * 1024;

/// What waits, in order of arrival.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    limits: Limits,
}

/// Bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests_max: usize,
    /// Bytes of inputs; a single bigger request may still wait alone.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_max: REQUESTS_MAX, bytes_max: BYTES_MAX }
    }
}

/// One that waits.
#[derive(Debug)]
pub struct Waiting<T> {
    /// What is to be done.
    pub item: T,
    /// Bytes it holds.
    pub bytes: usize,
    /// After this it is not begun.
    pub deadline: Option<Instant>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Run it.
    Run(T),
    /// Its deadline has passed: answer without running it.
    Expired(T),
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, limits }
    }

    /// Appends, or gives the item back when the queue is full.
    pub fn push(&mut self, waiting: Waiting<T>) -> Result<(), T> {
        let bytes = self.bytes.saturating_add(waiting.bytes);
        let heavy = bytes > self.limits.bytes_max && !self.waiting.is_empty();
        if self.waiting.len() >= self.limits.requests_max || heavy {
            return Err(waiting.item);
        }
        self.bytes = bytes;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Takes the oldest.
    pub fn next(&mut self, now: Instant) -> Option<Next<T>> {
        let waiting = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        match waiting.deadline {
            Some(deadline) if deadline <= now => Some(Next::Expired(waiting.item)),
            _ => Some(Next::Run(waiting.item)),
        }
    }

    /// Forgets what nobody waits for any more.
    pub fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        self.waiting.retain(|waiting| !gone(&waiting.item));
        self.bytes = self.waiting.iter().map(|waiting| waiting.bytes).fold(0, usize::saturating_add);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn waiting(item: u32, bytes: usize, deadline: Option<Instant>) -> Waiting<u32> {
        Waiting { item, bytes, deadline }
    }

    #[test]
    fn first_in_first_out_and_the_expired_are_not_run() {
        let now = Instant::now();
        let mut queue = Queue::new(Limits::default());
        queue.push(waiting(1, 1, None)).unwrap();
        queue.push(waiting(2, 1, Some(now))).unwrap();
        queue.push(waiting(3, 1, Some(now + Duration::from_nanos(1)))).unwrap();
        assert_eq!(queue.next(now), Some(Next::Run(1)));
        assert_eq!(queue.next(now), Some(Next::Expired(2)));
        assert_eq!(queue.next(now), Some(Next::Run(3)));
        assert_eq!(queue.next(now), None);
    }

    #[test]
    fn it_is_bounded_by_number_and_bytes() {
        let mut queue = Queue::new(Limits { requests_max: 2, bytes_max: 10 });
        queue.push(waiting(1, 99, None)).unwrap();
        assert_eq!(queue.push(waiting(2, 1, None)), Err(2));
        queue.next(Instant::now());
        queue.push(waiting(3, 9, None)).unwrap();
        assert_eq!(queue.push(waiting(4, 2, None)), Err(4));
        queue.push(waiting(5, 1, None)).unwrap();
        assert_eq!(queue.push(waiting(6, 0, None)), Err(6));
        queue.forget(|item| *item == 3);
        queue.push(waiting(7, 9, None)).unwrap();
        assert_eq!(queue.next(Instant::now()), Some(Next::Run(5)));
    }
}
