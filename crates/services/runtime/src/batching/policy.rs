//! Which of the waiting requests run next, together. Pure.

use std::time::{Duration, Instant};

use resources::inference_service::{BATCH_LATENCY_MS_MAX, BATCH_SIZE_DEFAULT, BATCH_SIZE_MAX};

/// Rows of a batch, unless told otherwise.
pub const ROWS_MAX_DEFAULT: usize = BATCH_SIZE_DEFAULT as usize;

/// Most rows one may ask for.
pub const ROWS_MAX: usize = BATCH_SIZE_MAX as usize;

/// Longest wait one may ask for.
pub const LATENCY_MAX: Duration = Duration::from_millis(BATCH_LATENCY_MS_MAX as u64);

/// Bytes of the inputs of a batch. Rows that are bigger than a part of this keep all CPUs busy by themselves: joining
/// eight images of 600 KB took a tenth more CPU for each, and memory.
pub const BYTES_MAX: usize = 1024 * 1024;

/// Bounds of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Rows; below two nothing is joined. A single request with more still runs, alone.
    pub rows_max: usize,
    /// Bytes of inputs. A single request with more still runs, alone.
    pub bytes_max: usize,
    /// Requests; what is beyond is left to another session that is free.
    pub requests_max: usize,
    /// How long a request waits for company while a session is idle.
    pub latency_max: Duration,
}

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a, G> {
    /// What it may be joined with; `None` when with nothing.
    pub group: Option<&'a G>,
    /// Its rows.
    pub rows: usize,
    /// Bytes of its inputs.
    pub bytes: usize,
    /// When it came.
    pub arrived: Instant,
    /// When it is no longer wanted.
    pub deadline: Option<Instant>,
}

/// What a session that is free does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Runs these, by their places, the oldest first.
    Run(Vec<usize>),
    /// Looks again then, or when another request has come.
    WaitUntil(Instant),
}

impl Policy {
    /// Every request runs by itself.
    pub const OFF: Self =
        Self { rows_max: 1, bytes_max: BYTES_MAX, requests_max: usize::MAX, latency_max: Duration::ZERO };

    /// Whether requests are joined at all.
    pub fn joins(&self) -> bool {
        self.rows_max > 1
    }

    /// Whether a request may wait for company.
    pub fn waits(&self) -> bool {
        self.joins() && !self.latency_max.is_zero()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { rows_max: ROWS_MAX_DEFAULT, ..Self::OFF }
    }
}

/// What to do about `waiting`, whose entries have their places and are in order of arrival; `None` when nothing waits.
///
/// The oldest runs next, whatever comes with it: nobody can push in before it. With it go those of its group in their order,
/// up to the first that does not fit. So a client that sends much gets as much of each batch as it has of the queue, and
/// holds up the others by the runs that were before theirs anyway.
///
/// It waits only where `policy` says so, and never while a request waits that could not join, nor past a deadline.
pub fn decide<'a, G: PartialEq + 'a>(
    policy: &Policy,
    waiting: impl IntoIterator<Item = (usize, Entry<'a, G>)>,
    now: Instant,
) -> Option<Decision> {
    let mut waiting = waiting.into_iter();
    let (place, oldest) = waiting.next()?;
    let mut members = vec![place];
    let Some(group) = oldest.group.filter(|_| policy.joins()) else {
        return Some(Decision::Run(members));
    };
    let (mut rows, mut bytes) = (oldest.rows, oldest.bytes);
    let mut deadline = oldest.deadline;
    let mut closed = rows >= policy.rows_max || bytes >= policy.bytes_max || policy.requests_max <= 1;
    let mut stranger = false;
    while !closed && let Some((place, entry)) = waiting.next() {
        if entry.group != Some(group) {
            stranger = true;
            continue;
        }
        rows = rows.saturating_add(entry.rows);
        bytes = bytes.saturating_add(entry.bytes);
        if rows > policy.rows_max || bytes > policy.bytes_max {
            closed = true;
        } else {
            members.push(place);
            deadline = deadline.into_iter().chain(entry.deadline).min();
            closed = rows == policy.rows_max || members.len() >= policy.requests_max;
        }
    }
    let until = oldest.arrived.checked_add(policy.latency_max);
    match until {
        Some(until) if !closed && !stranger && until > now && deadline.is_none_or(|deadline| deadline > until) => {
            Some(Decision::WaitUntil(until))
        }
        _ => Some(Decision::Run(members)),
    }
}

#[cfg(test)]
mod tests;
