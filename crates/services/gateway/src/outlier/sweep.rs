//! The one task that ejects: it looks at every replica each second, and at once when one fails again and again.

use std::{sync::Arc, time::Duration};

use daemon::{BoxError, Supervisor};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

use super::judge;
use crate::{
    pool::Upstream,
    table::{Service, Table, Tables, Target},
};

/// How often all replicas are looked at: a second of requests to one that is slow is what it costs to find out.
const EVERY: Duration = Duration::from_secs(1);
/// Sweeps after which a window of errors ends; two windows count, so that one is always whole.
const WINDOW_SWEEPS: u32 = 10;

/// Wakes the sweep before its time.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Notify);

impl Alarm {
    /// A replica has failed often enough to be looked at.
    pub(crate) fn raise(&self) {
        self.0.notify_one();
    }
}

/// Looks at the replicas until the supervisor stops.
pub(crate) async fn sweep(tables: Arc<Tables>, alarm: Arc<Alarm>, supervisor: Supervisor) -> Result<(), BoxError> {
    let stop = supervisor.stopping();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweeps = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => sweeps = sweeps.wrapping_add(1),
            () = alarm.0.notified() => {}
            () = stop.cancelled() => return Ok(()),
        }
        look(&tables.load(), Instant::now());
        if sweeps >= WINDOW_SWEEPS {
            sweeps = 0;
            tables.load().services().flat_map(|service| service.upstreams()).for_each(|upstream| upstream.meter.turn());
        }
    }
}

fn look(table: &Table, now: Instant) {
    for service in table.services() {
        let out: usize = service.targets().iter().map(|target| look_at(service, target, now)).sum();
        service.metrics.outliers.ejected.set(i64::try_from(out).unwrap_or(i64::MAX));
    }
}

/// Judges the replicas of a revision, and gives how many are out.
fn look_at(service: &Service, target: &Target, now: Instant) -> usize {
    let upstreams = &target.upstreams;
    if upstreams.len() < 2 && !upstreams.iter().any(|upstream| upstream.meter.is_out(upstream.since_epoch(now))) {
        return 0;
    }
    let standings: Vec<_> =
        upstreams.iter().map(|upstream| upstream.meter.standing(upstream.since_epoch(now))).collect();
    let verdict = judge(&standings);
    for at in verdict.readmit {
        if let Some(upstream) = upstreams.get(at) {
            upstream.meter.readmit(upstream.since_epoch(now));
        }
    }
    for ejection in verdict.eject {
        let Some(upstream) = upstreams.get(ejection.at) else { continue };
        upstream.meter.eject(upstream.since_epoch(now), &ejection);
        service.metrics.outliers.ejected_for(ejection.why);
        let (replica, why, seconds) = (&upstream.endpoint().replica, ejection.why, ejection.time.as_secs());
        let (service, revision) = (&service.name, target.revision);
        tracing::warn!(service, %revision, %replica, "ejected for {seconds} s: {why}");
    }
    upstreams.iter().filter(|upstream| is_out(service, upstream, now)).count()
}

/// Whether a replica is out; says when it is not any more.
fn is_out(service: &Service, upstream: &Upstream, now: Instant) -> bool {
    let now_ms = upstream.since_epoch(now);
    if upstream.meter.is_out(now_ms) {
        upstream.meter.clear();
        return true;
    }
    if upstream.meter.has_returned(now_ms) {
        let (service, replica) = (&service.name, &upstream.endpoint().replica);
        tracing::info!(service, %replica, "readmitted: its part of the requests grows for {} s", super::RAMP.as_secs());
    }
    false
}
