//! What `--help` shows below the options.

pub(super) const TOP: &str = "\
Roles, the processes that `berth up` starts:
  gateway      The door that clients talk to
  runtime      Loads one model and answers for it
  controller   Keeps what was asked for running

Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  not found
  4  Berth is not running
  5  refused: the model or the manifest is wrong
  6  timed out
  130  interrupted

Examples:
  berth up
  berth deploy spam ./spam.onnx
  berth infer spam --input rows.csv
  berth get -o json";

pub(super) const UP: &str = "\
Makes the key `local` on the first run and keeps it in DIR/local.key, readable by you alone.
Ctrl-C finishes the requests that have begun, then stops; a second Ctrl-C stops at once.

Examples:
  berth up
  berth up --detach --listen 127.0.0.1:9000
  berth up --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem";

pub(super) const DOWN: &str = "\
Also stops what is left when the controller is gone.

Examples:
  berth down
  berth down --data-dir /srv/berth";

pub(super) const STATUS: &str = "\
Examples:
  berth status
  berth status -o json";

pub(super) const DEPLOY: &str = "\
Makes the service, or gives it a new revision; the old one serves until the new one is ready.
Ctrl-C stops the waiting, not the service.

Examples:
  berth deploy spam ./spam.onnx
  berth deploy spam ./spam-bundle --replicas 2 --timeout 10
  berth deploy spam ./spam.onnx --no-wait";

pub(super) const APPLY: &str = "\
A manifest, with every field that may be left out marked:
  apiVersion: berth.dev/v1alpha1
  kind: InferenceService
  metadata:
    name: spam
  spec:
    predictor:
      minReplicas: 2                          # optional; 0 lets an idle service go
      maxReplicas: 4                          # optional; as many as the load needs
      containerConcurrency: 8                 # optional
      timeout: 30                             # optional, seconds
      model:
        modelFormat: {name: onnx}
        storageUri: file:///models/spam.onnx  # or file://./spam.onnx, beside the manifest
        resources:                            # optional
          requests: {cpu: 500m, memory: 256Mi}
          limits: {cpu: '2', memory: 1Gi}

A manifest of KServe (serving.kserve.io/v1beta1) is taken too; what is not honoured is warned about, and refused where it
changes what is served: docs/reference/kserve.md.

Examples:
  berth apply -f service.yaml
  berth apply -f service.yaml --wait
  berth get spam -o yaml | berth apply -f -";

pub(super) const EXPORT: &str = "\
Examples:
  berth export kserve spam";

pub(super) const EXPORT_KSERVE: &str = "\
What KServe has no field for is kept in annotations `berth.dev/…`, so that `berth apply` gives the same service back. What a
cluster needs beside the manifest is said on standard error.

Examples:
  berth export kserve spam > spam.yaml
  berth export kserve spam -o json
  berth export kserve spam | berth apply -f -";

pub(super) const GET: &str = "\
Examples:
  berth get
  berth get spam -o wide
  berth get --watch
  berth get -o json";

pub(super) const DESCRIBE: &str = "\
Examples:
  berth describe spam
  berth describe spam -o json";

pub(super) const LOGS: &str = "\
Lines are printed for people; `-o json` prints them as they were written.

Examples:
  berth logs spam
  berth logs spam --tail 10 --follow
  berth logs spam --replica spam-1-x7k2p9q4ab -o json";

pub(super) const EVENTS: &str = "\
Examples:
  berth events
  berth events spam --limit 10
  berth events --watch -o json";

pub(super) const INFER: &str = "\
JSON is a request of the Open Inference Protocol, an array of rows, an array of objects with the names of
columns, or an object with the inputs by name. CSV columns become one input in their order, or inputs by name.
The key is never an argument, where other users of the machine could read it.

Examples:
  berth infer spam --input rows.json
  berth infer spam --input rows.csv -o json
  berth infer encoder --input ids=ids.npy --input mask=mask.npy --outputs embedding
  echo '[[5.1, 3.5, 1.4, 0.2]]' | berth infer iris --input -
  BERTH_API_KEY=$(cat reader.key) berth infer spam --input rows.npy --url https://models.example:8443 --tls-ca ca.pem";

pub(super) const ROLLOUT: &str = "\
A new revision with `canaryTrafficPercent` (`berth deploy --canary 10`) gets that share of the requests once it is
ready; the last one that had all of them keeps the rest. With `spec.rollout` it gets one share after the other, is compared
with the one before, and takes over or is rolled back by itself. With `shadow` (`berth deploy --shadow 20`) it gets copies of
that share of the requests and answers none.

