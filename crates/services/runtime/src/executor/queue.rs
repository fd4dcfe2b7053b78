//! The queue before a model's sessions: first in, first out, bounded by number and bytes, with deadlines. Pure.

use std::{collections::VecDeque, time::Instant};

use crate::batching::{
    join::Group,
    policy::{self, Decision, Entry, Policy},
};

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
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting<T> {
    /// What is to be done.
    pub item: T,
    /// Bytes it holds.
    pub bytes: usize,
    /// Rows it has.
    pub rows: usize,
    /// What it may run together with; `None` when it runs by itself.
    pub group: Option<Group>,
    /// When it came.
    pub arrived: Instant,
    /// After this it is not begun.
    pub deadline: Option<Instant>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Run these together: one or more, the oldest first.
    Run(Vec<Waiting<T>>),
    /// Its deadline has passed: answer without running it.
    Expired(T),
    /// They wait for company: look again then.
    WaitUntil(Instant),
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

    /// Takes the oldest, and what runs with it by `policy`. What is `gone` or whose deadline has passed never runs.
    pub fn next(&mut self, policy: &Policy, now: Instant, gone: impl Fn(&T) -> bool) -> Option<Next<T>> {
        while self.waiting.front().is_some_and(|oldest| gone(&oldest.item)) {
            self.take(0);
        }
        if self.waiting.front()?.is_expired(now) {
            return self.take(0).map(|expired| Next::Expired(expired.item));
        }
        let alive = self.waiting.iter().enumerate();
        let alive = alive.filter(|(_, waiting)| !waiting.is_expired(now) && !gone(&waiting.item));
        match policy::decide(policy, alive.map(|(at, waiting)| (at, waiting.entry())), now)? {
            Decision::WaitUntil(until) => Some(Next::WaitUntil(until)),
            Decision::Run(places) => {
                // From the back, so that the places before it stay what they are.
                let mut batch: Vec<_> = places.into_iter().rev().filter_map(|at| self.take(at)).collect();
                batch.reverse();
                Some(Next::Run(batch))
            }
        }
    }

    fn take(&mut self, at: usize) -> Option<Waiting<T>> {
        let waiting = self.waiting.remove(at)?;
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        Some(waiting)
    }

    /// Forgets what nobody waits for any more.
    pub fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        self.waiting.retain(|waiting| !gone(&waiting.item));
        self.bytes = self.waiting.iter().map(|waiting| waiting.bytes).fold(0, usize::saturating_add);
    }

    /// How many wait, those that are gone or expired included.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<T> Waiting<T> {
    /// Whether its deadline has passed.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn entry(&self) -> Entry<'_, Group> {
        let Self { item: _, bytes, rows, ref group, arrived, deadline } = *self;
        Entry { group: group.as_ref(), rows, bytes, arrived, deadline }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use inference::{Datatype, InferRequest, ModelMetadata, Tensor, TensorData, TensorSpec};

    use super::*;
    use crate::batching::join::Signature;

    fn waiting(item: u32, bytes: usize, deadline: Option<Instant>) -> Waiting<u32> {
        Waiting { item, bytes, rows: 1, group: None, arrived: Instant::now(), deadline }
    }

    /// A group that all its requests share.
    fn group() -> Option<Group> {
        let spec = TensorSpec { name: "x".into(), datatype: Datatype::Uint8, shape: vec![-1] };
        let specs = vec![spec];
        let metadata = ModelMetadata {
            name: "m".into(),
            versions: vec![],
            platform: String::new(),
            inputs: specs.clone(),
            outputs: specs,
        };
        let data = TensorData::Fixed(Bytes::from_static(&[0]));
        let x = Tensor { name: "x".into(), datatype: Datatype::Uint8, shape: vec![1], parameters: vec![], data };
        Signature::of(&metadata)?.group(&InferRequest { inputs: vec![x], ..InferRequest::default() })
    }

    /// What runs next, by its items.
    fn next(queue: &mut Queue<u32>, now: Instant) -> Option<Result<Vec<u32>, u32>> {
        match queue.next(&Policy::default(), now, |item| *item >= 100)? {
            Next::Run(batch) => Some(Ok(batch.into_iter().map(|waiting| waiting.item).collect())),
            Next::Expired(item) => Some(Err(item)),
            Next::WaitUntil(_) => None,
        }
    }

    #[test]
    fn first_in_first_out_and_the_expired_are_not_run() {
        let now = Instant::now();
        let mut queue = Queue::new(Limits::default());
        queue.push(waiting(1, 1, None)).unwrap();
        queue.push(waiting(2, 1, Some(now))).unwrap();
        queue.push(waiting(3, 1, Some(now + Duration::from_nanos(1)))).unwrap();
        assert_eq!(next(&mut queue, now), Some(Ok(vec![1])));
        assert_eq!(next(&mut queue, now), Some(Err(2)));
        assert_eq!(next(&mut queue, now), Some(Ok(vec![3])));
        assert_eq!(next(&mut queue, now), None);
    }

    #[test]
    fn a_batch_leaves_out_the_expired_the_gone_and_the_others() {
        let now = Instant::now();
        let mut queue = Queue::new(Limits { requests_max: 7, bytes_max: 70 });
        let joined = |item, deadline| Waiting { group: group(), ..waiting(item, 10, deadline) };
        queue.push(joined(100, None)).unwrap();
        queue.push(joined(1, None)).unwrap();
        queue.push(joined(2, Some(now))).unwrap();
        queue.push(waiting(3, 10, None)).unwrap();
        queue.push(joined(101, None)).unwrap();
        queue.push(joined(4, None)).unwrap();
        queue.push(joined(5, None)).unwrap();
        assert_eq!(queue.push(waiting(6, 1, None)), Err(6));
        assert_eq!(next(&mut queue, now), Some(Ok(vec![1, 4, 5])));
        queue.push(waiting(6, 40, None)).unwrap();
        assert_eq!(queue.push(waiting(7, 1, None)), Err(7));
        assert_eq!(next(&mut queue, now), Some(Err(2)));
        assert_eq!(next(&mut queue, now), Some(Ok(vec![3])));
        assert_eq!(next(&mut queue, now), Some(Ok(vec![6])));
        assert!(next(&mut queue, now).is_none() && queue.is_empty());
    }

    #[test]
    fn it_is_bounded_by_number_and_bytes() {
        let mut queue = Queue::new(Limits { requests_max: 2, bytes_max: 10 });
        queue.push(waiting(1, 99, None)).unwrap();
        assert_eq!(queue.push(waiting(2, 1, None)), Err(2));
        next(&mut queue, Instant::now());
        queue.push(waiting(3, 9, None)).unwrap();
        assert_eq!(queue.push(waiting(4, 2, None)), Err(4));
        queue.push(waiting(5, 1, None)).unwrap();
        assert_eq!(queue.push(waiting(6, 0, None)), Err(6));
        queue.forget(|item| *item == 3);
        queue.push(waiting(7, 9, None)).unwrap();
        assert_eq!(next(&mut queue, Instant::now()), Some(Ok(vec![5])));
    }
}
