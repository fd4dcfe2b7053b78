//! Every field of KServe's `InferenceService`, and what Berth does with it.

use serde_json::Value;

use super::{
    kinds, pod,
    values::{Outcome, concurrency, format, namespace, protocol, stop, uri},
};
use crate::manifest::walk::join;

/// What Berth does with a field.
#[derive(Clone, Copy, Debug)]
pub enum Treatment {
    /// It means here what it means in KServe.
    Honoured,
    /// It becomes something else, or only some of its values are taken.
    Mapped(fn(&Value) -> Outcome),
    /// A form from before `model`: it becomes `model` with this format.
    Form,
    /// It is accepted, has no effect, and the service says so.
    NotHonoured,
    /// The manifest is refused.
    Refused,
    /// The cluster wrote it for itself: it is left out.
    LeftOut,
}

impl Treatment {
    /// The word for people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Mapped(_) | Self::Form => "mapped",
            Self::NotHonoured => "not honoured",
            Self::Refused => "refused",
            Self::LeftOut => "left out",
        }
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inside {
    /// One value, or what nobody looks into.
    Value,
    /// Fields, in groups.
    Fields(&'static [&'static [Field]]),
    /// Texts by name; those with these names mean something to KServe. A name that ends with `*` stands for all that begin so.
    Keys(&'static [Field]),
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What Berth does with it.
    pub treatment: Treatment,
    /// What it becomes, or why it is not honoured or refused and what to do.
    pub note: &'static str,
    pub(super) inside: Inside,
}

impl Field {
    pub(super) fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(stem) => name.starts_with(stem),
            None => self.name == name,
        }
    }

    const fn with(self, fields: &'static [&'static [Field]]) -> Self {
        Self { inside: Inside::Fields(fields), ..self }
    }

    const fn keys(self, fields: &'static [Field]) -> Self {
        Self { inside: Inside::Keys(fields), ..self }
    }
}

const fn field(name: &'static str, treatment: Treatment, note: &'static str) -> Field {
    Field { name, treatment, note, inside: Inside::Value }
}

pub(super) const fn yes(name: &'static str, note: &'static str) -> Field {
    field(name, Treatment::Honoured, note)
}

const fn map(name: &'static str, to: fn(&Value) -> Outcome, note: &'static str) -> Field {
    field(name, Treatment::Mapped(to), note)
}

pub(super) const fn not(name: &'static str, note: &'static str) -> Field {
    field(name, Treatment::NotHonoured, note)
}

pub(super) const fn no(name: &'static str, note: &'static str) -> Field {
    field(name, Treatment::Refused, note)
}

const fn out(name: &'static str, note: &'static str) -> Field {
    field(name, Treatment::LeftOut, note)
}

/// A group of fields, as the reference page shows it.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Path of the object that the fields stand in; empty for the document.
    pub path: &'static str,
    /// What the fields are.
    pub title: &'static str,
    /// The fields.
    pub fields: &'static [Field],
}

/// Every field, by the object that it stands in.
#[must_use]
pub fn sections() -> &'static [Section] {
    SECTIONS
}

static SECTIONS: &[Section] = &[
    Section { path: "", title: "The document", fields: DOCUMENT },
    Section { path: "metadata", title: "Metadata", fields: METADATA },
    Section { path: "metadata.labels", title: "Labels", fields: LABELS },
    Section { path: "metadata.annotations", title: "Annotations", fields: ANNOTATIONS },
    Section { path: "spec", title: "The service", fields: SPEC },
    Section { path: "spec.predictor", title: "The predictor", fields: PREDICTOR },
    Section { path: "spec.predictor.batcher", title: "Batching", fields: BATCHER },
    Section { path: "spec.predictor", title: "Fields of the pod", fields: pod::POD },
    Section { path: "spec.predictor.model", title: "The model", fields: MODEL },
    Section { path: "spec.predictor.model.modelFormat", title: "The format", fields: FORMAT },
    Section { path: "spec.predictor.model.resources", title: "Resources", fields: RESOURCES },
    Section { path: "spec.predictor.model.resources.requests", title: "Amounts", fields: AMOUNTS },
    Section { path: "spec.predictor.model.resources.limits", title: "Amounts", fields: AMOUNTS },
    Section { path: "spec.predictor.model", title: "Fields of the container", fields: pod::CONTAINER },
];

/// The whole document.
pub(super) static WHOLE: &[&[Field]] = &[DOCUMENT];

static DOCUMENT: &[Field] = &[
    yes("apiVersion", "`serving.kserve.io/v1beta1`"),
    yes("kind", "`InferenceService`, or a list of them"),
    yes("metadata", "").with(&[METADATA]),
    yes("spec", "").with(&[SPEC]),
    out("status", "Berth writes its own"),
];

const CLUSTERS: &str = "the cluster's bookkeeping";

