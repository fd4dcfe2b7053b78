//! Manifests that are read, and what is said of those that are not.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::inference_service::{Batcher, MODEL_FORMATS, ModelFormat, ResourceList, ResourceRequirements, Shadow};

const SPAM: &str = "\
apiVersion: berth.dev/v1alpha1
kind: InferenceService
metadata:
  name: spam
spec:
  predictor:
    minReplicas: 2
    model:
      modelFormat: {name: onnx, version: '1'}
      storageUri: file:///models/spam.onnx
      resources: {requests: {cpu: 1, memory: 64Mi}, limits: {cpu: 2.5, memory: 1Gi}}
";

fn said(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// What is said when one line of the good manifest is another.
fn changed(from: &str, to: &str) -> String {
    assert!(SPAM.contains(from), "{from}");
    said(&SPAM.replace(from, to))
}

#[test]
fn a_service_in_yaml() {
    let services = parse(SPAM).unwrap();
    let predictor = &services[0].spec.predictor;
    assert_eq!(services[0].metadata.name.as_str(), "spam");
    assert_eq!(predictor.min_replicas, Some(2));
    let limits = predictor.model.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!((limits.cpu.as_deref(), limits.memory.as_deref()), (Some("2.5"), Some("1Gi")));
}

#[test]
fn json_lists_and_several_documents() {
    let json = serde_json::to_string_pretty(&parse(SPAM).unwrap()[0]).unwrap();
    assert_eq!(parse(&json).unwrap(), parse(SPAM).unwrap());
    let two = format!("---\n# nothing here\n---\n{SPAM}---\n{}", SPAM.replace("name: spam", "name: eggs"));
    let names: Vec<String> = parse(&two).unwrap().iter().map(|one| one.metadata.name.to_string()).collect();
    assert_eq!(names, ["spam", "eggs"]);
    let list = json!({"apiVersion": API, "kind": LIST_KIND, "items": parse(&two).unwrap()}).to_string();
    assert_eq!(parse(&list).unwrap().len(), 2);
}

const API: &str = crate::API_VERSION;

#[test]
fn what_the_server_wrote_is_taken_back() {
    let mut served = serde_json::to_value(&parse(SPAM).unwrap()[0]).unwrap();
    served["status"] = json!({"conditions": [], "anything": 1});
    served["metadata"]["uid"] = json!("u");
    served["metadata"]["generation"] = json!(u64::MAX);
    served["metadata"]["creationTimestamp"] = json!(null);
    let service = from_json_value(&served).unwrap();
    assert!(service.status.is_none());
    assert_eq!(service.metadata.generation, Some(u64::MAX));
}

#[test]
fn unknown_fields_name_the_nearest() {
    assert_eq!(
        changed("minReplicas", "minReplica"),
        "spec.predictor.minReplica: unknown field `minReplica`; did you mean `minReplicas`?"
    );
    assert_eq!(
        changed("storageUri", "storageURI"),
        "spec.predictor.model.storageUri: is missing: write `storageUri: file:///…` with the path of a model\n\
         spec.predictor.model.storageURI: unknown field `storageURI`; did you mean `storageUri`?"
    );
    assert_eq!(
        changed("minReplicas: 2", "storageUri: file:///x"),
        "spec.predictor.storageUri: unknown field `storageUri` here; it belongs to `spec.predictor.model`"
    );
    assert_eq!(
        changed("minReplicas", "zebra"),
        "spec.predictor.zebra: unknown field `zebra`; known are `model`, `minReplicas`, `maxReplicas`, `scaleMetric`, `scaleTarget`, \
         `containerConcurrency`, `timeout`, `batcher`, `canaryTrafficPercent`"
    );
}

#[test]
fn fields_of_kserve_are_refused_by_name() {
    for (field, instead) in [
        ("autoScaling: {}", "maxReplicas"),
        ("logger: {mode: all}", "remove it"),
        ("scaleMetricType: Utilization", "scaleMetric"),
        ("sklearn: {storageUri: 's3://a'}", "export the model to ONNX"),
        ("serviceAccountName: a", "not a container"),
        ("nodeSelector: {}", "one machine"),
    ] {
        let name = field.split(':').next().unwrap();
        let message = changed("minReplicas: 2", field);
        assert!(message.starts_with(&format!("spec.predictor.{name}: `{name}` is not supported yet: ")), "{message}");
        assert!(message.contains(instead), "{message}");
    }
    let message = changed("spec:\n", "spec:\n  transformer: {}\n  explainer: {}\n");
    assert_eq!(
        message,
        "spec.explainer: `explainer` is not supported yet: remove it\n\
         spec.transformer: `transformer` is not supported yet: transform in the client, or in the model's graph"
    );
    let gpu = changed("limits: {cpu: 2.5", "limits: {nvidia.com/gpu: 1");
    assert_eq!(
        gpu,
        "spec.predictor.model.resources.limits[\"nvidia.com/gpu\"]: `nvidia.com/gpu` is not supported yet: models run on CPUs"
    );
}

#[test]
fn a_batcher_has_the_names_of_kserve() {
    let batcher = |text: &str| {
        let manifest = SPAM.replace("minReplicas: 2", text);
        parse(&manifest).unwrap()[0].spec.predictor.batcher
    };
    assert_eq!(batcher("minReplicas: 2"), None);
    let full = Batcher { max_batch_size: Some(16), max_latency: Some(5) };
    assert_eq!(batcher("batcher: {maxBatchSize: 16, maxLatency: 5}"), Some(full));
    assert_eq!(batcher("batcher: {}"), Some(Batcher::default()));
    assert_eq!(
        changed("minReplicas: 2", "batcher: {timeout: 60}"),
        "spec.predictor.batcher.timeout: `timeout` is not supported yet: it is the service's: write `timeout` beside `batcher`"
    );
}

/// A piece of the good manifest, what stands there instead, and what is said of it.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "minReplicas: 2",
        "minReplicas: two",
        "spec.predictor.minReplicas: expected a whole number from 0, found the text `two`",
    ),
    (
        "minReplicas: 2",
        "minReplicas: -1",
        "spec.predictor.minReplicas: expected a whole number from 0, found the number `-1`",
    ),
    ("minReplicas: 2", "minReplicas: 65", "spec.predictor.minReplicas: expected 0 to 64, found `65`"),
    ("minReplicas: 2", "minReplicas: 9999999999", "spec.predictor.minReplicas: `9999999999` is too large"),
    (
        "minReplicas: 2",
        "minReplicas: 2\n    maxReplicas: 1",
        "spec.predictor.maxReplicas: expected 2 to 64, found `1`: it is the most replicas, `minReplicas` the fewest",
    ),
    (
        "minReplicas: 2",
        "minReplicas: 0\n    maxReplicas: 0",
        "spec.predictor.maxReplicas: expected 1 to 64, found `0`: it is the most replicas, `minReplicas` the fewest",
    ),
    (
        "minReplicas: 2",
        "scaleMetric: cpu",
        "spec.predictor.scaleMetric: expected `concurrency` or `rps`, found `cpu`: that replicas are busy does not tell how \
         many requests wait, which these count",
    ),
    ("minReplicas: 2", "scaleTarget: 0", "spec.predictor.scaleTarget: expected 1 to 1000000, found `0`"),
    (
        "minReplicas: 2",
        "batcher: {maxBatchSize: 0}",
        "spec.predictor.batcher.maxBatchSize: expected 1 to 1024, found `0`: 1 runs every request by itself",
    ),
    (
        "minReplicas: 2",
        "batcher: {maxLatency: 10001}",
        "spec.predictor.batcher.maxLatency: expected 0 to 10000 milliseconds, found `10001`",
    ),
    ("minReplicas: 2", "timeout: 0", "spec.predictor.timeout: expected 1 to 3600 seconds, found `0`"),
    (
        "minReplicas: 2",
        "containerConcurrency: 0",
        "spec.predictor.containerConcurrency: expected 1 to 65535, found `0`: leave it out for no limit",
    ),
    (
        "version: '1'",
        "version: 1",
        "spec.predictor.model.modelFormat.version: expected text, found the number `1`: write `\"1\"`",
    ),
    (
        "name: onnx",
        "name: sklearn",
        "spec.predictor.model.modelFormat.name: expected `onnx`, `xgboost` or `lightgbm`, found `sklearn`: export the model to ONNX",
    ),
    (
        "name: spam",
        "name: Spam",
        "metadata.name: `Spam` is not a DNS label: use lower-case letters, digits and `-`, and start and end with a letter or digit",
    ),
    ("name: spam", "name: 7", "metadata.name: expected text, found the number `7`: write `\"7\"`"),
    (
        "name: spam",
        "name: spam\n  namespace: prod",
        "metadata.namespace: expected `default`, the one namespace of a machine, found `prod`",
    ),
    (
        "name: spam",
        "name: spam\n  labels: [a]",
        "metadata.labels: expected texts by name (`team: search`), found a list",
    ),
    (
        "name: spam",
        "name: spam\n  labels: {a: true}",
        "metadata.labels.a: expected text, found `true`: write `\"true\"`",
    ),
    ("berth.dev/v1alpha1", "berth.dev/v2", "apiVersion: expected `berth.dev/v1alpha1`, found `berth.dev/v2`"),
    ("kind: InferenceService", "kind: Deployment", "kind: expected `InferenceService`, found `Deployment`"),
    (
        "file:///models",
        "s3://models",
        "spec.predictor.model.storageUri: `s3://models/spam.onnx`: `s3://` is not supported yet: fetch the model (`aws s3 cp --recursive`) and write `file:///…` with its path",
    ),
    (
        "memory: 64Mi",
        "memory: 2Gi",
        "spec.predictor.model.resources.requests.memory: is more than `limits.memory`: lower it, or raise the limit",
    ),
    (
        "memory: 64Mi",
        "memory: 64MB",
        "spec.predictor.model.resources.requests.memory: `64MB` is not a number of bytes: write `268435456`, `256Mi` or `1G`",
    ),
    (
        "cpu: 1,",
        "cpu: [],",
        "spec.predictor.model.resources.requests.cpu: expected a quantity (`500m`, `2`, `256Mi`), found a list",
    ),
    (
        "resources:",
        "protocolVersion: v1\n      resources:",
        "spec.predictor.model.protocolVersion: expected `v2`, which is REST and gRPC, found `v1`",
    ),
];

