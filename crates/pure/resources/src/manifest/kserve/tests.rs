//! Manifests of KServe that are converted, refused or warned about as the table says, and services that come back whole.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    inference_service::{
        Batcher, InferenceService, MODEL_FORMATS, ModelFormat, ResourceList, ResourceRequirements, Sticky, Traffic,
    },
    manifest::{from_json_value, parse, parse_beside, schema::PLACES, to_yaml},
};

const IRIS: &str = "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: iris
spec:
  predictor:
    minReplicas: 2
    model:
      modelFormat: {name: onnx}
      storageUri: file:///models/iris.onnx
";

fn read(text: &str) -> InferenceService {
    parse(text).unwrap_or_else(|error| panic!("{error}")).remove(0)
}

fn changed(from: &str, to: &str) -> InferenceService {
    assert!(IRIS.contains(from), "{from}");
    read(&IRIS.replace(from, to))
}

/// What is said when one line of the good manifest is another.
fn said(from: &str, to: &str) -> String {
    assert!(IRIS.contains(from), "{from}");
    parse(&IRIS.replace(from, to)).unwrap_err().to_string()
}

fn paths(service: &InferenceService) -> Vec<String> {
    not_honoured(&service.metadata.annotations).into_iter().map(|field| field.path).collect()
}

#[test]
fn a_manifest_that_is_wholly_honoured() {
    let service = read(IRIS);
    assert_eq!(service, read(&IRIS.replace("serving.kserve.io/v1beta1", crate::API_VERSION)));
    assert_eq!((condition(&service.metadata.annotations), paths(&service)), (None, vec![]));
    let full = changed(
        "minReplicas: 2",
        "minReplicas: 1\n    containerConcurrency: 4\n    timeout: 20\n    canaryTrafficPercent: 10\n    \
         batcher: {maxBatchSize: 8, maxLatency: 5}",
    );
    let predictor = &full.spec.predictor;
    assert_eq!((predictor.container_concurrency, predictor.timeout), (Some(4), Some(20)));
    assert_eq!(predictor.canary_traffic_percent, Some(10));
    assert_eq!(predictor.batcher, Some(Batcher { max_batch_size: Some(8), max_latency: Some(5) }));
    assert!(paths(&full).is_empty());
}

#[test]
fn forms_before_model() {
    for form in MODEL_FORMATS {
        let text = "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: old}
spec:
  predictor:
    FORM:
      storageUri: file://./m
      protocolVersion: v2
      resources: {limits: {cpu: 2, memory: 1Gi}}
      env: [{name: OMP_NUM_THREADS, value: '1'}]
";
        let service = parse_beside(&text.replace("FORM", form), "/a").unwrap().remove(0);
        let model = &service.spec.predictor.model;
        assert_eq!((model.model_format.name.as_str(), model.storage_uri.as_str()), (form, "file:///a/m"));
        assert_eq!(paths(&service), [format!("spec.predictor.{form}.env")]);
        assert!(not_honoured(&service.metadata.annotations)[0].note.is_some());
        // Errors name what the person wrote.
        let wrong = parse(&text.replace("FORM", form).replace("file://./m", "s3://b/m")).unwrap_err().to_string();
        assert!(wrong.starts_with(&format!("spec.predictor.{form}.storageUri: `s3://b/m`: ")), "{wrong}");
    }
    let message = said("model:\n      modelFormat: {name: onnx}", "sklearn:");
    assert!(message.starts_with("spec.predictor.sklearn: `sklearn` is not supported: a pickle runs code"), "{message}");
    assert!(message.contains("docs/guide/from-scikit-learn.md"), "{message}");
    let both = said("minReplicas: 2", "onnx: {storageUri: 'file:///m'}");
    assert!(both.contains("has `model` and `onnx`"), "{both}");
    let none =
        "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, metadata: {name: a}, spec: {predictor: {}}}";
    assert!(parse(none).unwrap_err().to_string().contains("names no model: write `model:"));
}

/// What `kubectl get -o yaml` prints of a service that uses much of the schema.
const FROM_A_CLUSTER: &str = r#"
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  annotations:
    autoscaling.knative.dev/target: "10"
    kubectl.kubernetes.io/last-applied-configuration: "{}"
    serving.kserve.io/deploymentMode: Standard
    serving.kserve.io/stop: "false"
    team: search
  labels: {networking.kserve.io/visibility: cluster-local, tier: gold}
  creationTimestamp: "2025-01-01T00:00:00Z"
  finalizers: [inferenceservice.finalizers]
  generation: 3
  name: iris
  namespace: models
  resourceVersion: "123"
  uid: 0b0d
