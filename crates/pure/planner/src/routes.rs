//! Decides what the gateway serves.

use std::collections::BTreeSet;

use resources::{
    id::Revision,
    snapshot::{Endpoint, RouteRevision, RouteService},
};

use crate::{input::DesiredRevision, service::Scope};

/// The route of a service. Its replicas may all be away: requests then wait in the gateway.
pub(crate) fn route(scope: &Scope<'_>) -> Option<RouteService> {
    let traffic = scope.traffic();
    // Where both have as many the last in line, the stable one, counts as the one with most.
    let most = traffic.iter().max_by_key(|share| share.percent).and_then(|most| scope.service.find(most.revision));
    let default = most.or_else(|| default(scope))?;
    let mut named: BTreeSet<Revision> = BTreeSet::from([default.revision]);
    for desired in &scope.service.revisions {
        // A revision that has been complete can be asked for by its number while it has replicas. One that never has been
        // takes no requests, so that a rollout that fails is seen by nobody.
        let serves = scope.is_completed(desired) && scope.ready(desired.revision).next().is_some();
        let current = scope.latest_completed() == Some(desired.revision);
        if serves || current {
            named.insert(desired.revision);
        }
    }
    Some(RouteService {
        name: scope.service.name.clone(),
        timeout_ms: default.timeout_ms,
        container_concurrency: default.container_concurrency,
        default_revision: Some(default.revision),
        shadow: scope.shadow(&traffic),
        wakes: wakes(scope, default),
        sticky: scope.service.sticky.clone().filter(|_| traffic.len() > 1),
        split: if traffic.len() > 1 { traffic } else { Vec::new() },
        revisions: named.into_iter().map(|revision| route_revision(scope, revision)).collect(),
    })
}

/// Whether a request that finds no replica starts one: the service is answered for although none is ready.
fn wakes(scope: &Scope<'_>, default: &DesiredRevision) -> bool {
    let fails = scope.history(default.revision).is_some_and(|history| history.streak > 0);
    scope.service.bounds.min == 0 && scope.is_completed(default) && default.bundle_present && !fails
}

/// Where requests go while nothing that has been complete answers: the newest revision that does; else they wait for the one that
/// will again first.
fn default<'a>(scope: &Scope<'a>) -> Option<&'a DesiredRevision> {
    let answers = |desired: &&DesiredRevision| scope.ready(desired.revision).next().is_some();
    let newest_first = || scope.service.revisions.iter().rev();
    newest_first()
        .find(|desired| scope.is_completed(desired) && answers(desired))
        .or_else(|| newest_first().find(answers))
        .or_else(|| newest_first().find(|desired| scope.is_completed(desired)))
        .or_else(|| scope.newest())
}

fn route_revision(scope: &Scope<'_>, revision: Revision) -> RouteRevision {
    let mut endpoints: Vec<Endpoint> = scope
        .ready(revision)
        .map(|replica| Endpoint { replica: replica.id.clone(), socket: replica.socket.clone() })
        .collect();
    endpoints.sort_by(|a, b| a.replica.cmp(&b.replica));
    RouteRevision { revision, endpoints }
}