#[test]
fn wrong_values_say_what_was_expected() {
    for (from, to, message) in WRONG {
        assert_eq!(changed(from, to), *message);
    }
}

#[test]
fn every_error_of_every_document_is_told() {
    let bad = "kind: 3\nmetadata: {}\nspec: []\nfoo: 1\n";
    assert_eq!(
        said(bad),
        "apiVersion: is missing: write `apiVersion: berth.dev/v1alpha1`\n\
         kind: expected text, found the number `3`: write `\"3\"`\n\
         metadata.name: is missing: give one\n\
         spec: expected fields, found a list\n\
         foo: unknown field `foo`; known are `apiVersion`, `kind`, `metadata`, `spec`, `status`"
    );
    let two = format!("{}---\n{}---\n- 1\n", SPAM.replace("spec:", "spek:"), SPAM.replace("2\n", "99\n"));
    assert_eq!(
        said(&two),
        "`spam`: spec: is missing: write `spec: {predictor: …}`\n\
         `spam`: spek: unknown field `spek`; did you mean `spec`?\n\
         `spam`: spec.predictor.minReplicas: expected 0 to 64, found `99`\n\
         document 3: manifest: expected fields, found a list"
    );
}

#[test]
fn texts_that_are_no_manifests() {
    assert_eq!(
        said("# nothing\n"),
        "the manifest is empty: write an `InferenceService` (`berth apply --help` shows one)"
    );
    let twice = changed("kind: InferenceService", "kind: InferenceService\nkind: InferenceService");
    assert!(twice.starts_with("the manifest is not valid YAML or JSON at line 3, column 1: duplicate"), "{twice}");
    assert!(said("a: [1\nb: 2").starts_with("the manifest is not valid YAML or JSON at line "));
    assert!(said("a: !!python/object:os.system x").contains("not valid YAML"));
    assert!(said(&"x".repeat(MANIFEST_BYTES_MAX + 1)).contains("split it"));
    assert!(said(&"---\n{}\n".repeat(DOCUMENTS_MAX + 1)).contains("split it"));
    assert!(said(&"[".repeat(10_000)).contains("not valid YAML"));
    assert!(
        said(&format!("{}1{}", "{a: ".repeat(DEPTH_MAX + 1), "}".repeat(DEPTH_MAX + 1))).contains("not valid YAML")
    );
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (next, one) in "bcdefghi".chars().zip("abcdefgh".chars()) {
        bomb.push_str(&format!(
            "{next}: &{next} [*{one},*{one},*{one},*{one},*{one},*{one},*{one},*{one},*{one},*{one}]\n"
        ));
    }
    assert!(said(&bomb).contains("not valid YAML"));
}