spec:
  predictor:
    automountServiceAccountToken: false
    containerConcurrency: 0
    deploymentStrategy: {type: RollingUpdate}
    imagePullSecrets: []
    logger: {mode: all, url: http://sink}
    batcher: {timeout: 60}
    minReplicas: 1
    nodeSelector: {disk: ssd}
    serviceAccountName: reader
    tolerations: [{key: gpu, operator: Exists}]
    model:
      args: [--workers=2]
      modelFormat: {name: onnx, version: "1"}
      name: ""
      protocolVersion: grpc-v2
      runtime: kserve-tritonserver
      storageUri: file:///m.onnx
      readinessProbe: {httpGet: {path: /v2/health/ready, port: 8080}}
      resources: {requests: {cpu: 100m, memory: 64Mi, ephemeral-storage: 1Gi}}
status: {conditions: [], modelStatus: {}}
"#;

#[test]
fn what_a_cluster_prints() {
    let service = read(FROM_A_CLUSTER);
    let meta = &service.metadata;
    assert_eq!((&meta.namespace, &meta.uid, &meta.resource_version, meta.generation), (&None, &None, &None, None));
    assert_eq!(meta.labels.get("tier").map(String::as_str), Some("gold"));
    assert_eq!(meta.annotations.get("team").map(String::as_str), Some("search"));
    assert!(!meta.annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration"));
    let predictor = &service.spec.predictor;
    assert_eq!(predictor.container_concurrency, None);
    assert_eq!(predictor.model.protocol_version.as_deref(), Some("v2"));
    assert_eq!(
        paths(&service),
        [
            "metadata.namespace",
            "metadata.labels[\"networking.kserve.io/visibility\"]",
            "metadata.annotations[\"autoscaling.knative.dev/target\"]",
            "metadata.annotations[\"serving.kserve.io/deploymentMode\"]",
            "spec.predictor.model.runtime",
            "spec.predictor.model.resources.requests.ephemeral-storage",
            "spec.predictor.model.args",
            "spec.predictor.model.readinessProbe",
            "spec.predictor.batcher.timeout",
            "spec.predictor.logger",
            "spec.predictor.deploymentStrategy",
            "spec.predictor.serviceAccountName",
            "spec.predictor.automountServiceAccountToken",
            "spec.predictor.nodeSelector",
            "spec.predictor.tolerations",
        ]
    );
    let said = condition(&meta.annotations).unwrap();
    assert_eq!((said.kind, said.status), (ConditionKind::KServeCompatible, ConditionStatus::False));
    assert!(said.message.contains("`spec.predictor.nodeSelector`"), "{}", said.message);
    assert!(not_honoured(&meta.annotations).iter().all(|field| field.note.is_some_and(|note| !note.is_empty())));
    let document = parse_any(FROM_A_CLUSTER);
    let refused = from_json_value(&document).unwrap_err();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].to_string().ends_with("`berth apply` converts such a manifest"), "{}", refused[0]);
    // Berth's own form of it says the same, and a second reading adds nothing.
    let again = from_json_value(&serde_json::to_value(&service).unwrap()).unwrap();
    assert_eq!(again, service);
}

