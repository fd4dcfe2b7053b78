//! Which replicas get no requests for a while because they do worse than their siblings: a pure function of what was seen of each.
//!
//! The numbers start from those of Envoy's outlier detection, from which the shape is: failures in a row, an error share that stands
//! out, a time that grows with each ejection, a part of the replicas that always stays. Latency is judged beside them. What all replicas
//! do is no one's fault: each rule needs siblings that do better.

use std::time::Duration;

use crate::error::Protocol;

mod meter;
mod metrics;
mod sweep;

pub(crate) use meter::Meter;
pub(crate) use metrics::{Families, OutlierMetrics};
pub(crate) use sweep::{Alarm, sweep};

/// Failures in a row after which a replica is ejected, as Envoy has it.
pub(crate) const IN_A_ROW: u32 = 5;
/// Answers that a share of errors is told from.
const ANSWERED_MIN: u32 = 20;
/// A smaller share of errors ejects nobody.
const ERROR_SHARE_MIN: f64 = 0.2;
/// How many times the siblings' share of errors a replica's has to be.
const ERROR_TIMES: f64 = 4.0;
/// Answers after which the mean latency of a replica is believed; the mean then is of about as many.
const SAMPLES_MIN: u32 = 30;
/// Siblings whose latencies make a median.
const SIBLINGS_MIN: usize = 3;
/// How many times the median of its siblings' latencies a replica's has to be.
const LATENCY_TIMES: f64 = 4.0;
/// And by how much longer: of a model that takes tens of microseconds a pause of the machine makes four times that.
const LATENCY_MORE_US: f64 = 5_000.0;
/// Time that the first ejection takes; each further one takes as much more.
const OUT_BASE: Duration = Duration::from_secs(30);
/// Longest ejection.
const OUT_MAX: Duration = Duration::from_secs(300);
/// Time without an ejection after which the next is a first one again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);
/// Time over which a replica that comes back gets its full part of the requests.
pub(crate) const RAMP: Duration = Duration::from_secs(30);
/// What it gets at once, in thousandths.
const RAMP_FROM: u64 = 100;

/// What one answer says of its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It does its work, whatever it thinks of the request.
    Fine,
    /// It failed by its own fault.
    Fault,
}

/// What an answer with this outcome says of its replica. Nothing where it is busy, stopping or out of time: that is dealt with elsewhere.
pub(crate) fn told(protocol: Protocol, status: u16, grpc_status: Option<u16>) -> Option<Told> {
    match (protocol, status, grpc_status) {
        (_, 501 | 503 | 504, _) | (Protocol::Grpc, _, Some(1 | 4 | 8 | 12 | 14)) => None,
        (_, 500.., _) | (Protocol::Grpc, _, Some(2 | 13 | 15)) => Some(Told::Fault),
        _ => Some(Told::Fine),
    }
}

/// One replica of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// How much longer it is out; zero when it is not.
    pub out: Duration,
    /// How often it has been ejected.
    pub ejections: u32,
    /// Time since it came back, or since it is known.
    pub back: Duration,
    /// Its failures since it last answered.
    pub in_a_row: u32,
    /// Its answers in the last windows, failures among them.
    pub answered: u32,
    /// Its failures in the last windows.
    pub failed: u32,
    /// Answers that its latency is the mean of.
    pub samples: u32,
    /// Geometric mean of the times until an answer begins, the last ones counting most; microseconds.
    pub latency_us: f64,
}

impl Standing {
    fn is_out(&self) -> bool {
        !self.out.is_zero()
    }
}

/// Why a replica is ejected, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Why {
    /// So many failures in a row.
    InARow(u32),
    /// So many failures of so many answers, and those of its siblings.
    ErrorShare { failed: u32, answered: u32, others_failed: u32, others_answered: u32 },
    /// Its mean latency and the median of its siblings'.
    Latency { us: f64, median_us: f64 },
}

impl Why {
    /// As a label.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::InARow(_) => "failures",
            Self::ErrorShare { .. } => "error_share",
            Self::Latency { .. } => "latency",
        }
    }

    /// The rule and how far it was passed: what is worse comes first.
    fn rank(self) -> (u8, f64) {
        match self {
            Self::InARow(failures) => (2, f64::from(failures)),
            Self::ErrorShare { failed, answered, .. } => (1, f64::from(failed) / f64::from(answered.max(1))),
            Self::Latency { us, median_us } => (0, us / median_us.max(1.0)),
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InARow(failures) => write!(f, "{failures} failures in a row"),
            Self::ErrorShare { failed, answered, others_failed, others_answered } => {
                write!(
                    f,
                    "{failed} of {answered} answers failed, {others_failed} of {others_answered} of its siblings'"
                )
            }
            Self::Latency { us, median_us } => {
                let (ms, median_ms) = (us / 1000.0, median_us / 1000.0);
                write!(f, "its answers begin after {ms:.1} ms, its siblings' after {median_ms:.1} ms")
            }
        }
    }
}