static METADATA: &[Field] = &[
    yes("name", "also the model's name in the protocol"),
    map("namespace", namespace, "a machine has one namespace, `default`"),
    yes("labels", "kept; those below have no effect").keys(LABELS),
    yes("annotations", "kept; those below have no effect").keys(ANNOTATIONS),
    out("uid", CLUSTERS),
    out("resourceVersion", CLUSTERS),
    out("generation", CLUSTERS),
    out("creationTimestamp", CLUSTERS),
    out("deletionTimestamp", CLUSTERS),
    out("deletionGracePeriodSeconds", CLUSTERS),
    out("selfLink", CLUSTERS),
    out("managedFields", CLUSTERS),
    out("finalizers", CLUSTERS),
    out("ownerReferences", CLUSTERS),
    no("generateName", "give the service a `name`"),
];

static LABELS: &[Field] = &[
    not("networking.kserve.io/visibility", "the address is `berth up --listen`, the same for every service"),
    not("networking.knative.dev/visibility", "the address is `berth up --listen`, the same for every service"),
    not("kueue.x-k8s.io/*", "there is one machine and no queue"),
    not("serving.kserve.io/*", "Berth does not know it"),
];

const NO_MODES: &str = "there is one way to run: a process for each replica";
const METRICS_OF_GATEWAY: &str = "metrics of every replica are at the gateway's `/metrics`";
const NO_ENVOY: &str = "there is no service mesh";
const NO_FETCHING: &str = "models are taken into the store of the machine when they are applied";
const IN_SPEC: &str = "how many replicas there are stands under `predictor`: write it there";

static ANNOTATIONS: &[Field] = &[
    not("serving.kserve.io/deploymentMode", NO_MODES),
    not("serving.kserve.io/enable-tag-routing", "ask a revision by its number: `/v2/models/NAME/versions/N`"),
    map("serving.kserve.io/stop", stop, "`true` is refused: delete the service instead"),
    not("serving.kserve.io/autoscalerClass", IN_SPEC),
    not("serving.kserve.io/metrics", IN_SPEC),
    not("serving.kserve.io/targetUtilizationPercentage", IN_SPEC),
    not("serving.kserve.io/enable-metric-aggregation", METRICS_OF_GATEWAY),
    not("serving.kserve.io/enable-prometheus-scraping", METRICS_OF_GATEWAY),
    not("serving.kserve.io/disable-localmodel", NO_FETCHING),
    not("serving.kserve.io/storage-initializer-uid", NO_FETCHING),
    not("serving.kserve.io/secretName", NO_FETCHING),
    not("serving.kserve.io/s3-*", NO_FETCHING),
    not("serving.kserve.io/gke-accelerator", "models run on CPUs"),
    not("serving.kserve.io/gpu-resource-types", "models run on CPUs"),
    not("serving.kserve.io/exp-dra-*", "models run on CPUs"),
    not("serving.kserve.io/*", "Berth does not know it"),
    not("internal.serving.kserve.io/*", "KServe's own"),
    yes("autoscaling.knative.dev/window", "how far back decisions look, and when an idle service has no replicas"),
    yes("autoscaling.knative.dev/scale-down-delay", "how long fewer replicas must have been enough"),
    not("autoscaling.knative.dev/*", IN_SPEC),
    not("serving.knative.dev/rollout-duration", "write `canaryTrafficPercent` under `predictor`"),
    not("serving.knative.dev/*", NO_MODES),
    not("serving.knative.openshift.io/*", NO_MODES),
    not("queue.sidecar.serving.knative.dev/*", NO_MODES),
    not("haproxy.router.openshift.io/*", "there is no router: `timeout` stands under `predictor`"),
    not("security.opendatahub.io/*", "access is by Berth's keys: `berth key create`"),
    not("sidecar.istio.io/*", NO_ENVOY),
    not("proxy.istio.io/*", NO_ENVOY),
    not("traffic.sidecar.istio.io/*", NO_ENVOY),
    not("prometheus.io/*", METRICS_OF_GATEWAY),
    not("prometheus.kserve.io/*", METRICS_OF_GATEWAY),
    not("storage.kserve.io/readonly", "bundles of the store are always read-only"),
    out("kubectl.kubernetes.io/last-applied-configuration", "kubectl's bookkeeping"),
];

static SPEC: &[Field] = &[
    yes("predictor", "").with(&[PREDICTOR, pod::POD]),
    no("transformer", "Berth runs no containers: transform in the client, or put it into the model's ONNX graph"),
    no("explainer", "Berth runs no containers: leave it out, or explain in the client"),
    no("canary", "write the newest model under `predictor` with `canaryTrafficPercent`"),
];

const NO_SCALING: &str = "write `scaleMetric` and `scaleTarget`, or `spec.slo` in Berth's own kind";