Examples:
  berth deploy spam spam-2.onnx --canary 10
  berth deploy spam spam-2.onnx --shadow 20
  berth rollout status spam
  berth rollout promote spam
  berth rollout abort spam
  berth rollout pause spam
  berth rollout resume spam";

pub(super) const ROLLOUT_PAUSE: &str = "\
Examples:
  berth rollout pause spam";

pub(super) const ROLLOUT_RESUME: &str = "\
Examples:
  berth rollout resume spam";

pub(super) const ROLLOUT_STATUS: &str = "\
Examples:
  berth rollout status spam
  berth rollout status spam --watch
  berth rollout status spam -o json";

pub(super) const ROLLOUT_PROMOTE: &str = "\
The replicas of the revision before finish their requests and stop. It can be gone back to with `berth rollout abort`.

Examples:
  berth rollout promote spam";

pub(super) const ROLLOUT_ABORT: &str = "\
Works after a promotion too: the revision before is started again, and gets the requests once it is ready.

Examples:
  berth rollout abort spam";

pub(super) const KEY: &str = "\
Examples:
  berth key create reader --allow infer:spam
  berth key list
  berth key revoke reader";

pub(super) const KEY_CREATE: &str = "\
Berth keeps only a digest of the key: what is shown now cannot be shown again.

Examples:
  berth key create reader --allow infer:spam
  berth key create dashboard --allow metrics --allow 'metadata:*'
  berth key create batch --allow 'infer:*' --save batch.key";

pub(super) const KEY_LIST: &str = "\
Examples:
  berth key list
  berth key list -o json";

pub(super) const KEY_REVOKE: &str = "\
Examples:
  berth key revoke reader";

pub(super) const DELETE: &str = "\
Requests that have begun are finished.

Examples:
  berth delete spam
  berth delete spam eggs --wait";

pub(super) const COMPLETIONS: &str = "\
Examples:
  berth completions bash > ~/.local/share/bash-completion/completions/berth
  berth completions zsh > ~/.zfunc/_berth
  berth completions fish > ~/.config/fish/completions/berth.fish";

pub(super) const DOCTOR: &str = "\
Ends with 1 when models could not be served here.

Examples:
  berth doctor
  berth doctor -o json";

pub(super) const SIMULATE: &str = "\
Needs no running Berth. Requests come as the load says and wait in one queue for a free replica; what is simulated is
how many replicas each policy has, and what that does to latency and cost. Whole days take seconds.

Policies:
  `berth`  keeps the objective by a queueing model, ahead of the load by one start-up time
  `kpa`    Knative: concurrency in a stable window of 60 s and a panic window of 6 s
  `hpa`    Kubernetes: CPU, every 15 s, down after 5 minutes
  `dm`     Dynamic Multi-level: CPU and response time, every 30 s, with the trend of the load
  `fixed`  always --max-replicas

OVER is the share of intervals in which more than 1 in 100 requests was answered after --p99-ms, or not at all;
REPLICAS is their mean, HOURS their sum: the cost.

Examples:
  berth simulate --load day.csv --p99-ms 50 --service-ms 20:40
  berth simulate --manifest service.yaml --load trace.csv --start-seconds 5 --plot scaling.svg
  berth simulate --load arrivals.csv --scale 200 --policy berth,kpa --min-replicas 0 -o json
  berth simulate --load trace.csv --policy berth --explain";

pub(super) const CONFORMANCE: &str = "\
Tests any server, Berth or another. Ends with 1 when a required check fails; where the
specification contradicts itself, either way passes. `-o junit` is for CI systems.

Examples:
  berth conformance http://127.0.0.1:8080 --grpc 127.0.0.1:8080 --model spam
  berth conformance http://127.0.0.1:8000 --grpc 127.0.0.1:8001 -o junit";

pub(super) const VERSION: &str = "\
Examples:
  berth version
  berth version -o json";

pub(super) const GATEWAY: &str = "\
Started by the controller. It goes on with its last configuration when the controller is gone.
Ends with 7 when requests were cut off.

Examples:
  berth gateway --data-dir /srv/berth --listen 127.0.0.1:8080";

pub(super) const RUNTIME: &str = "\
Started by the controller, one for each replica. Ends with 3 when the model does not load, with 7 when
requests were cut off.

Examples:
  berth runtime --listen 127.0.0.1:9000 --model spam=./spam.onnx";

pub(super) const CONTROLLER: &str = "\
Started by `berth up`. Gateway and runtimes go on when it is gone, and it takes them over when it is back.

Examples:
  berth controller --data-dir /srv/berth --listen 127.0.0.1:8080";