/// A replica that gets no requests for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ejection {
    /// Its place in the list.
    pub at: usize,
    /// Why.
    pub why: Why,
    /// How often it has been ejected, this time included.
    pub ejections: u32,
    /// For how long.
    pub time: Duration,
}

/// What changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Replicas to eject.
    pub eject: Vec<Ejection>,
    /// Replicas that come back before their time, because too many are out.
    pub readmit: Vec<usize>,
}

/// Judges the replicas of one revision beside each other. At most half of them are out, and so never the last one.
pub(crate) fn judge(replicas: &[Standing]) -> Verdict {
    let out_max = replicas.len() / 2;
    let mut out: Vec<usize> =
        (0..replicas.len()).filter(|at| replicas.get(*at).is_some_and(Standing::is_out)).collect();
    out.sort_by_key(|at| replicas.get(*at).map(|replica| replica.out));
    let readmit: Vec<usize> = out.iter().take(out.len().saturating_sub(out_max)).copied().collect();
    let room = out_max.saturating_sub(out.len());
    if room == 0 {
        return Verdict { eject: Vec::new(), readmit };
    }
    let serving: Vec<(usize, &Standing)> = replicas.iter().enumerate().filter(|(_, one)| !one.is_out()).collect();
    let mut found: Vec<(usize, &Standing, Why)> = serving
        .iter()
        .filter_map(|(at, one)| {
            let others: Vec<&Standing> = serving.iter().filter(|(other, _)| other != at).map(|(_, one)| *one).collect();
            Some((*at, *one, stands_out(one, &others)?))
        })
        .collect();
    found.sort_by(|(_, _, a), (_, _, b)| {
        let (a, b) = (a.rank(), b.rank());
        b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    found.truncate(room);
    let eject = found.into_iter().map(|(at, one, why)| {
        let ejections = if one.back >= FORGIVEN_AFTER { 1 } else { one.ejections.saturating_add(1) };
        Ejection { at, why, ejections, time: OUT_BASE.saturating_mul(ejections).min(OUT_MAX) }
    });
    Verdict { eject: eject.collect(), readmit }
}

fn stands_out(one: &Standing, others: &[&Standing]) -> Option<Why> {
    if one.in_a_row >= IN_A_ROW && others.iter().any(|other| other.in_a_row < IN_A_ROW) {
        return Some(Why::InARow(one.in_a_row));
    }
    error_share(one, others).or_else(|| latency(one, others))
}

fn error_share(one: &Standing, others: &[&Standing]) -> Option<Why> {
    let sum = |of: fn(&Standing) -> u32| others.iter().fold(0_u32, |sum, other| sum.saturating_add(of(other)));
    let (others_failed, others_answered) = (sum(|other| other.failed), sum(|other| other.answered));
    if one.answered < ANSWERED_MIN || others_answered < ANSWERED_MIN {
        return None;
    }
    let share = f64::from(one.failed) / f64::from(one.answered);
    let others_share = f64::from(others_failed) / f64::from(others_answered);
    let (failed, answered) = (one.failed, one.answered);
    (share >= ERROR_SHARE_MIN && share >= ERROR_TIMES * others_share).then_some(Why::ErrorShare {
        failed,
        answered,
        others_failed,
        others_answered,
    })
}

fn latency(one: &Standing, others: &[&Standing]) -> Option<Why> {
    let known = |standing: &&&Standing| standing.samples >= SAMPLES_MIN;
    let mut latencies: Vec<f64> = others.iter().filter(known).map(|other| other.latency_us).collect();
    if one.samples < SAMPLES_MIN || latencies.len() < SIBLINGS_MIN {
        return None;
    }
    latencies.sort_by(f64::total_cmp);
    // Of an even number the larger of the two in the middle: in doubt nobody is ejected.
    let median_us = *latencies.get(latencies.len() / 2)?;
    let us = one.latency_us;
    (us >= LATENCY_TIMES * median_us && us >= median_us + LATENCY_MORE_US).then_some(Why::Latency { us, median_us })
}

/// Of a thousand draws, how many a replica takes that has been back for so long.
pub(crate) fn ramp(back: Duration) -> u64 {
    let ramp = u64::try_from(RAMP.as_millis()).unwrap_or(u64::MAX);
    let back = u64::try_from(back.as_millis()).unwrap_or(u64::MAX).min(ramp);
    RAMP_FROM + (1000 - RAMP_FROM) * back / ramp
}

#[cfg(test)]
mod tests;
