//! How long a plan and its check take, by number of services: one JSON object on a line for each.

#![expect(clippy::print_stdout, reason = "the measurements are the output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock that pure code does not")]

use std::time::Instant;

use planner::{Action, DesiredRevision, DesiredService, Input, ObservedReplica, Phase, check, plan};
use resources::{
    id::{BundleDigest, ReplicaId, Revision, ServiceName},
    scaling::Bounds,
};

/// Replicas of each service.
const REPLICAS: u32 = 2;
/// Services that have a new revision.
const CHANGED: usize = 1_000;
const ROUNDS: usize = 15;

fn main() {
    for services in [1_000, 3_000, 10_000, 30_000, 100_000] {
        let input = input(services);
        let mut plans: Vec<f64> = Vec::new();
        let mut checks: Vec<f64> = Vec::new();
        let mut starts = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let planned = plan(&input);
            plans.push(begun.elapsed().as_secs_f64() * 1000.0);
            let begun = Instant::now();
            assert_eq!(check(&input, &planned), Vec::<String>::new());
            checks.push(begun.elapsed().as_secs_f64() * 1000.0);
            starts = planned.actions.iter().filter(|action| matches!(action, Action::Start { .. })).count();
        }
        println!(
            r#"{{"services":{services},"replicas":{},"starts":{starts},"plan_ms":{:.3},"check_ms":{:.3}}}"#,
            input.replicas.len(),
            median(plans),
            median(checks)
        );
    }
}

/// Services whose replicas are all ready, the first [`CHANGED`] of them with a revision that has none yet.
fn input(services: usize) -> Input {
    let mut input = Input { now_ms: 1_000_000, gateway_acknowledged: 1, ..Input::default() };
    for number in 0..services {
        let Ok(name) = ServiceName::parse(&format!("service-{number}")) else { continue };
        let newest = if number < CHANGED { 2 } else { 1 };
        let revisions = (1..=newest).map(|revision| desired(revision, revision == 1)).collect();
        for replica in 0..REPLICAS {
            input.replicas.push(ready(&name, replica));
        }
        input.services.push(DesiredService {
            name,
            revisions,
            priority: 0,
            deleting: false,
            canary_percent: None,
            shadow_percent: None,
            sticky: None,
            rollout: None,
            windows: Vec::new(),
            outputs: Vec::new(),
            bounds: Bounds { min: REPLICAS, max: REPLICAS },
            held: 0,
        });
    }
    input
}

fn desired(revision: u64, promoted: bool) -> DesiredRevision {
    DesiredRevision {
        revision: Revision(revision),
        bundle: BundleDigest("sha256:0".to_owned()),
        bundle_present: true,
        replicas: REPLICAS,
        why: String::new(),
        timeout_ms: 60_000,
        container_concurrency: None,
        shortfalls: Vec::new(),
        completed: promoted,
        promoted,
        promoted_ms: None,
        rollout: None,
        wish: None,
    }
}

fn ready(service: &ServiceName, number: u32) -> ObservedReplica {
    let id = ReplicaId(format!("{service}-1-{number}"));
    ObservedReplica {
        socket: format!("/run/{id}.sock").into(),
        id,
        service: service.clone(),
        revision: Revision(1),
        pid: Some(1),
        phase: Phase::Ready { since_ms: 0 },
        silent_since_ms: None,
        busy_ms: 0,
        conditions: Vec::new(),
        missing: Vec::new(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
