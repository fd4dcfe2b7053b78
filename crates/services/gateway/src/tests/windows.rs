//! What the controller is told of the load, and the order in which those that wait are let go.

use std::sync::{Arc, Mutex};

use http::{Method, Response, StatusCode};
use resources::window::{RevisionWindow, ServiceWindow};

use super::support::{Act, Seen, World, full, grpc_ok, grpc_request, message, named, ok, replica, set, spam};

fn revisions(told: &[ServiceWindow]) -> impl Iterator<Item = &RevisionWindow> {
    told.iter().flat_map(|window| &window.revisions)
}

fn answered(told: &[ServiceWindow]) -> u32 {
    revisions(told).map(|window| window.answered).sum()
}

#[tokio::test]
async fn answers_and_errors_are_told_by_revision() {
    let dir = tempfile::tempdir().unwrap();
    let a = replica(&dir, "a", |seen: Seen| async move {
        let path = seen.head.uri.path().to_owned();
        let (_, body) = seen.read().await;
        match body.as_ref() {
            b"fail" => Act::Answer(Response::builder().status(500).body(full("no")).unwrap()),
            b"break" => Act::Close,
            _ if path.ends_with("/ModelInfer") => grpc_ok(&[]),
            _ => ok("a"),
        }
    });
    let world = World::start(spam(&[&a])).await;
    let mut client = world.client().await;
    for (body, status) in [("{}", 200), ("fail", 500), ("{}", 200)] {
        assert_eq!(client.send(world.infer(body)).await.status.as_u16(), status);
    }
    assert_eq!(client.send(world.infer("break")).await.status, StatusCode::BAD_GATEWAY);
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let grpc = grpc_request(path, Some(&world.bearer()), &message("spam", ""));
    assert_eq!(world.grpc().await.send(grpc).await.grpc_status(), Some(0));
    // What is no prediction says nothing about the load.
    let metadata = world.request(Method::GET, "/v2/models/spam").body(full("")).unwrap();
    assert_eq!(client.send(metadata).await.status, StatusCode::OK);
    let told = world.told("spam", |told| answered(told) >= 5).await;
    assert_eq!(told.iter().map(|window| window.arrivals).sum::<u32>(), 5);
    assert_eq!((answered(&told), revisions(&told).map(|window| window.errors).sum::<u32>()), (5, 2));
    assert_eq!(revisions(&told).map(|window| window.service.count()).sum::<u64>(), 4);
    assert_eq!(revisions(&told).map(|window| window.latency.count()).sum::<u64>(), 4);
}

#[tokio::test]
async fn the_first_that_waits_for_a_service_without_replicas_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[])).await;
    let come = async {
        let told = world.told("spam", |told| !told.is_empty()).await;
        assert_eq!((told[0].arrivals, told[0].held), (1, 1));
        world.publish(|snapshot| set(snapshot, &[&a])).await;
    };
    let (answer, ()) = tokio::join!(world.send(world.infer("{}")), come);
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn those_that_wait_are_let_go_in_the_order_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let a = {
        let order = Arc::clone(&order);
        replica(&dir, "a", move |seen: Seen| {
            let order = Arc::clone(&order);
            async move {
                let (_, body) = seen.read().await;
                order.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
                ok("a")
            }
        })
    };
    let world = World::start(spam(&[])).await;
    let names: Vec<String> = (0..20).map(|number| format!("{number}")).collect();
    let mut clients = tokio::task::JoinSet::new();
    for name in &names {
        let mut client = world.client().await;
        let request = world.infer(name.clone());
        clients.spawn(async move { client.send(request).await.status });
        let wanted = clients.len() as f64;
        while world.metric("berth_gateway_held_total", "spam").await < wanted {
            tokio::task::yield_now().await;
        }
    }
    world.publish(|snapshot| set(snapshot, &[&a])).await;
    assert!(clients.join_all().await.iter().all(|status| *status == StatusCode::OK));
    assert_eq!(*order.lock().unwrap(), names);
}
