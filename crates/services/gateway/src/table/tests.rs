//! Tests of the table.

use resources::id::{ReplicaId, ServiceName};

use super::*;

fn endpoint(name: &str) -> Endpoint {
    Endpoint { replica: ReplicaId(name.to_owned()), socket: format!("/run/{name}.sock").into() }
}

fn snapshot(generation: u64, endpoints: &[&str]) -> GatewaySnapshot {
    let revision =
        RouteRevision { revision: Revision(1), endpoints: endpoints.iter().map(|name| endpoint(name)).collect() };
    let service = RouteService {
        name: ServiceName::parse("spam").unwrap(),
        timeout_ms: 1000,
        container_concurrency: None,
        wakes: false,
        default_revision: Some(Revision(1)),
        split: Vec::new(),
        sticky: None,
        shadow: None,
        revisions: vec![revision],
    };
    GatewaySnapshot { generation, services: vec![service], keys: Vec::new() }
}

#[test]
fn only_newer_generations_are_served() {
    let (tables, metrics) = (Tables::default(), Metrics::default());
    assert_eq!(tables.apply(&snapshot(7, &["a"]), &metrics).unwrap(), Applied::Yes);
    assert_eq!(tables.apply(&snapshot(7, &[]), &metrics).unwrap(), Applied::Same);
    assert_eq!(tables.apply(&snapshot(6, &[]), &metrics).unwrap(), Applied::Older);
    assert_eq!(tables.load().generation, 7);
    assert!(tables.load().service("spam").unwrap().is_ready());
    assert_eq!(*tables.subscribe().borrow(), 7);
}

#[test]
fn replicas_keep_their_connections_and_services_their_counters() {
    let (tables, metrics) = (Tables::default(), Metrics::default());
    tables.apply(&snapshot(1, &["a", "b"]), &metrics).unwrap();
    let before = tables.load();
    let _share = before.service("spam").unwrap().in_flight.take(1, 9).unwrap();
    tables.apply(&snapshot(2, &["b", "c"]), &metrics).unwrap();
    let after = tables.load();
    let of = |table: &Table| table.service("spam").unwrap().upstreams().cloned().collect::<Vec<_>>();
    assert!(Arc::ptr_eq(&of(&before)[1], &of(&after)[0]));
    assert_eq!(after.service("spam").unwrap().in_flight.get(), 1);
}

#[test]
fn a_wrong_snapshot_is_refused_and_the_old_one_served() {
    let (tables, metrics) = (Tables::default(), Metrics::default());
    tables.apply(&snapshot(1, &["a"]), &metrics).unwrap();
    let wrong = |change: fn(&mut GatewaySnapshot)| {
        let mut snapshot = snapshot(2, &["a"]);
        change(&mut snapshot);
        tables.apply(&snapshot, &metrics).unwrap_err().to_string()
    };
    assert_eq!(wrong(|s| s.services.push(s.services[0].clone())), "service `spam` is there twice");
    assert!(wrong(|s| s.services[0].timeout_ms = 0).contains("time-out of `spam`"));
    assert!(wrong(|s| s.services[0].default_revision = Some(Revision(9))).contains("default revision of `spam`"));
    assert!(wrong(|s| s.services[0].revisions[0].endpoints[0].socket = "a.sock".into()).contains("absolute"));
    assert_eq!(tables.load().generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_resting_replica_is_passed_over() {
    let (tables, metrics) = (Tables::default(), Metrics::default());
    tables.apply(&snapshot(1, &["a", "b"]), &metrics).unwrap();
    let table = tables.load();
    let target = table.service("spam").unwrap().target(Aim::default()).unwrap();
    let now = Instant::now();
    target.upstreams[0].rest(now);
    for random in 0..20 {
        assert!(Arc::ptr_eq(target.pick(now, random, None).unwrap(), &target.upstreams[1]));
        // Better a replica that was asked before than none.
        let only = target.pick(now, random, Some(&target.upstreams[1])).unwrap();
        assert!(Arc::ptr_eq(only, &target.upstreams[1]));
    }
    target.upstreams[1].rest(now);
    assert!(target.pick(now, 0, None).is_none());
    assert!(target.pick(now + crate::pool::REST_TIME, 0, None).is_some());
    tables.apply(&snapshot(2, &["a", "b"]), &metrics).unwrap();
    assert!(tables.load().service("spam").unwrap().target(Aim::default()).unwrap().pick(now, 0, None).is_some());
}