#[test]
fn errors_and_their_texts_are_bounded() {
    let many: String = (0..1000).map(|n| format!("f{n}: 1\n")).collect();
    assert_eq!(parse(&many).unwrap_err().field_errors().count(), ERRORS_MAX);
    let long = format!("{SPAM}{}: 1\n", "k".repeat(900));
    assert!(said(&long).len() < 600);
}

fn service() -> impl Strategy<Value = InferenceService> {
    let resources = (proptest::option::of(1..64_u64), proptest::option::of(1..4096_u64));
    let texts = proptest::collection::btree_map("[a-z]([-a-z0-9._]{0,8}[a-z0-9])?", "[ -~]{0,20}", 0..4);
    let numbers = (proptest::option::of(1..=64_u32), proptest::option::of(1..=3600_u64));
    let model = (proptest::sample::select(&MODEL_FORMATS[..]), "/[a-zA-Z0-9 _'\":#{}&*-]{1,30}");
    ("[a-z]([-a-z0-9]{0,20}[a-z0-9])?", model, texts, resources, numbers).prop_map(
        |(name, (format, path), annotations, (cpu, memory), (min_replicas, timeout))| {
            let mut service = parse(SPAM).unwrap().remove(0);
            service.metadata.name = crate::id::ServiceName::parse(&name).unwrap();
            service.metadata.annotations = annotations;
            let predictor = &mut service.spec.predictor;
            predictor.min_replicas = min_replicas;
            predictor.timeout = timeout;
            predictor.model.storage_uri = format!("file://{path}");
            predictor.model.model_format = ModelFormat { name: format.to_owned(), version: None };
            let limits = ResourceList { cpu: cpu.map(|n| format!("{n}00m")), memory: memory.map(|n| format!("{n}Mi")) };
            predictor.model.resources = Some(ResourceRequirements { requests: None, limits: Some(limits) });
            service
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n\t\u{80}-\u{ff}]{0,200}") {
        drop(parse(&text));
    }

    #[test]
    fn a_damaged_manifest_is_read_or_refused(at in 0..SPAM.len(), with in "[ -~\n]{0,3}", cut in 0..8_usize) {
        let (before, after) = SPAM.split_at(at);
        let text = format!("{before}{with}{}", after.chars().skip(cut).collect::<String>());
        drop(parse(&text));
    }

    #[test]
    fn what_is_written_is_read_back(services in proptest::collection::vec(service(), 1..4)) {
        let yaml: Vec<String> = services.iter().map(|one| to_yaml(one).unwrap()).collect();
        prop_assert_eq!(&parse(&yaml.join("---\n")).unwrap(), &services);
        let json = serde_json::to_string(&services[0]).unwrap();
        prop_assert_eq!(&parse(&json).unwrap()[0], &services[0]);
    }

    #[test]
    fn any_uri_is_read_or_refused(uri in ".{0,100}") {
        drop(storage_source(&uri));
    }
}