/// A line of the good manifest, what stands there instead, the path of the error, and a word of it.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("minReplicas: 2", "containers: [{image: a}]", "spec.predictor.containers", "runs no containers"),
    ("spec:\n", "spec:\n  transformer: {containers: [{image: a}]}\n", "spec.transformer", "transform in the client"),
    ("spec:\n", "spec:\n  explainer: {art: {type: SquareAttack}}\n", "spec.explainer", "leave it out"),
    ("file://", "s3:/", "spec.predictor.model.storageUri", "aws s3 cp"),
    ("file://", "pvc:/", "spec.predictor.model.storageUri", "kubectl cp"),
    ("file://", "hf:/", "spec.predictor.model.storageUri", "docs/guide/embeddings.md"),
    ("name: onnx", "name: sklearn", "spec.predictor.model.modelFormat.name", "docs/guide/from-scikit-learn.md"),
    ("name: onnx", "name: mlflow", "spec.predictor.model.modelFormat.name", "runs Python"),
    ("name: onnx", "name: Onyx", "spec.predictor.model.modelFormat.name", "expected `onnx`"),
    ("storageUri: file:///models/iris.onnx", "storage: {key: k}", "spec.predictor.model.storage", "storageUri"),
    ("minReplicas: 2", "workerSpec: {}", "spec.predictor.workerSpec", "one machine"),
    ("v1beta1", "v1alpha2", "apiVersion", "expected `serving.kserve.io/v1beta1`"),
    ("serving.kserve.io", "serving.kubeflow.org", "apiVersion", "expected `serving.kserve.io/v1beta1`"),
    ("kind: InferenceService", "kind: InferenceGraph", "kind", "no graphs"),
    ("kind: InferenceService", "kind: LLMInferenceService", "kind", "generates no text"),
    ("kind: InferenceService", "kind: InferenceServise", "kind", "did you mean `InferenceService`?"),
    ("name: iris", "name: iris\n  annotations: {serving.kserve.io/stop: 'true'}", "metadata.annotations", "stopped"),
    ("name: iris", "name: iris\n  annotations: {berth.dev/traffic: '{'}", "metadata.annotations", "is not the JSON"),
    ("name: iris", "name: Iris", "metadata.name", "DNS label"),
    ("minReplicas: 2", "minReplicas: many", "spec.predictor.minReplicas", "expected a whole number"),
];

#[test]
fn what_changes_what_is_served_is_refused() {
    for (from, to, path, word) in REFUSED {
        let message = said(from, to);
        assert!(message.starts_with(path) && message.contains(word), "{to}: {message}");
    }
}

#[test]
fn what_is_refused_is_said_at_once() {
    let message =
        said("{name: onnx}\n      storageUri: file:", "{name: sklearn}\n      image: a\n      storageUri: gs:");
    let paths: Vec<&str> = message.lines().filter_map(|line| line.split(": ").next()).collect();
    let model = "spec.predictor.model";
    assert_eq!(paths, [format!("{model}.modelFormat.name"), format!("{model}.storageUri"), format!("{model}.image")]);
}

#[test]
fn strangers_are_named_with_what_was_meant() {
    for (from, to, message) in [
        (
            "minReplicas: 2",
            "minReplica: 2",
            "spec.predictor.minReplica: unknown field `minReplica`; did you mean `minReplicas`?",
        ),
        (
            "minReplicas: 2",
            "nodeselector: {}",
            "spec.predictor.nodeselector: unknown field `nodeselector`; did you mean `nodeSelector`?",
        ),
        (
            "minReplicas: 2",
            "runtime: a",
            "spec.predictor.runtime: unknown field `runtime` here; it belongs to `spec.predictor.model`",
        ),
        ("spec:\n", "spec:\n  default: {}\n", "spec.default: unknown field `default`; Berth honours `predictor`, "),
    ] {
        let message_now = said(from, to);
        assert!(message_now.starts_with(message.trim_end_matches(", ")), "{message_now}");
    }
}

#[test]
fn several_documents_and_what_a_cluster_has_beside_them() {
    let other = IRIS.replace("name: iris", "name: rose");
    assert_eq!(parse(&format!("{IRIS}---\n{other}")).unwrap().len(), 2);
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\nstringData: {a: b}\n";
    let message = parse(&format!("{secret}---\n{IRIS}")).unwrap_err().to_string();
    assert_eq!(message, "`s3`: kind: `Secret` of `v1` is no kind of Berth's: leave the document out");
    let one = IRIS.replace("name: iris", "name: iris\n  namespace: a");
    let two = IRIS.replace("name: iris", "name: iris\n  namespace: b");
    let message = parse(&format!("{one}---\n{two}")).unwrap_err().to_string();
    assert!(message.contains("there is a `iris` of `a` in this text too"), "{message}");
    let berths = read(&IRIS.replace("serving.kserve.io/v1beta1", crate::API_VERSION));
    assert_eq!(parse(&format!("{}---\n{other}", to_yaml(&berths).unwrap())).unwrap().len(), 2);
}

#[test]
fn the_list_is_bounded() {
    let long: Vec<String> = (0..1000).map(|n| format!("spec.predictor.field{n}")).collect();
    let list = listed(None, &long);
    assert!(list.len() < NOT_HONOURED_BYTES_MAX + 100 && list.ends_with(" more"), "{}", list.len());
    assert_eq!(listed(Some(&list), &long), list);
    assert_eq!(listed(Some("a, b"), &["b".to_owned(), "c".to_owned()]), "a, b, c");
    let by_hand = BTreeMap::from([(NOT_HONOURED.to_owned(), "x, ".repeat(80_000))]);
    assert!(condition(&by_hand).unwrap().message.len() < 1000);
    let by_hand = BTreeMap::from([(NOT_HONOURED.to_owned(), "x".repeat(80_000))]);
    assert!(condition(&by_hand).unwrap().message.len() < 100);
}

