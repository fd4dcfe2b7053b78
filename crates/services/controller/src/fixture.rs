//! A controller in a temporary data directory, with replicas that only exist in memory. Passes are driven by the tests.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{Router, body::Body};
use daemon::Supervisor;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use planner::Machine;
use resources::{condition::ConditionKind, id::ReplicaId, inference_service::InferenceService};
use serde_json::{Value, json};
use store::Store;
use tempfile::TempDir;
use tokio::sync::{RwLock, watch};
use tower::ServiceExt as _;

use crate::{
    api,
    config::{Config, prepare_data_dir},
    db::{Db, ProcessId, ReplicaRow},
    deploy::Deployer,
    digests::Digests,
    gateway_process::GatewayState,
    metrics::Metrics,
    names,
    orchestrator::{Answer, End, Launch, Life, Memory, Orchestrator, Seen, Started, warm::Pool},
    reconcile::Reconciler,
    scaler::Scaler,
    snapshot::Publisher,
    windows::Windows,
};

/// Processes that live on while controllers come and go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(Arc<Mutex<FakeState>>);

#[derive(Debug, Default)]
pub(crate) struct FakeState {
    pub(crate) processes: BTreeMap<ReplicaId, FakeProcess>,
    pub(crate) launches: Vec<Launch>,
    /// What is left of the memory.
    pub(crate) memory: Option<Memory>,
    /// Processes that are to wait.
    pub(crate) warm: usize,
    /// Replicas that the controller of now has a hold on.
    held: Vec<ReplicaId>,
    born: i32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeProcess {
    pid: i32,
    pub(crate) answer: Option<Answer>,
    ended: Option<(String, String)>,
    pub(crate) stopped: Option<End>,
}

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, FakeState> {
        self.0.lock().unwrap()
    }

    /// A new controller has no hold on anything, and cannot know how what has ended did.
    fn forget_holds(&self) {
        let mut state = self.state();
        state.held.clear();
        state.processes.retain(|_, process| process.ended.is_none());
    }

    /// Every replica that starts becomes ready.
    pub(crate) fn all_ready(&self) {
        for process in self.state().processes.values_mut().filter(|process| process.ended.is_none()) {
            process.answer = Some(Answer { ready: true, ..Answer::default() });
        }
    }

    pub(crate) fn exit(&self, id: &str, how: &str, log: &str) {
        let mut state = self.state();
        let process = state.processes.get_mut(&ReplicaId(id.to_owned())).unwrap();
        process.ended = Some((how.to_owned(), log.to_owned()));
    }

    /// What was asked to stop does.
    pub(crate) fn finish(&self) {
        for process in self.state().processes.values_mut().filter(|process| process.stopped.is_some()) {
            process.ended = Some(("exit code 0".to_owned(), String::new()));
        }
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let alive = |(id, process): (&ReplicaId, &FakeProcess)| process.ended.is_none().then(|| id.0.clone());
        self.state().processes.iter().filter_map(alive).collect()
    }
}

impl Orchestrator for Fake {
    fn machine(&self) -> Machine {
        Machine { cpu_milli: 2_000, memory_bytes: 1 << 30 }
    }

    fn memory(&self) -> Option<Memory> {
        self.state().memory
    }

    async fn observe(&self, replicas: &[ReplicaRow]) -> Vec<Seen> {
        let mut state = self.state();
        let look = |replica: &ReplicaRow| {
            let adopted = !state.held.contains(&replica.id);
            let Some(process) = state.processes.get(&replica.id).cloned() else { return Seen::default() };
            if adopted {
                state.held.push(replica.id.clone());
            }
            let life = match process.ended {
                Some((how, log_tail)) => Life::Ended { at_ms: daemon::time::now_ms(), how, log_tail },
                None => Life::Running { process: ProcessId { pid: process.pid, born: 1 }, adopted },
            };
            Seen { life, answer: process.answer, ..Seen::default() }
        };
        replicas.iter().map(look).collect()
    }

    fn name(&self) -> String {
        names::random(names::REPLICA_RANDOM_LEN)
    }

    fn keep_warm(&self, processes: usize) {
        self.state().warm = processes;
    }

    async fn close(&self) {
        self.state().warm = 0;
    }

    async fn start(&self, launch: &Launch) -> Result<Started, String> {
        let mut state = self.state();
        state.born += 1;
        let pid = state.born;
        state.processes.insert(launch.id.clone(), FakeProcess { pid, ..FakeProcess::default() });
        state.held.push(launch.id.clone());
        state.launches.push(launch.clone());
        Ok(Started { process: ProcessId { pid, born: 1 }, warm: false })
    }

    fn end(&self, replica: &ReplicaId, how: End) {
        if let Some(process) = self.state().processes.get_mut(replica) {
            process.stopped = Some(how);
        }
    }

    fn forget(&self, replica: &ReplicaId) {
        self.state().processes.remove(replica);
    }

    async fn sweep(&self, _: &[ReplicaRow]) -> Vec<String> {
        Vec::new()
    }
}

