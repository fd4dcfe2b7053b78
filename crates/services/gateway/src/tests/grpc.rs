//! gRPC through the door.

use std::{io::Read as _, sync::atomic::Ordering};

use bytes::Bytes;

use super::{
    forwarding::fed,
    support::{
        Act, Answer, Replica, Seen, World, framed, full, grpc_ok, grpc_request, message, replica, service, spam,
    },
};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A replica that answers with what it was asked.
fn echo(dir: &tempfile::TempDir, name: &'static str) -> Replica {
    replica(dir, name, move |seen: Seen| async move {
        let (head, body) = seen.read().await;
        assert_eq!(head.headers["te"], "trailers");
        assert!(head.headers.contains_key("grpc-timeout") && !head.headers.contains_key("authorization"));
        let mut answer = format!("{name} {} ", head.headers["x-berth-service"].to_str().unwrap()).into_bytes();
        answer.extend_from_slice(&body);
        grpc_ok(&answer)
    })
}

async fn call(world: &World, path: &str, message: &[u8]) -> Answer {
    world.grpc().await.send(grpc_request(path, Some(&world.bearer()), message)).await
}

#[tokio::test]
async fn calls_are_routed_by_the_name_in_their_message() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (echo(&dir, "a"), echo(&dir, "b"));
    let mut snapshot = spam(&[&a]);
    snapshot.services.push(service("ham", &[&b]));
    let world = World::start(snapshot).await;
    for (name, version, replica) in [("spam", "", "a"), ("ham", "", "b"), ("ham", "1", "b")] {
        let message = message(name, version);
        let answer = call(&world, INFER, &message).await;
        let mut wanted = format!("{replica} {name} ").into_bytes();
        wanted.extend(framed(&message));
        assert_eq!(&answer.body[5..], wanted);
        assert_eq!(
            (answer.trailers["grpc-status"].as_bytes(), answer.trailers["x-extra"].as_bytes()),
            (&b"0"[..], &b"kept"[..])
        );
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.header("x-request-id").unwrap().len(), 32);
    }
    let code = async |message: &[u8]| call(&world, INFER, message).await.grpc_status();
    assert_eq!(code(&message("ham", "2")).await, Some(5));
    assert_eq!(code(&message("ham", "+1")).await, Some(5));
    assert_eq!(code(&message("missing", "")).await, Some(5));
    assert_eq!(code(&message("", "")).await, Some(3));
    assert_eq!(code(b"\xff\xff").await, Some(3));
    assert_eq!(code(&[]).await, Some(3));
    assert_eq!(
        world
            .metric("berth_gateway_requests_total", "service=\"ham\",revision=\"1\",protocol=\"grpc\",code=\"0\"")
            .await,
        2.0
    );
}