#[test]
fn names_of_annotations_are_kept_for_manifests_of_kserve() {
    let text = IRIS.replace("serving.kserve.io/v1beta1", crate::API_VERSION);
    let text = text.replace("name: iris", "name: iris\n  annotations: {berth.dev/traffic: '{}'}");
    let message = parse(&text).unwrap_err().to_string();
    assert!(message.contains("write the field `spec.traffic` here"), "{message}");
}

/// Every field of Berth's own kind that KServe has by the same name is taken from its manifests: one that is added there has to
/// be honoured in the table too, or an export would lose it.
#[test]
fn every_field_of_the_predictor_comes_back() {
    for (path, schema) in PLACES.iter().filter(|(path, _)| path.starts_with("spec.predictor")) {
        let of_predictor = path.split('.').nth(2);
        for field in schema.fields {
            let first = of_predictor.unwrap_or(field.name);
            let carried = extensions().any(|(_, place, extension)| place == Place::Predictor && extension == first);
            let mut sections = sections().iter().filter(|section| section.path == *path);
            let taken = sections.any(|section| {
                let known = section.fields.iter().find(|known| known.name == field.name);
                known.is_some_and(|known| matches!(known.treatment, Treatment::Honoured | Treatment::Mapped(_)))
            });
            assert!(taken || carried, "{path}.{} is not honoured in the table", field.name);
        }
    }
}

#[test]
fn the_table_says_what_to_do() {
    for section in sections() {
        let mut names: Vec<&str> = section.fields.iter().map(|field| field.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), section.fields.len(), "{}: a field stands twice", section.title);
        for field in section.fields {
            let speaks = matches!(field.treatment, Treatment::Honoured) || !field.note.is_empty();
            assert!(speaks, "{}.{}", section.path, field.name);
        }
    }
}

#[test]
fn an_export_says_what_a_cluster_needs() {
    let mut service = read(FROM_A_CLUSTER);
    service.metadata.name = crate::id::ServiceName::parse("7up").unwrap();
    service.spec.traffic = Some(Traffic { sticky: Some(Sticky { key: Some(true), ..Sticky::default() }) });
    service.spec.predictor.model.storage_uri = format!("bundle://sha256:{}", "0a".repeat(32));
    let Exported { manifest, notes } = export(&service);
    assert_eq!(manifest["apiVersion"], json!(API_VERSION));
    assert_eq!(manifest["metadata"]["annotations"]["berth.dev/traffic"], json!("{\"sticky\":{\"key\":true}}"));
    assert_eq!(manifest["spec"].get("traffic"), None);
    for word in ["no `traffic`", "upload its files", "begin with a letter", "`spec.predictor.nodeSelector`"] {
        assert!(notes.iter().any(|note| note.contains(word)), "{word}: {notes:?}");
    }
    assert_eq!(parse(&manifest.to_string()).unwrap(), [service]);
}

fn sticky() -> impl Strategy<Value = Option<Traffic>> {
    let some = prop_oneof![
        Just(None),
        "[a-z]{1,8}".prop_map(|header| Some(Sticky { header: Some(header), ..Sticky::default() })),
        "[a-z]{1,8}".prop_map(|cookie| Some(Sticky { cookie: Some(cookie), ..Sticky::default() })),
        Just(Some(Sticky { key: Some(true), ..Sticky::default() })),
    ];
    proptest::option::of(some.prop_map(|sticky| Traffic { sticky }))
}

