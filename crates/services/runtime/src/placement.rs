//! How a model uses the CPUs: sessions, threads per run, and where a request runs. Pure.

use std::time::Duration;

/// Models below this gain nothing from a second thread: handing work over costs as much as it saves.
pub const TINY_COST_MAX: Duration = Duration::from_micros(1500);

/// Runs below this stay on the thread that read the request; longer ones would make its other connections wait.
pub const INLINE_COST_MAX: Duration = Duration::from_micros(200);

/// Bytes of model files up to which each CPU gets its own session; every session holds the weights once more.
pub const COPIED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One part in this of the memory that the process may use is what the files of all lanes may come to: their weights are packed
/// anew, and each has its own intermediate values.
const LANES_MEMORY_PART: u64 = 8;

/// Bytes of model files up to which a model is first taken for a tiny one, so that most models are opened once.
const TINY_BYTES_GUESS: u64 = 4 * 1024 * 1024;

/// How a model is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Sessions, each of which runs one request at a time.
    pub sessions: usize,
    /// Threads of one run.
    pub threads: usize,
}

/// An inline run that takes longer than this holds up a thread that reads requests: no other run joins it there.
pub const STUCK_AFTER: Duration = Duration::from_millis(1);

/// What a run is taken to cost until requests have shown better: made-up inputs may be cheap where real ones are not. Some ten
/// requests show it.
pub const UNPROVEN_COST: Duration = Duration::from_millis(1);

/// Weight of one run in the estimate of a model's cost is one in this: a run that the kernel interrupted is soon forgotten,
/// a model whose cost lies in its values is soon found out.
const LEARNING: u64 = 8;

/// What a run costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Time of a run.
    pub run: Duration,
    /// Bytes of its inputs.
    pub bytes: usize,
    /// Whether clients' inputs will be of that kind, but for the size of the batch.
    pub typical: bool,
}

/// The plan to measure a model of `model_bytes` with, on `cpus`.
pub fn guess(model_bytes: u64, cpus: usize) -> Plan {
    let threads = if model_bytes <= TINY_BYTES_GUESS { 1 } else { cpus };
    Plan { sessions: 1, threads }
}

/// The plan for a model whose run takes `cost`.
pub fn plan(cost: Cost, model_bytes: u64, cpus: usize) -> Plan {
    // Made-up images of a few pixels say nothing of real ones.
    let unknown = !cost.typical && model_bytes > TINY_BYTES_GUESS;
    if cost.run >= TINY_COST_MAX || unknown {
        return Plan { sessions: 1, threads: cpus };
    }
    let sessions = if model_bytes <= COPIED_BYTES_MAX { cpus } else { 1 };
    Plan { sessions, threads: 1 }
}

/// The lanes of a model that one run has all of `cpus` for: as many sessions as memory allows, at most one for each CPU, which
/// share the CPUs. `None` when there is memory for less than two.
pub fn lanes(model_bytes: u64, cpus: usize, memory_bytes_max: Option<u64>) -> Option<Plan> {
    let allowed = memory_bytes_max.map_or(COPIED_BYTES_MAX, |bytes| COPIED_BYTES_MAX.min(bytes / LANES_MEMORY_PART));
    let copies = allowed.checked_div(model_bytes.max(1)).unwrap_or(0);
    let sessions = usize::try_from(copies).unwrap_or(usize::MAX).min(cpus);
    (sessions > 1).then(|| Plan { sessions, threads: cpus.checked_div(sessions).unwrap_or(1).max(1) })
}

impl Cost {
    /// Whether a request with `bytes` of inputs should run where it was read. Cost is taken to grow with the inputs.
    pub fn inline(self, bytes: usize) -> bool {
        let measured = self.bytes.max(1);
        let nanos = scale(self.run, bytes.max(measured), measured);
        nanos < INLINE_COST_MAX
    }

    /// The cost to begin to serve with.
    pub fn unproven(self) -> Self {
        Self { run: self.run.max(UNPROVEN_COST), ..self }
    }

