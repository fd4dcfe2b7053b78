//! The invariants of every plan, checked before it is applied.

use std::collections::BTreeSet;

use crate::{
    input::{Input, ObservedReplica, Phase},
    output::{Action, Plan},
    service::LEAVE_MS_MAX,
};

/// Says which invariants `plan` breaks; empty for a good plan.
pub fn check(input: &Input, plan: &Plan) -> Vec<String> {
    let mut broken = Vec::new();
    routes_only_ready(input, plan, &mut broken);
    acts_once(plan, &mut broken);
    stops_only_left(input, plan, &mut broken);
    bounded_replicas(input, plan, &mut broken);
    never_empty(input, plan, &mut broken);
    broken
}

fn find<'a>(input: &'a Input, id: &resources::id::ReplicaId) -> Option<&'a ObservedReplica> {
    input.replicas.iter().find(|replica| &replica.id == id)
}

/// Requests go to replicas that answer, of the service and revision that the route says.
fn routes_only_ready(input: &Input, plan: &Plan, broken: &mut Vec<String>) {
    for route in &plan.routes {
        for revision in &route.revisions {
            for endpoint in &revision.endpoints {
                let right = find(input, &endpoint.replica).is_some_and(|replica| {
                    replica.phase == Phase::Ready
                        && replica.service == route.name
                        && replica.revision == revision.revision
                });
                if !right {
                    broken.push(format!(
                        "{} is routed but does not serve revision {}",
                        endpoint.replica, revision.revision
                    ));
                }
            }
        }
    }
}

/// No replica is acted on twice in one plan.
fn acts_once(plan: &Plan, broken: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for action in &plan.actions {
        let (Action::Leave { replica, .. }
        | Action::Stop { replica, .. }
        | Action::Kill { replica, .. }
        | Action::Forget { replica }) = action
        else {
            continue;
        };
        if !seen.insert(replica) {
            broken.push(format!("{replica} is acted on twice"));
        }
    }
}

/// A replica that answers leaves the routes before it stops, and stops once no gateway sends it requests.
fn stops_only_left(input: &Input, plan: &Plan, broken: &mut Vec<String>) {
    for action in &plan.actions {
        let Action::Stop { replica, .. } = action else { continue };
        let Some(observed) = find(input, replica) else {
            broken.push(format!("{replica} is stopped but not there"));
            continue;
        };
        let stray = !input.services.iter().any(|service| service.name == observed.service);
        let allowed = match observed.phase {
            Phase::Leaving { since_ms, generation } => {
                input.gateway_acknowledged >= generation || input.now_ms >= since_ms + LEAVE_MS_MAX
            }
            Phase::Starting { .. } | Phase::Ready => stray,
            Phase::Stopping { .. } | Phase::Exited { .. } => false,
        };
        if !allowed && !stray {
            broken.push(format!("{replica} is stopped while a gateway may send it requests"));
        }
    }
}

/// A rollout needs at most twice the replicas.
fn bounded_replicas(input: &Input, plan: &Plan, broken: &mut Vec<String>) {
    for service in &input.services {
        let started = plan
            .actions
            .iter()
            .filter(|action| matches!(action, Action::Start { service: name, .. } if name == &service.name));
        let live = input
            .replicas_of(&service.name)
            .filter(|replica| matches!(replica.phase, Phase::Starting { .. } | Phase::Ready));
        let started = started.count();
        let total = started + live.count();
        let largest = service.revisions.iter().map(|revision| revision.min_replicas).max().unwrap_or(0);
        let bound = 2 * usize::try_from(largest).unwrap_or(usize::MAX / 2);
        if started > 0 && total > bound.max(1) {
            broken.push(format!("{} would have {total} replicas, more than {bound}", service.name));
        }
    }
}

/// The last replica that answers goes only when its service goes, or when another revision answers instead.
fn never_empty(input: &Input, plan: &Plan, broken: &mut Vec<String>) {
    for service in input.services.iter().filter(|service| !service.deleting) {
        let ready: BTreeSet<_> = input
            .replicas_of(&service.name)
            .filter(|replica| replica.phase == Phase::Ready)
            .map(|replica| &replica.id)
            .collect();
        let leaving = plan
            .actions
            .iter()
            .filter(|action| matches!(action, Action::Leave { replica, .. } if ready.contains(replica)))
            .count();
        let zero_wanted = service.newest().is_none_or(|newest| newest.min_replicas == 0);
        if leaving > 0 && leaving == ready.len() && !zero_wanted {
            broken.push(format!("every ready replica of {} would leave", service.name));
        }
    }
}