#[tokio::test]
async fn a_message_may_come_in_any_pieces_and_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let a = echo(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let mut client = world.grpc().await;
    for (tensor, piece) in [(3, 1), (100_000, 7_001), (2_000_000, 100_000)] {
        let mut message = message("spam", "");
        // Field 7, raw contents.
        message.push(0x3a);
        let mut len = tensor;
        while len >= 0x80 {
            message.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        message.push(u8::try_from(len).unwrap());
        message.extend(vec![9; tensor]);
        let bytes = framed(&message);
        let (sender, body) = fed();
        let mut request = grpc_request(INFER, Some(&world.bearer()), &[]);
        *request.body_mut() = body;
        let feed = async {
            for piece in bytes.chunks(piece) {
                sender.send(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            drop(sender);
        };
        let (answer, ()) = tokio::join!(client.send(request), feed);
        assert_eq!(answer.grpc_status(), Some(0));
        assert_eq!(&answer.body[5 + "a spam ".len()..], bytes);
    }
    // One for small messages, one for the large, and one for that which is too large to be sent twice.
    assert!(a.connections.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn a_compressed_message_is_routed_by_its_beginning_and_passes_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let a = echo(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    // Field 7, raw contents: what is looked at ends in the middle of them.
    let mut plain = message("spam", "");
    plain.extend([0x3a, 0x80, 0x80, 0x40]);
    plain.extend(vec![7; 1 << 20]);
    let compressed = |coding: &str| {
        let (mut bytes, fast) = (Vec::new(), flate2::Compression::fast());
        let read = match coding {
            "gzip" => flate2::read::GzEncoder::new(plain.as_slice(), fast).read_to_end(&mut bytes),
            _ => flate2::read::ZlibEncoder::new(plain.as_slice(), fast).read_to_end(&mut bytes),
        };
        read.unwrap();
        let mut sent = framed(&bytes);
        sent[0] = 1;
        sent
    };
    let send = async |coding: &'static str, bytes: Vec<u8>| {
        let mut request = grpc_request(INFER, Some(&world.bearer()), &[]);
        *request.body_mut() = full(bytes);
        request.headers_mut().insert("grpc-encoding", coding.parse().unwrap());
        world.grpc().await.send(request).await
    };
    for coding in ["gzip", "deflate"] {
        let bytes = compressed(coding);
        let answer = send(coding, bytes.clone()).await;
        assert_eq!(answer.grpc_status(), Some(0), "{coding}");
        assert_eq!(&answer.body[5 + "a spam ".len()..], bytes, "{coding}");
    }
    for (coding, bytes) in [("deflate", compressed("gzip")), ("identity", compressed("gzip"))] {
        assert_eq!(send(coding, bytes).await.grpc_status(), Some(3), "{coding}");
    }
    assert_eq!(a.count(), 2);
}

#[tokio::test]
async fn refusals_are_trailers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let a = echo(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let answer = call(&world, "/inference.GRPCInferenceService/ModelStreamInfer", &message("spam", "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some("12")));
    assert!(answer.header("grpc-message").unwrap().contains("ModelStreamInfer"));
    assert!(answer.body.is_empty() && answer.trailers.is_empty());

    let mut compressed = grpc_request(INFER, Some(&world.bearer()), &[]);
    *compressed.body_mut() = full(Bytes::from_static(&[1, 0, 0, 0, 1, 0]));
    compressed.headers_mut().insert("grpc-encoding", "snappy".parse().unwrap());
    let answer = world.grpc().await.send(compressed).await;
    let accepted = answer.header("grpc-accept-encoding");
    assert_eq!((answer.header("grpc-status"), accepted), (Some("12"), Some("identity,gzip,deflate")));

    let mut timeout = grpc_request(INFER, Some(&world.bearer()), &message("spam", ""));
    timeout.headers_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(world.grpc().await.send(timeout).await.header("grpc-status"), Some("3"));

    let mut json = grpc_request(INFER, Some(&world.bearer()), &message("spam", ""));
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(world.grpc().await.send(json).await.status, 415);
    assert_eq!(a.count(), 0);
}

#[tokio::test]
async fn an_error_of_a_replica_passes_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let a = replica(&dir, "a", |seen: Seen| async move {
        seen.read().await;
        let response = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "3")
            .header("grpc-message", "wrong%20shape");
        Act::Answer(response.body(full("")).unwrap())
    });
    let world = World::start(spam(&[&a])).await;
    let answer = call(&world, INFER, &message("spam", "")).await;
    assert_eq!((answer.header("grpc-status"), answer.header("grpc-message")), (Some("3"), Some("wrong%20shape")));
    assert_eq!(
        world
            .metric("berth_gateway_requests_total", "service=\"spam\",revision=\"1\",protocol=\"grpc\",code=\"3\"")
            .await,
        1.0
    );
}

#[tokio::test]
async fn the_gateway_answers_for_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let a = echo(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let live = call(&world, "/inference.GRPCInferenceService/ServerLive", &[]).await;
    assert_eq!((live.grpc_status(), live.body.as_ref()), (Some(0), [0, 0, 0, 0, 2, 8, 1].as_slice()));
    let ready = call(&world, "/inference.GRPCInferenceService/ServerReady", &[]).await;
    assert_eq!(ready.body.as_ref(), [0, 0, 0, 0, 2, 8, 1]);
    let metadata = call(&world, "/inference.GRPCInferenceService/ServerMetadata", &[]).await;
    assert!(metadata.body.windows(18).any(|window| window == b"binary_tensor_data"));
    // `HealthCheckResponse{status: SERVING}`.
    let health = call(&world, "/grpc.health.v1.Health/Check", &[]).await;
    assert_eq!((health.grpc_status(), health.body.as_ref()), (Some(0), [0, 0, 0, 0, 2, 8, 1].as_slice()));
    for version in ["v1", "v1alpha"] {
        // `ServerReflectionRequest{list_services: ""}`, field 7.
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let reflection = call(&world, &path, &[0x3a, 0]).await;
        let name = b"inference.GRPCInferenceService";
        assert!(reflection.body.windows(name.len()).any(|window| window == name), "{version}");
    }
    assert_eq!(a.count(), 0);
}
