//! Decides what the gateway serves.

use resources::snapshot::{Endpoint, RouteRevision, RouteService};

use crate::{
    input::{DesiredRevision, DesiredService, Input, Phase},
    service::is_complete,
};

pub(crate) fn routes(input: &Input) -> Vec<RouteService> {
    let mut routes: Vec<_> =
        input.services.iter().filter(|service| !service.deleting).filter_map(|service| route(input, service)).collect();
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    routes
}

fn route(input: &Input, service: &DesiredService) -> Option<RouteService> {
    let newest = service.newest()?;
    let serving = serving(input, service, newest);
    let mut named: Vec<&DesiredRevision> = vec![serving];
    // A revision that has never been complete can be asked for by nobody; one that has been can, while it is there.
    if newest.revision != serving.revision && service.latest_ready == Some(newest.revision) {
        named.push(newest);
    }
    Some(RouteService {
        name: service.name.clone(),
        timeout_ms: serving.timeout_ms,
        container_concurrency: serving.container_concurrency,
        default_revision: Some(serving.revision),
        revisions: named.into_iter().map(|revision| route_revision(input, service, revision)).collect(),
    })
}

/// The newest revision once it is complete; else the stable one while it has a ready replica, or when the newest has none.
fn serving<'a>(input: &Input, service: &'a DesiredService, newest: &'a DesiredRevision) -> &'a DesiredRevision {
    if is_complete(input, &service.name, newest) {
        return newest;
    }
    service.stable().unwrap_or(newest)
}

fn route_revision(input: &Input, service: &DesiredService, revision: &DesiredRevision) -> RouteRevision {
    let mut endpoints: Vec<Endpoint> = input
        .replicas_of(&service.name)
        .filter(|replica| replica.revision == revision.revision && replica.phase == Phase::Ready)
        .map(|replica| Endpoint { replica: replica.id.clone(), socket: replica.socket.clone() })
        .collect();
    endpoints.sort_by(|a, b| a.replica.cmp(&b.replica));
    RouteRevision { revision: revision.revision, endpoints }
}