fn service() -> impl Strategy<Value = InferenceService> {
    let texts = || proptest::collection::btree_map("[a-z]([-a-z0-9._]{0,8}[a-z0-9])?", "[a-z0-9]{0,9}", 0..4);
    let uri = prop_oneof!["file:///[a-zA-Z0-9 _'\":#{}&*-]{1,30}", "bundle://sha256:[0-9a-f]{64}"];
    let model = (proptest::sample::select(&MODEL_FORMATS[..]), uri, any::<(bool, bool, bool)>());
    let option = proptest::option::of::<std::ops::RangeInclusive<u32>>;
    let numbers = (option(1..=64), option(1..=3600), option(1..=65_535), option(0..=100));
    let batcher = proptest::option::of((option(1..=1024), option(0..=10_000)));
    ("[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", (texts(), texts()), model, numbers, (batcher, sticky())).prop_map(
        |(name, (labels, annotations), (format, uri, flags), numbers, (batcher, traffic))| {
            let mut service = read(IRIS);
            service.metadata.name = crate::id::ServiceName::parse(&name).unwrap();
            (service.metadata.labels, service.metadata.annotations) = (labels, annotations);
            service.metadata.namespace = flags.0.then(|| "default".to_owned());
            service.spec.traffic = traffic;
            let predictor = &mut service.spec.predictor;
            predictor.min_replicas = numbers.0;
            predictor.timeout = numbers.1.map(u64::from);
            predictor.container_concurrency = numbers.2;
            predictor.canary_traffic_percent = numbers.3;
            predictor.batcher = batcher.map(|(max_batch_size, max_latency)| Batcher { max_batch_size, max_latency });
            predictor.model.storage_uri = uri;
            let version = flags.1.then(|| "3".to_owned());
            predictor.model.model_format = ModelFormat { name: format.to_owned(), version };
            predictor.model.protocol_version = flags.1.then(|| "v2".to_owned());
            let list = ResourceList { cpu: Some("500m".to_owned()), memory: flags.1.then(|| "1Gi".to_owned()) };
            let limits = flags.0.then_some(list);
            predictor.model.resources = flags.2.then_some(ResourceRequirements { requests: None, limits });
            service
        },
    )
}

/// A document with one value of it put in another place, under another name or as another kind of value.
fn damaged(at: usize, name: &str, value: Value) -> Value {
    fn visit(value: &mut Value, at: &mut usize, name: &str, with: &Value) {
        if let Value::Object(object) = value {
            if *at == 0 {
                object.insert(name.to_owned(), with.clone());
            }
            *at = at.wrapping_sub(1);
            object.values_mut().for_each(|value| visit(value, at, name, with));
        }
    }
    let text = parse_any(FROM_A_CLUSTER);
    let (mut document, mut at) = (text, at);
    visit(&mut document, &mut at, name, &value);
    document
}

fn parse_any(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Every object of the schema that Berth reads field by field.
const OBJECTS: [&str; 9] = [
    "",
    "/metadata",
    "/spec",
    "/spec/predictor",
    "/spec/predictor/batcher",
    "/spec/predictor/model",
    "/spec/predictor/model/modelFormat",
    "/spec/predictor/model/resources",
    "/spec/predictor/model/resources/requests",
];

proptest! {
    #[test]
    fn an_export_that_is_applied_gives_the_service_back(service in service()) {
        let Exported { manifest, .. } = export(&service);
        let yaml = to_yaml(&manifest).unwrap();
        prop_assert_eq!(parse(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}")), vec![service]);
    }

    #[test]
    fn any_document_is_read_or_refused(at in 0..14_usize, name in "[a-zA-Z.*/\"\\[\\]]{0,12}", kind in 0..6_usize) {
        let value = [json!(null), json!(true), json!(-1.5), json!("x"), json!([[]]), json!({"": {"a": 1}})][kind].clone();
        let text = damaged(at, &name, value).to_string();
        if let Ok(services) = parse(&text) {
            for service in services {
                prop_assert_eq!(parse(&export(&service).manifest.to_string()).unwrap(), vec![service]);
            }
        }
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_others(
        place in proptest::sample::select(&OBJECTS[..]),
        name in "q[a-z]{3,9}q",
    ) {
        let mut document = parse_any(FROM_A_CLUSTER);
        let object = document.pointer_mut(place).unwrap().as_object_mut().unwrap();
        object.insert(name.clone(), json!(1));
        let message = parse(&document.to_string()).unwrap_err().to_string();
        let path = format!("{place}/{name}").trim_start_matches('/').replace('/', ".");
        prop_assert!(message.starts_with(&format!("{path}: unknown field `{name}`; ")), "{}", message);
        prop_assert!(message.matches('`').count() >= 4, "{}", message);
    }

    #[test]
    fn a_damaged_text_is_read_or_refused(at in 0..IRIS.len(), with in "[ -~\n]{0,3}", cut in 0..8_usize) {
        let (before, after) = IRIS.split_at(at);
        let text = format!("{before}{with}{}", after.chars().skip(cut).collect::<String>());
        drop(parse(&text));
    }
}
