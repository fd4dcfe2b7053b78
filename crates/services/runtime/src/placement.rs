//! How a model uses the CPUs: sessions, threads per run, and where a request runs. Pure.

use std::time::Duration;

/// Models below this gain nothing from a second thread: handing work over costs as much as it saves.
pub const TINY_COST_MAX: Duration = Duration::from_micros(1500);

/// Runs below this stay on the thread that read the request; longer ones would make its other connections wait.
pub const INLINE_COST_MAX: Duration = Duration::from_micros(200);

/// Bytes of model files up to which each CPU gets its own session; every session holds the weights once more.
pub const COPIED_BYTES_MAX: u64 = 256 * 1024 * 1024;

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

/// What a run costs, measured after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Time of a run.
    pub run: Duration,
    /// Bytes of its inputs.
    pub bytes: usize,
}

/// The plan to measure a model of `model_bytes` with, on `cpus`.
pub fn guess(model_bytes: u64, cpus: usize) -> Plan {
    let threads = if model_bytes <= TINY_BYTES_GUESS { 1 } else { cpus };
    Plan { sessions: 1, threads }
}

/// The plan for a model whose run takes `cost`.
pub fn plan(cost: Cost, model_bytes: u64, cpus: usize) -> Plan {
    if cost.run >= TINY_COST_MAX {
        return Plan { sessions: 1, threads: cpus };
    }
    let sessions = if model_bytes <= COPIED_BYTES_MAX { cpus } else { 1 };
    Plan { sessions, threads: 1 }
}

impl Cost {
    /// Whether a request with `bytes` of inputs should run where it was read. Cost is taken to grow with the inputs.
    pub fn inline(self, bytes: usize) -> bool {
        let measured = u128::try_from(self.bytes.max(1)).unwrap_or(u128::MAX);
        let asked = u128::try_from(bytes).unwrap_or(u128::MAX).max(measured);
        let nanos = self.run.as_nanos().saturating_mul(asked).checked_div(measured).unwrap_or(u128::MAX);
        nanos < INLINE_COST_MAX.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(micros: u64, bytes: usize) -> Cost {
        Cost { run: Duration::from_micros(micros), bytes }
    }

    #[test]
    fn tiny_models_get_a_session_per_cpu_and_big_ones_all_cpus() {
        assert_eq!(plan(cost(20, 16), 1000, 8), Plan { sessions: 8, threads: 1 });
        assert_eq!(plan(cost(1499, 16), COPIED_BYTES_MAX + 1, 8), Plan { sessions: 1, threads: 1 });
        assert_eq!(plan(cost(1500, 16), 1000, 8), Plan { sessions: 1, threads: 8 });
        assert_eq!(guess(1000, 8).threads, 1);
        assert_eq!(guess(100_000_000, 8).threads, 8);
    }

    #[test]
    fn a_big_batch_of_a_tiny_model_does_not_run_inline() {
        assert!(cost(20, 16).inline(16));
        assert!(cost(20, 16).inline(0));
        assert!(!cost(20, 16).inline(160));
        assert!(!cost(200, 16).inline(16));
        assert!(!cost(1, 0).inline(usize::MAX));
    }
}