/// Fields of KServe's component and predictor, without those of the pod.
pub(super) static PREDICTOR: &[Field] = &[
    yes("model", "").with(&[MODEL, pod::CONTAINER]),
    form("onnx", "`model` with `modelFormat: {name: onnx}`"),
    form("xgboost", "`model` with `modelFormat: {name: xgboost}`"),
    form("lightgbm", "`model` with `modelFormat: {name: lightgbm}`"),
    no("sklearn", kinds::SKLEARN),
    no("tensorflow", kinds::TENSORFLOW),
    no("pytorch", kinds::PYTORCH),
    no("triton", kinds::TRITON),
    no("huggingface", kinds::HUGGINGFACE),
    no("pmml", kinds::PMML),
    no("paddle", kinds::PADDLE),
    yes("minReplicas", "default 1; with 0 an idle service has none"),
    yes("maxReplicas", "default: `minReplicas`, so that the number is fixed"),
    yes("scaleMetric", "`concurrency` or `rps`; `cpu` and `memory` are refused"),
    yes("scaleTarget", "of each replica"),
    not("scaleMetricType", NO_SCALING),
    not("autoScaling", NO_SCALING),
    map("containerConcurrency", concurrency, "0, no limit, is left out"),
    yes("timeout", "seconds, default 60"),
    yes("canaryTrafficPercent", "the newest revision's share; the last one that had all requests keeps the rest"),
    yes("batcher", "default: on, where the model allows it").with(&[BATCHER]),
    not("logger", "requests are not sent anywhere: metrics and traces say how many and how long"),
    not("labels", "put them under `metadata`"),
    not("annotations", "put them under `metadata`"),
    not(
        "deploymentStrategy",
        "a new revision takes over once it is ready, or step by step with `canaryTrafficPercent`",
    ),
    not("name", "revisions have numbers"),
    no("storageUris", "name one model in `model.storageUri`; what belongs to it goes into the same bundle directory"),
    not("storageContainerName", NO_FETCHING),
    no("workerSpec", "a model runs on one machine: keep it on the cluster"),
];

const fn form(name: &'static str, note: &'static str) -> Field {
    field(name, Treatment::Form, note).with(OF_FORM)
}

static BATCHER: &[Field] = &[
    yes("maxBatchSize", "rows of one run, default 32"),
    yes("maxLatency", "milliseconds, default 0: what waits anyway runs together. KServe's is 5000"),
    not("timeout", "the service's `timeout` holds"),
];

/// What `model` has and the forms before it have not.
static MODEL: &[Field] = &[
    yes("modelFormat", "").with(&[FORMAT]),
    not("runtime", "Berth has one runtime for every format"),
    URI,
    PROTOCOL,
    AMOUNT,
    VERSION,
    STORAGE,
    CONFIDENTIAL,
];

/// Fields of the forms before `model`.
static EXTENSION: &[Field] = &[URI, PROTOCOL, AMOUNT, VERSION, STORAGE, CONFIDENTIAL];

const URI: Field = map("storageUri", uri, "`file://` and `bundle://` are honoured, others refused, below");
const PROTOCOL: Field = map(
    "protocolVersion",
    protocol,
    "`v2`, `grpc-v2` and `v1` are served at once, on one port, whichever is named; `grpc-v1` is refused",
);
const AMOUNT: Field = yes("resources", "").with(OF_RESOURCES);
const VERSION: Field = not("runtimeVersion", "Berth has one runtime for every format");
const STORAGE: Field =
    no("storage", "Berth fetches no models: write `storageUri: file:///…` with the path of the model");
const CONFIDENTIAL: Field =
    no("confidential", "Berth reads no encrypted models: decrypt it on this machine and name its path");

static OF_FORM: &[&[Field]] = &[EXTENSION, pod::CONTAINER];
static OF_RESOURCES: &[&[Field]] = &[RESOURCES];

static FORMAT: &[Field] = &[
    map("name", format, "`onnx`, `xgboost`, `lightgbm`; others below"),
    yes("version", "only said; what counts is the content"),
];

static RESOURCES: &[Field] = &[
    yes("requests", "").with(&[AMOUNTS]),
    yes("limits", "").with(&[AMOUNTS]),
    no("claims", "models run on CPUs: leave it out"),
];

const NO_GPU: &str = "models run on CPUs: leave it out";

static AMOUNTS: &[Field] = &[
    yes("cpu", "whole computing threads"),
    yes("memory", "bytes that one replica may take"),
    not("ephemeral-storage", "a replica writes no files"),
    not("hugepages-*", "the machine's own setting holds"),
    no("nvidia.com/*", NO_GPU),
    no("amd.com/*", NO_GPU),
    no("gpu.intel.com/*", NO_GPU),
    no("intel.com/*", NO_GPU),
    no("habana.ai/*", NO_GPU),
    no("google.com/*", NO_GPU),
    no("aws.amazon.com/*", NO_GPU),
];

/// The note of the field at a path, in `model` or a form before it.
pub(super) fn note(path: &str) -> Option<&'static str> {
    let mut path = path.to_owned();
    for form in PREDICTOR.iter().filter(|field| matches!(field.treatment, Treatment::Form)) {
        if let Some(rest) = path.strip_prefix(&format!("spec.predictor.{}.", form.name)) {
            path = format!("spec.predictor.model.{rest}");
            break;
        }
    }
    let is = |section: &Section, field: &Field| match field.name.strip_suffix('*') {
        Some(stem) => path.starts_with(&format!("{}[\"{stem}", section.path)),
        None => join(section.path, field.name) == path,
    };
    SECTIONS.iter().find_map(|section| section.fields.iter().find(|field| is(section, field))).map(|field| field.note)
}
