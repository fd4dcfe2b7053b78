//! Every request that came in ends in one way, and is counted there once.

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt as _;

use super::{
    forwarding::fed,
    support::{Act, Seen, World, full, grpc_ok, grpc_request, message, ok, replica, spam},
};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

async fn sums(world: &World) -> [f64; 4] {
    let of = async |name: &str| world.metric(&format!("berth_gateway_{name}_total"), "").await;
    [of("received").await, of("requests").await, of("rejected").await, of("cancelled").await]
}

#[tokio::test]
async fn what_came_in_was_answered_refused_or_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, body) = fed();
    let endless = std::sync::Mutex::new(Some(body));
    let a = replica(&dir, "a", move |seen: Seen| {
        let body = if seen.head.headers.contains_key("x-endless") { endless.lock().unwrap().take() } else { None };
        async move {
            let (head, _) = seen.read().await;
            match (body, head.uri.path()) {
                (Some(body), _) => Act::Answer(Response::new(body)),
                (None, INFER) => grpc_ok(b""),
                (None, path) if path.ends_with("/ready") => {
                    Act::Answer(Response::builder().header("content-length", "7").body(full("")).unwrap())
                }
                (None, _) => ok("an answer"),
            }
        }
    });
    let world = World::start(spam(&[&a])).await;
    // Answered by a replica, in every form of an end.
    assert_eq!(world.send(world.infer("{}")).await.status, 200);
    let head = world.request(Method::HEAD, "/v2/models/spam/ready").body(full("")).unwrap();
    assert_eq!(world.send(head).await.status, 200);
    let call = grpc_request(INFER, Some(&world.bearer()), &message("spam", ""));
    assert_eq!(world.grpc().await.send(call).await.grpc_status(), Some(0));
    // By the gateway itself.
    let own = world.request(Method::GET, "/v2").body(full("")).unwrap();
    assert_eq!(world.send(own).await.status, 200);
    assert_eq!(sums(&world).await, [4.0, 4.0, 0.0, 0.0]);
    // Refused.
    let stranger = http::Request::get("http://gateway/v2").body(full("")).unwrap();
    assert_eq!(world.send(stranger).await.status, 401);
    let missing = grpc_request(INFER, Some(&world.bearer()), &message("ham", ""));
    assert_eq!(world.grpc().await.send(missing).await.grpc_status(), Some(5));
    assert_eq!(sums(&world).await, [6.0, 6.0, 2.0, 0.0]);
    // The client leaves in the middle of the answer.
    let mut request = world.infer("{}");
    request.headers_mut().insert("x-endless", "1".parse().unwrap());
    sender.send(Bytes::from_static(b"half of it")).await.unwrap();
    let mut client = world.client().await;
    let mut answer = client.head(request).await.into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    drop((client, answer));
    world.until_counted("berth_gateway_cancelled_total", "protocol=\"rest\"").await;
    assert_eq!(sums(&world).await, [7.0, 6.0, 2.0, 1.0]);
    assert_eq!(world.metric("berth_gateway_in_flight_requests", "").await, 0.0);
}
