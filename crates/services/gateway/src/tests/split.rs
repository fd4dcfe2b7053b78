//! Two revisions that share the requests of a service.

use http::{Method, Request};
use resources::{
    id::Revision,
    inference_service::Sticky,
    snapshot::{GatewaySnapshot, RouteRevision},
    status::RevisionTraffic,
};

use super::support::{Replica, World, bearer, full, grpc_ok, grpc_request, message, ok, record, replica, spam};

const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";

fn revision(dir: &tempfile::TempDir, name: &'static str) -> Replica {
    replica(dir, name, move |seen| async move {
        let grpc = seen.head.headers.contains_key("te");
        seen.read().await;
        if grpc { grpc_ok(name.as_bytes()) } else { ok(name) }
    })
}

/// Revision 1 has `old`, revision 2 `new`, which gets this share.
fn split(old: &[&Replica], new: &[&Replica], percent: u32, sticky: Option<Sticky>) -> GatewaySnapshot {
    let mut snapshot = spam(old);
    let service = &mut snapshot.services[0];
    let endpoints = new.iter().map(|replica| replica.endpoint.clone()).collect();
    service.revisions.push(RouteRevision { revision: Revision(2), endpoints });
    let share = |revision, percent| RevisionTraffic { revision: Revision(revision), percent };
    service.split = vec![share(2, percent), share(1, 100 - percent)];
    service.sticky = sticky;
    snapshot
}

#[tokio::test]
async fn requests_are_shared_out_and_metadata_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (revision(&dir, "old"), revision(&dir, "new"));
    let world = World::start(split(&[&old], &[&new], 50, None)).await;
    let (mut client, mut grpc) = (world.client().await, world.grpc().await);
    for _ in 0..100 {
        assert_eq!(client.send(world.infer("{}")).await.status, 200);
        let answer = grpc.send(grpc_request(METHOD, Some(&world.bearer()), &message("spam", ""))).await;
        assert_eq!(answer.grpc_status(), Some(0));
    }
    // Each is drawn: 30 or fewer of 200 happen once in 10^24 times.
    assert_eq!(old.count() + new.count(), 200);
    assert!(old.count() > 30 && new.count() > 30, "{} and {}", old.count(), new.count());
    let before = new.count();
    for _ in 0..20 {
        let request = world.request(Method::GET, "/v2/models/spam").body(full("")).unwrap();
        assert_eq!(client.send(request).await.text(), "old");
    }
    assert_eq!(new.count(), before);
    assert!(world.metric("berth_gateway_requests_total", "revision=\"2\"").await > 30.0);
}

#[tokio::test]
async fn a_client_stays_with_its_revision_while_the_share_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (revision(&dir, "old"), revision(&dir, "new"));
    let sticky = Some(Sticky { header: Some("x-user".to_owned()), ..Sticky::default() });
    let world = World::start(split(&[&old], &[&new], 20, sticky)).await;
    let mut client = world.client().await;
    let mut moved = 0;
    let mut before: Vec<String> = Vec::new();
    for percent in [20, 20, 60] {
        world
            .publish(|snapshot| {
                let shares = &mut snapshot.services[0].split;
                (shares[0].percent, shares[1].percent) = (percent, 100 - percent);
            })
            .await;
        let mut now = Vec::new();
        for user in 0..60 {
            let request = world.request(Method::POST, "/v2/models/spam/infer").header("x-user", format!("user-{user}"));
            now.push(client.send(request.body(full("{}")).unwrap()).await.text());
        }
        let changes = before.iter().zip(&now).filter(|(before, now)| before != now);
        moved = changes.inspect(|(before, now)| assert_eq!((before.as_str(), now.as_str()), ("old", "new"))).count();
        assert!(percent > 20 || moved == 0, "{moved} moved although the share did not change");
        before = now;
    }
    assert!(moved > 0);
}

#[tokio::test]
async fn what_a_revision_cannot_answer_goes_to_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (revision(&dir, "old"), revision(&dir, "new"));
    let world = World::start(split(&[&old], &[&new], 100, None)).await;
    // Everything is the new one's; then it dies, and the configuration does not know yet.
    world
        .publish(|snapshot| {
            let shares = &mut snapshot.services[0].split;
            (shares[0].percent, shares[1].percent) = (99, 1);
        })
        .await;
    new.kill();
    let mut client = world.client().await;
    for _ in 0..20 {
        let answer = client.send(world.infer("{}")).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "old"));
    }
    // One that has no share is no way out.
    world
        .publish(|snapshot| {
            let service = &mut snapshot.services[0];
            (service.split[0].percent, service.split[1].percent) = (0, 100);
            service.revisions[1].endpoints.clear();
        })
        .await;
    assert_eq!(client.send(world.infer("{}")).await.text(), "old");
}

#[tokio::test]
async fn a_revision_without_requests_is_asked_with_a_permission_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (revision(&dir, "old"), revision(&dir, "new"));
    let keys = [access::generate().unwrap(), access::generate().unwrap(), access::generate().unwrap()];
    let [infers, previews, both] = &keys;
    let mut snapshot = split(&[&old], &[&new], 0, None);
    snapshot.keys = vec![
        record(infers, &["infer:spam"]),
        record(previews, &["preview:spam"]),
        record(both, &["infer:spam", "preview:*"]),
    ];
    let world = World::start(snapshot).await;
    let (mut client, mut grpc) = (world.client().await, world.grpc().await);
    for (percent, asked, allowed) in
        [(0, "2", [false, true, true]), (0, "1", [true, false, true]), (10, "2", [true, false, true])]
    {
        world
            .publish(|snapshot| {
                let shares = &mut snapshot.services[0].split;
                (shares[0].percent, shares[1].percent) = (percent, 100 - percent);
            })
            .await;
        for (key, allowed) in keys.iter().zip(allowed) {
            let path = format!("/v2/models/spam/versions/{asked}/infer");
            let request = Request::post(&path).header("host", "g").header("authorization", bearer(key));
            let answer = client.send(request.body(full("{}")).unwrap()).await;
            assert_eq!(answer.status, if allowed { 200 } else { 403 }, "{path} at {percent} %");
            let answer = grpc.send(grpc_request(METHOD, Some(&bearer(key)), &message("spam", asked))).await;
            assert_eq!(answer.grpc_status(), Some(if allowed { 0 } else { 7 }), "{path} at {percent} %");
        }
    }
    // It reads metadata either way, and finds out what it lacks.
    world
        .publish(|snapshot| {
            let shares = &mut snapshot.services[0].split;
            (shares[0].percent, shares[1].percent) = (0, 100);
        })
        .await;
    let request =
        Request::get("/v2/models/spam/versions/2").header("host", "g").header("authorization", bearer(infers));
    assert_eq!(client.send(request.body(full("")).unwrap()).await.text(), "new");
    let request = Request::post("/v2/models/spam/versions/2/infer").header("host", "g");
    let answer = client.send(request.header("authorization", bearer(infers)).body(full("{}")).unwrap()).await;
    assert!(answer.text().contains("needs the permission `preview:spam`"), "{}", answer.text());
    let request = Request::post("/v2/models/spam/infer").header("host", "g").header("authorization", bearer(previews));
    assert_eq!(client.send(request.body(full("{}")).unwrap()).await.status, 403);
}