    /// The cost after one more run, which had `bytes` of inputs and took `took`.
    pub fn learn(self, bytes: usize, took: Duration) -> Self {
        let measured = self.bytes.max(1);
        let observed = nanos(scale(took, measured, bytes.max(measured)));
        let before = nanos(self.run);
        // Rounded towards the observation, so that the estimate reaches it.
        let after = if observed > before {
            before.saturating_add((observed - before).div_ceil(LEARNING))
        } else {
            before - (before - observed).div_ceil(LEARNING)
        };
        Self { run: Duration::from_nanos(after), ..self }
    }
}

fn scale(time: Duration, times: usize, over: usize) -> Duration {
    let wide = |value: usize| u128::try_from(value).unwrap_or(u128::MAX);
    let scaled = time.as_nanos().saturating_mul(wide(times)).checked_div(wide(over)).unwrap_or(u128::MAX);
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(micros: u64, bytes: usize) -> Cost {
        Cost { run: Duration::from_micros(micros), bytes, typical: true }
    }

    #[test]
    fn tiny_models_get_a_session_per_cpu_and_big_ones_all_cpus() {
        assert_eq!(plan(cost(20, 16), 1000, 8), Plan { sessions: 8, threads: 1 });
        assert_eq!(plan(cost(1499, 16), COPIED_BYTES_MAX + 1, 8), Plan { sessions: 1, threads: 1 });
        assert_eq!(plan(cost(1500, 16), 1000, 8), Plan { sessions: 1, threads: 8 });
        let made_up = Cost { typical: false, ..cost(20, 16) };
        assert_eq!(plan(made_up, 100_000_000, 8), Plan { sessions: 1, threads: 8 });
        assert_eq!(plan(made_up, 1000, 8), Plan { sessions: 8, threads: 1 });
        assert_eq!(guess(1000, 8).threads, 1);
        assert_eq!(guess(100_000_000, 8).threads, 8);
    }

    #[test]
    fn lanes_are_bounded_by_cpus_and_memory() {
        let mib = 1024 * 1024;
        assert_eq!(lanes(18 * mib, 2, None), Some(Plan { sessions: 2, threads: 1 }));
        assert_eq!(lanes(18 * mib, 32, None), Some(Plan { sessions: 14, threads: 2 }));
        assert_eq!(lanes(0, 4, None), Some(Plan { sessions: 4, threads: 1 }));
        assert_eq!(lanes(18 * mib, 1, None), None);
        assert_eq!(lanes(129 * mib, 8, None), None);
        assert_eq!(lanes(18 * mib, 2, Some(512 * mib)), Some(Plan { sessions: 2, threads: 1 }));
        assert_eq!(lanes(18 * mib, 2, Some(256 * mib)), None);
    }

    #[test]
    fn a_big_batch_of_a_tiny_model_does_not_run_inline() {
        assert!(cost(20, 16).inline(16));
        assert!(cost(20, 16).inline(0));
        assert!(!cost(20, 16).inline(160));
        assert!(!cost(200, 16).inline(16));
        assert!(!cost(1, 0).inline(usize::MAX));
    }

    #[test]
    fn the_cost_follows_what_runs_take() {
        let slow = |cost: Cost| cost.learn(16, Duration::from_secs(1));
        let fast = |cost: Cost| cost.learn(16, Duration::from_micros(20));
        let once = slow(cost(20, 16));
        assert!(!once.inline(16));
        // One slow run is forgotten after some tens of fast ones.
        let recovered = (0..80).fold(once, |cost, _| fast(cost));
        assert!(recovered.inline(16));
        let proven = (0..16).fold(cost(20, 16).unproven(), |cost, _| fast(cost));
        assert!(!cost(20, 16).unproven().inline(16) && proven.inline(16));
        let mut settled = cost(20, 16);
        for _ in 0..200 {
            settled = slow(settled);
        }
        assert_eq!(settled.run, Duration::from_secs(1));
        // Ten times the inputs for ten times the time is what was expected.
        assert_eq!(cost(20, 16).learn(160, Duration::from_micros(200)), cost(20, 16));
    }
}