pub(crate) struct Fixture {
    pub(crate) home: TempDir,
    pub(crate) fake: Fake,
    pub(crate) db: Db,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) reconciler: Reconciler<Fake>,
    pub(crate) router: Router,
    pub(crate) supervisor: Supervisor,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Fake::default()).await
    }

    async fn open(home: TempDir, fake: Fake) -> Self {
        let data_dir = prepare_data_dir(&home.path().join("d")).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        let executable = PathBuf::from("/no/executable");
        let config =
            Config { data_dir: data_dir.clone(), listen, tls: None, in_the_clear: false, executable, warm_pool: None };
        let db = Db::open(&data_dir.join("berth.db")).await.unwrap();
        let store = Store::open(&data_dir.join("store")).unwrap();
        let publisher = Arc::new(Publisher::open(db.clone()).await.unwrap());
        let (metrics, imports) = (Arc::new(Metrics::new()), Arc::new(RwLock::new(())));
        let windows = Arc::new(Windows::default());
        let (_, gateway) = watch::channel(GatewayState { listen, pid: None, message: String::new() });
        let reconciler = Reconciler {
            db: db.clone(),
            orchestrator: fake.clone(),
            publisher: Arc::clone(&publisher),
            store: store.clone(),
            metrics: Arc::clone(&metrics),
            windows: Arc::clone(&windows),
            scaler: Scaler::default(),
            config: config.clone(),
            gateway: gateway.clone(),
            imports: Arc::clone(&imports),
            refused: String::new(),
            pressure: None,
            digests: Digests::default(),
            tidied_ms: 0,
        };
        let deployer = Deployer::new(db.clone(), store, imports, data_dir.clone());
        let (supervisor, api_db, shown) = (Supervisor::new(), db.clone(), Arc::clone(&publisher));
        let stop = supervisor.clone();
        let (program, wake) = (config.executable.clone(), Arc::clone(api_db.wake()));
        let pool = Arc::new(Pool::new(program, &data_dir, supervisor.clone(), wake));
        let inner =
            api::Inner { config, db: api_db, deployer, publisher: shown, gateway, pool, metrics, windows, supervisor };
        let router = api::router(api::App::new(inner));
        Self { home, fake, db, publisher, reconciler, router, supervisor: stop }
    }

    /// The controller is killed and started again. Processes live on.
    pub(crate) async fn reopen(self) -> Self {
        let Self { home, fake, db, publisher, reconciler, router, .. } = self;
        drop((publisher, reconciler, router));
        db.close().await;
        fake.forget_holds();
        Self::open(home, fake).await
    }

    /// Passes until nothing is left to do but wait; the gateway follows.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..4 {
            self.reconciler.pass().await.unwrap();
            self.publisher.acknowledge(self.publisher.generation()).await.unwrap();
        }
    }

    /// A model's file, and what a manifest says of it.
    pub(crate) fn model(&self, name: &str, seed: u8) -> PathBuf {
        let path = self.home.path().join(format!("{name}.onnx"));
        std::fs::write(&path, identity(seed)).unwrap();
        path
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder().method(method).uri(format!("{}{path}", api::BASE)).body(body).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The body of a stream, to be read piece by piece.
    pub(crate) async fn stream(&self, path: &str) -> (StatusCode, Body) {
        let request = Request::get(format!("{}{path}", api::BASE)).body(Body::empty()).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        (answer.status(), answer.into_body())
    }

    pub(crate) async fn deploy(&self, name: &str, seed: u8, replicas: u32) {
        let (status, body) =
            self.call("POST", "/inferenceservices", Some(manifest(name, &self.model(name, seed), replicas))).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }

    pub(crate) async fn service(&self, name: &str) -> InferenceService {
        self.db.service(name).await.unwrap().unwrap().object
    }

    /// Status, reason and message of a condition.
    pub(crate) async fn condition(&self, name: &str, kind: ConditionKind) -> (String, String, String) {
        let status = self.service(name).await.status.unwrap();
        let found = status.conditions.iter().find(|condition| condition.kind == kind).unwrap();
        (format!("{:?}", found.status), found.reason.clone(), found.message.clone())
    }

    /// Reasons of all events, oldest first.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        self.db.events(None, Some(0), 10_000).await.unwrap().into_iter().map(|event| event.reason).collect()
    }
}

pub(crate) fn manifest(name: &str, model: &Path, replicas: u32) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {
            "minReplicas": replicas,
            "model": {"modelFormat": {"name": "onnx"}, "storageUri": format!("file://{}", model.display())},
        }},
    })
}

/// One line of a stream, as JSON.
pub(crate) async fn next_line(body: &mut Body) -> Value {
    let frame = body.frame().await.unwrap().unwrap();
    serde_json::from_slice(&frame.into_data().unwrap()).unwrap()
}

/// The smallest ONNX model: its output is its input, `seed` values wide.
fn identity(seed: u8) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }
    let tensor = |name: &str| {
        let shape = field(1, &[1 << 3, seed]);
        let tensor_type = [vec![1 << 3, 1], field(2, &shape)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor_type))].concat()
    };
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &tensor("x")), field(12, &tensor("y"))].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 17])].concat()
}
