//! How many replicas keep 99 of 100 requests within an objective: a queue with several servers.
//!
//! The chance to wait is Erlang's C formula; how long, falls off exponentially at the rate of heavy traffic for general
//! arrivals and service times (Allen and Cunneen's factor of the two variations).

use super::number::ceiling;

/// Share of requests that may be late: half of the one in a hundred, the rest is for the slowest of the model's own answers.
const LATE_MAX: f64 = 0.005;
/// Servers up to which the formula is evaluated; with more it says no more than utilisation does.
const SERVERS_MAX: u32 = 4096;
/// Share of the capacity that is filled where the model alone is as slow as the objective.
const HOPELESS_UTILISATION: f64 = 0.5;

/// The work of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// Mean time at a replica, milliseconds.
    pub mean_ms: f64,
    /// Time that 995 of 1000 stay below.
    pub slow_ms: f64,
    /// Variance by the square of the mean.
    pub variation: f64,
}

/// What the queue needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Need {
    /// Replicas.
    pub replicas: u32,
    /// Share of requests that are late with them.
    pub late: f64,
    /// Whether any number of replicas could keep the objective.
    pub attainable: bool,
}

/// Requests per second, how irregularly they come, and what each replica does at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    pub rate: f64,
    pub dispersion: f64,
    pub concurrency: u32,
}

/// The fewest replicas, at most `most`, with which the objective is kept.
pub(super) fn replicas_for(load: Load, work: Work, objective_ms: f64, most: u32) -> Need {
    let busy = load.rate * work.mean_ms / 1000.0;
    let each = load.concurrency.max(1);
    let slack = objective_ms - work.slow_ms;
    if slack <= 0.0 {
        let replicas = ceiling(busy / f64::from(each) / HOPELESS_UTILISATION).clamp(1, most.max(1));
        return Need { replicas, late: 1.0, attainable: false };
    }
    let irregular = (load.dispersion + work.variation).max(0.05) / 2.0;
    let mut blocked = 1.0;
    let (mut servers, mut need) = (0_u32, Need { replicas: 1, late: 0.0, attainable: true });
    for replicas in 1..=most.max(1) {
        for _ in 0..each.min(SERVERS_MAX) {
            servers += 1;
            // Erlang's B, by its recursion.
            blocked = busy * blocked / (f64::from(servers) + busy * blocked);
        }
        let idle = f64::from(servers) - busy;
        let late = if idle > 0.0 {
            let waits = f64::from(servers) * blocked / (f64::from(servers) - busy * (1.0 - blocked));
            waits * (-idle * slack / work.mean_ms / irregular).exp()
        } else {
            1.0
        };
        need = Need { replicas, late, attainable: true };
        if late <= LATE_MAX || servers >= SERVERS_MAX {
            break;
        }
    }
    need
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work { mean_ms: 100.0, slow_ms: 100.0, variation: 0.0 };

    fn need(rate: f64, objective_ms: f64) -> Need {
        replicas_for(Load { rate, dispersion: 1.0, concurrency: 1 }, WORK, objective_ms, 64)
    }

    /// Erlang's C for 8 erlangs on 10 servers is 0.409 (any table), and the exponent of an M/D/10 queue is known.
    #[test]
    fn the_formula_is_erlangs() {
        let exactly = Work { variation: 1.0, ..WORK };
        let load = Load { rate: 80.0, dispersion: 1.0, concurrency: 1 };
        let need = replicas_for(load, exactly, 100.0 + 1e-9, 10);
        assert_eq!(need.replicas, 10);
        assert!((need.late - 0.409).abs() < 0.001, "{need:?}");
        let later = replicas_for(load, exactly, 200.0, 10);
        assert!((later.late - 0.409 * (-2.0_f64).exp()).abs() < 0.001, "{later:?}");
    }

    #[test]
    fn more_load_or_less_time_never_needs_fewer() {
        let rates: Vec<u32> = (0..200).map(|rate| need(f64::from(rate), 250.0).replicas).collect();
        assert!(rates.is_sorted(), "{rates:?}");
        let objectives: Vec<u32> = (11..100).map(|tens| need(50.0, f64::from(tens) * 10.0).replicas).collect();
        assert!(objectives.iter().rev().is_sorted(), "{objectives:?}");
        assert_eq!(need(0.0, 250.0).replicas, 1);
    }

    #[test]
    fn what_no_number_of_replicas_can_do_is_said() {
        let hopeless = need(100.0, 90.0);
        assert!(!hopeless.attainable);
        assert_eq!(hopeless.replicas, 20);
        assert_eq!(need(1e6, 250.0).replicas, 64);
    }
}
