//! Start, restart without a controller, drain, TLS.

use std::sync::Arc;

use daemon::{Supervisor, telemetry::Tracing};
use http::{Method, Request};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::TlsConnector;

use super::support::{Client, Seen, World, config, full, named, ok, replica, service, spam};

#[tokio::test]
async fn a_gateway_without_a_controller_serves_its_last_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    world.publish(|snapshot| snapshot.services.push(service("ham", &[]))).await;
    world.supervisor.stop();
    // Another process on the same data directory; nobody answers at the control socket now.
    let supervisor = Supervisor::new();
    let address = crate::start(&config(world.dir.path().to_owned()), &supervisor, Tracing::off()).await.unwrap();
    let mut client = Client::h1(address, &supervisor).await;
    assert_eq!(client.send(world.infer("{}")).await.text(), "a");
    let request = world.request(Method::GET, "/v2/models/ham/ready").body(full("")).unwrap();
    assert_eq!(client.send(request).await.status, 503);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_kept_is_served_and_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    // A file in the directory's place: nothing can be written there, not even by root.
    let (kept, away) = (world.dir.path().join("gateway"), world.dir.path().join("away"));
    std::fs::rename(&kept, &away).unwrap();
    std::fs::write(&kept, "").unwrap();
    let revoked = world.published.borrow().keys.clone();
    let mut asked = world.asked.subscribe();
    // One that cannot be kept, and while that is so another: both are served at once, and the one on disk is what is acknowledged.
    for (keys, status) in [(Vec::new(), 401), (revoked, 200), (Vec::new(), 401)] {
        let generation = world.announce(|snapshot| snapshot.keys = keys);
        assert_eq!(asked.wait_for(|(served, _)| *served == generation).await.unwrap().1, 1);
        assert_eq!(world.send(world.infer("{}")).await.status, status);
    }
    assert_eq!(world.metric("berth_gateway_kept_generation", "").await, 1.0);
    std::fs::remove_file(&kept).unwrap();
    std::fs::rename(&away, &kept).unwrap();
    tokio::time::pause();
    world.wait_for(4).await;
    tokio::time::resume();
    // Started anew without a controller, it serves what was acknowledged: the key stays revoked.
    world.supervisor.stop();
    let supervisor = Supervisor::new();
    let address = crate::start(&config(world.dir.path().to_owned()), &supervisor, Tracing::off()).await.unwrap();
    assert_eq!(Client::h1(address, &supervisor).await.send(world.infer("{}")).await.status, 401);
}

#[tokio::test]
async fn an_older_configuration_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (named(&dir, "a"), named(&dir, "b"));
    let mut snapshot = spam(&[&a]);
    snapshot.generation = 5;
    let world = World::start(snapshot).await;
    let mut older = world.published.borrow().clone();
    older.generation = 4;
    older.services = vec![service("spam", &[&b])];
    world.published.send_replace(older);
    // The next newer one arrives, so the older one has been seen.
    world.publish(|snapshot| (snapshot.generation, snapshot.services) = (6, vec![service("ham", &[&b])])).await;
    let gone = world.send(world.infer("{}")).await;
    assert_eq!(gone.status, 404);
    let on_disk = std::fs::read_to_string(world.dir.path().join("gateway/snapshot.json")).unwrap();
    assert!(on_disk.contains("\"generation\":6"));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_served_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let world = World::start(spam(&[&a])).await;
    let mut wrong = world.published.borrow().clone();
    wrong.generation = 2;
    wrong.services[0].timeout_ms = 0;
    world.published.send_replace(wrong);
    world.publish(|snapshot| snapshot.services[0].timeout_ms = 1000).await;
    assert_eq!(world.send(world.infer("{}")).await.text(), "a");
}

#[tokio::test]
async fn a_gateway_that_has_no_configuration_is_live_and_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    let supervisor = Supervisor::new();
    let address = crate::start(&config(dir.path().to_owned()), &supervisor, Tracing::off()).await.unwrap();
    let mut client = Client::h1(address, &supervisor).await;
    for (path, wanted) in [("/livez", 200), ("/readyz", 503), ("/v2", 401)] {
        let request = Request::get(path).header("host", "g").body(full("")).unwrap();
        assert_eq!(client.send(request).await.status, wanted, "{path}");
    }
}

#[tokio::test]
async fn the_admin_socket_tells_the_generation() {
    let world = World::start(spam(&[])).await;
    assert_eq!(world.admin("/status").await.text(), "{\"generation\":1,\"ready\":true}");
    assert_eq!(world.admin("/livez").await.status, 200);
    assert!(world.admin("/metrics").await.text().contains("berth_gateway_generation 1"));
    assert_eq!(world.admin("/v2").await.status, 404);
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun_and_lets_nothing_in() {
    let dir = tempfile::tempdir().unwrap();
    let (came, mut comes) = tokio::sync::mpsc::channel(1);
    let gate = Arc::new(Semaphore::new(0));
    let kept = Arc::clone(&gate);
    let a = replica(&dir, "a", move |seen: Seen| {
        let (came, gate) = (came.clone(), Arc::clone(&kept));
        async move {
            seen.read().await;
            came.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            ok("late")
        }
    });
    let mut snapshot = spam(&[&a]);
    snapshot.services.push(service("ham", &[]));
    let world = World::start(snapshot).await;
    let waiting = world.request(Method::POST, "/v2/models/ham/infer").body(full("")).unwrap();
    let stop = async {
        comes.recv().await.unwrap();
        world.until_counted("berth_gateway_held_total", "ham").await;
        world.supervisor.stop();
    };
    let finish = async {
        // The one that waits for a replica is let go at once, the one that is being answered is not.
        let held = world.send(waiting).await;
        assert_eq!((held.status.as_u16(), held.header("retry-after")), (503, Some("1")));
        assert!(TcpStream::connect(world.address).await.is_err());
        gate.add_permits(1);
    };
    let (answer, (), ()) = tokio::join!(world.send(world.infer("{}")), stop, finish);
    assert_eq!(answer.text(), "late");
    let World { supervisor, .. } = world;
    let ended = supervisor.run(std::time::Duration::from_secs(20)).await.unwrap();
    assert_eq!(ended, daemon::supervisor::Ended::Drained);
}

#[tokio::test]
async fn tls_speaks_both_versions_of_http() {
    let dir = tempfile::tempdir().unwrap();
    let a = named(&dir, "a");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = crate::Files { cert: dir.path().join("crt"), key: dir.path().join("key") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&files.cert).unwrap()).unwrap();
        roots
    };
    let world = World::start_with(spam(&[&a]), |config| config.tls = Some(files)).await;
    for (offered, wanted) in [(["h2", "http/1.1"].as_slice(), "h2"), (["http/1.1"].as_slice(), "http/1.1")] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut client = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(world.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(wanted.as_bytes()));
        let mut client = if wanted == "h2" {
            let (sender, connection) =
                conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            world.supervisor.spawn_connection(async move { drop(connection.await) });
            Client::H2(sender)
        } else {
            let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            world.supervisor.spawn_connection(async move { drop(connection.await) });
            Client::H1(sender)
        };
        let mut request = world.infer("{}");
        if wanted == "h2" {
            *request.uri_mut() = "https://localhost/v2/models/spam/infer".parse().unwrap();
        }
        assert_eq!(client.send(request).await.text(), "a");
    }
}