#[test]
fn a_priority_may_be_below_nothing() {
    let placed = |text: &str| SPAM.replace("spec:\n", &format!("spec:\n  placement: {text}\n"));
    for priority in [-1000, 0, 1000] {
        let spec = parse(&placed(&format!("{{priority: {priority}}}"))).unwrap().remove(0).spec;
        assert_eq!(spec.placement.unwrap().priority, Some(priority));
    }
    for (text, told) in [
        ("{priority: 1001}", "spec.placement.priority: expected -1000 to 1000, found `1001`"),
        ("{priority: -1001}", "spec.placement.priority: expected -1000 to 1000, found `-1001`"),
        ("{priority: 0.5}", "spec.placement.priority: expected a whole number of 32 bits"),
        ("{priority: 4000000000}", "spec.placement.priority: expected a whole number of 32 bits"),
        ("{prio: 1}", "unknown field `prio`"),
    ] {
        let found = changed("spec:\n", &format!("spec:\n  placement: {text}\n"));
        assert!(found.contains(told), "{found}");
    }
}

#[test]
fn a_shadow_has_a_percentage_and_no_canary_beside_it() {
    let shadow = |text: &str| changed("spec:\n", &format!("spec:\n  shadow: {text}\n"));
    let manifest = SPAM.replace("spec:\n", "spec:\n  shadow: {percent: 20}\n");
    assert_eq!(parse(&manifest).unwrap()[0].spec.shadow, Some(Shadow { percent: 20 }));
    for percent in ["0", "101"] {
        let told = shadow(&format!("{{percent: {percent}}}"));
        assert!(
            told.starts_with(&format!("spec.shadow.percent: expected 1 to 100 percent, found `{percent}`")),
            "{told}"
        );
    }
    assert!(shadow("{}").contains("spec.shadow.percent: is missing"));
    assert!(shadow("{percent: 5, revision: 2}").contains("unknown field `revision`"));
    let both = manifest.replace("minReplicas: 2", "canaryTrafficPercent: 0");
    let told = parse(&both).unwrap_err().to_string();
    assert!(told.contains("spec.shadow: a revision that is shadowed answers no clients"), "{told}");
}

#[test]
fn shares_of_traffic_and_what_clients_stick_by() {
    let sticky = |text: &str| changed("spec:\n", &format!("spec:\n  traffic: {{sticky: {text}}}\n"));
    let read = |text: &str| {
        let manifest = SPAM.replace("spec:\n", &format!("spec:\n  traffic: {{sticky: {text}}}\n"));
        parse(&manifest).unwrap()[0].spec.traffic.clone().unwrap().sticky.unwrap()
    };
    assert_eq!(read("{header: X-User}").header.as_deref(), Some("X-User"));
    assert_eq!(read("{cookie: session}").cookie.as_deref(), Some("session"));
    assert_eq!(read("{key: true}").key, Some(true));
    assert!(sticky("{}").contains("expected one of `header`, `cookie` and `key`, found 0"));
    assert!(sticky("{header: a, cookie: b}").contains("found 2"));
    assert!(sticky("{key: false}").contains("leave `sticky` out"));
    assert!(sticky("{key: 1}").contains("expected `true` or `false`, found the number `1`"));
    assert!(sticky("{header: 'a b'}").contains("`a b` is no name of a header"));
    assert!(sticky("{header: Authorization}").contains("write `key: true`"));
    assert!(sticky("{header: cookie}").contains("write `cookie:`"));
    let manifest = SPAM.replace("minReplicas: 2", "canaryTrafficPercent: 0");
    let predictor = parse(&manifest).unwrap()[0].spec.predictor.clone();
    assert_eq!(predictor.canary_traffic_percent, Some(0));
    assert_eq!(predictor.revisioned().canary_traffic_percent, None);
    assert_eq!(
        changed("minReplicas: 2", "canaryTrafficPercent: 101"),
        "spec.predictor.canaryTrafficPercent: expected 0 to 100 percent, found `101`"
    );
}

#[test]
fn a_rollout_by_steps() {
    let manifest = |text: &str| SPAM.replace("spec:\n", &format!("spec:\n  rollout: {text}\n"));
    let good = "{steps: [{percent: 5, minSeconds: 0}, {percent: 25}], analysis: {falseRollbackRate: 0.01, latencyTolerance: 2}}";
    let rollout = parse(&manifest(good)).unwrap()[0].spec.rollout.clone().unwrap();
    assert_eq!((rollout.steps[0].min_ms(), rollout.steps[1].min_ms()), (0, 30_000));
    let limits = rollout.limits();
    assert_eq!((limits.false_rollback_rate, limits.latency_tolerance, limits.min_requests), (0.01, 2.0, 300));
    assert!(rollout.promotes() && rollout.rolls_back());
    let wrong = |text: &str| said(&manifest(text));
    assert!(wrong("{}").contains("write `steps: [{percent: 5}"));
    assert!(wrong("{steps: []}").contains("expected 1 to 10 steps, found 0"));
    assert!(wrong("{steps: 5}").contains("expected a list"));
    assert!(wrong("{steps: [{percent: 100}]}").contains("spec.rollout.steps[0].percent: expected 1 to 99 percent"));
    assert!(wrong("{steps: [{percent: 20}, {percent: 20}]}").contains("expected more than the 20 percent"));
    assert!(wrong("{steps: [{share: 20}]}").contains("unknown field `share`"));
    assert!(wrong("{steps: [{percent: 5}], analysis: {falseRollbackRate: 0}}").contains("found `0`"));
    assert!(wrong("{steps: [{percent: 5}], analysis: {latencyTolerance: fast}}").contains("expected a number"));
    let both = manifest("{steps: [{percent: 5}]}").replace("minReplicas: 2", "canaryTrafficPercent: 5");
    assert!(said(&both).contains("remove one of the two"), "{}", said(&both));
}
