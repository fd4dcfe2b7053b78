//! Which fields a manifest may have, of what kind, and which of KServe's are not honoured.

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// A service's name.
    Name,
    /// A whole number from 0.
    Integer,
    /// A whole number, below 0 too.
    Signed,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// Text or number: `500m`, `2`, `256Mi`.
    Quantity,
    /// Text by text.
    Map,
    /// Fields.
    Object(&'static Schema),
    /// Several objects of one kind.
    List(&'static Schema),
    /// Anything; dropped.
    Ignored,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// Fields of one object, and those that another implementation knows: name and what to do instead.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) fields: &'static [Field],
    pub(super) unsupported: &'static [(&'static str, &'static str)],
}

const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

/// The whole kind.
pub(super) static INFERENCE_SERVICE: Schema = Schema {
    fields: &[
        must("apiVersion", Kind::Text),
        must("kind", Kind::Text),
        must("metadata", Kind::Object(&METADATA)),
        must("spec", Kind::Object(&SPEC)),
        may("status", Kind::Ignored),
    ],
    unsupported: &[],
};

/// Every object with its path, for a field that stands in the wrong one.
pub(super) static PLACES: &[(&str, &Schema)] = &[
    ("", &INFERENCE_SERVICE),
    ("metadata", &METADATA),
    ("spec", &SPEC),
    ("spec.slo", &SLO),
    ("spec.placement", &PLACEMENT),
    ("spec.traffic", &TRAFFIC),
    ("spec.traffic.sticky", &STICKY),
    ("spec.rollout", &ROLLOUT),
    ("spec.rollout.analysis", &ANALYSIS),
    ("spec.shadow", &SHADOW),
    ("spec.predictor", &PREDICTOR),
    ("spec.predictor.batcher", &BATCHER),
    ("spec.predictor.model", &MODEL),
    ("spec.predictor.model.modelFormat", &MODEL_FORMAT),
    ("spec.predictor.model.resources", &RESOURCES),
];

static METADATA: Schema = Schema {
    fields: &[
        must("name", Kind::Name),
        may("namespace", Kind::Text),
        may("labels", Kind::Map),
        may("annotations", Kind::Map),
        may("uid", Kind::Text),
        may("resourceVersion", Kind::Text),
        may("generation", Kind::Integer),
        may("creationTimestamp", Kind::Text),
    ],
    unsupported: &[
        ("generateName", "give the service a `name`"),
        ("finalizers", REMOVE),
        ("ownerReferences", REMOVE),
        ("managedFields", REMOVE),
        ("selfLink", REMOVE),
        ("deletionTimestamp", REMOVE),
        ("deletionGracePeriodSeconds", REMOVE),
    ],
};

pub(super) static SPEC: Schema = Schema {
    fields: &[
        must("predictor", Kind::Object(&PREDICTOR)),
        may("traffic", Kind::Object(&TRAFFIC)),
        may("rollout", Kind::Object(&ROLLOUT)),
        may("shadow", Kind::Object(&SHADOW)),
        may("slo", Kind::Object(&SLO)),
        may("placement", Kind::Object(&PLACEMENT)),
    ],
    unsupported: &[
        ("transformer", "transform in the client, or in the model's graph"),
        ("explainer", REMOVE),
        ("canary", "write `canaryTrafficPercent` under `predictor`"),
        ("canaryTrafficPercent", "write it under `predictor`"),
    ],
};

static SLO: Schema = Schema { fields: &[may("p99Ms", Kind::Integer)], unsupported: &[] };

static PLACEMENT: Schema = Schema { fields: &[may("priority", Kind::Signed)], unsupported: &[] };

static TRAFFIC: Schema = Schema { fields: &[may("sticky", Kind::Object(&STICKY))], unsupported: &[] };

static SHADOW: Schema = Schema { fields: &[must("percent", Kind::Integer)], unsupported: &[] };

static STICKY: Schema = Schema {
    fields: &[may("header", Kind::Text), may("cookie", Kind::Text), may("key", Kind::Boolean)],
    unsupported: &[],
};

static ROLLOUT: Schema = Schema {
    fields: &[
        must("steps", Kind::List(&STEP)),
        may("analysis", Kind::Object(&ANALYSIS)),
        may("autoPromote", Kind::Boolean),
        may("autoRollback", Kind::Boolean),
    ],
    unsupported: &[],
};

static STEP: Schema =
    Schema { fields: &[must("percent", Kind::Integer), may("minSeconds", Kind::Integer)], unsupported: &[] };

static ANALYSIS: Schema = Schema {
    fields: &[
        may("minRequests", Kind::Integer),
        may("maxSeconds", Kind::Integer),
        may("falseRollbackRate", Kind::Number),
        may("latencyTolerance", Kind::Number),
        may("outputTolerance", Kind::Number),
    ],
    unsupported: &[],
};

static BATCHER: Schema = Schema {
    fields: &[may("maxBatchSize", Kind::Integer), may("maxLatency", Kind::Integer)],
    unsupported: &[("timeout", "it is the service's: write `timeout` beside `batcher`")],
};

pub(super) static PREDICTOR: Schema = Schema {
    fields: &[
        must("model", Kind::Object(&MODEL)),
        may("minReplicas", Kind::Integer),
        may("maxReplicas", Kind::Integer),
        may("scaleMetric", Kind::Text),
        may("scaleTarget", Kind::Integer),
        may("containerConcurrency", Kind::Integer),
        may("timeout", Kind::Integer),
        may("batcher", Kind::Object(&BATCHER)),
        may("canaryTrafficPercent", Kind::Integer),
    ],
    unsupported: &[
        ("name", REMOVE),
        ("scaleMetricType", SCALES),
        ("autoScaling", SCALES),
        ("logger", REMOVE),
        ("deploymentStrategy", "a new revision takes over once it is ready, or step by step with `spec.rollout`"),
        ("labels", "put them under `metadata`"),
        ("annotations", "put them under `metadata`"),
        ("storageUris", "name one bundle in `model.storageUri`"),
        ("storageContainerName", REMOVE),
        ("workerSpec", REMOVE),
        ("sklearn", TO_ONNX),
        ("xgboost", "write `model` with `modelFormat: {name: xgboost}`"),
        ("lightgbm", "write `model` with `modelFormat: {name: lightgbm}`"),
        ("tensorflow", TO_ONNX),
        ("pytorch", TO_ONNX),
        ("paddle", TO_ONNX),
        ("pmml", TO_ONNX),
        ("huggingface", TO_ONNX),
        ("triton", "write `model` with `modelFormat: {name: onnx}`"),
        ("onnx", "write `model` with `modelFormat: {name: onnx}`"),
        ("containers", NO_CONTAINERS),
        ("initContainers", NO_CONTAINERS),
        ("volumes", NO_CONTAINERS),
        ("imagePullSecrets", NO_CONTAINERS),
        ("serviceAccountName", NO_CONTAINERS),
        ("securityContext", "every runtime is sandboxed already"),
        ("nodeSelector", ONE_MACHINE),
        ("tolerations", ONE_MACHINE),
        ("affinity", ONE_MACHINE),
        ("topologySpreadConstraints", ONE_MACHINE),
        ("priorityClassName", ONE_MACHINE),
        ("runtimeClassName", ONE_MACHINE),
        ("schedulerName", ONE_MACHINE),
        ("terminationGracePeriodSeconds", REMOVE),
    ],
};

static MODEL: Schema = Schema {
    fields: &[
        must("modelFormat", Kind::Object(&MODEL_FORMAT)),
        must("storageUri", Kind::Text),
        may("protocolVersion", Kind::Text),
        may("resources", Kind::Object(&RESOURCES)),
    ],
    unsupported: &[
        ("runtime", "Berth has one runtime for every format"),
        ("runtimeVersion", "Berth has one runtime for every format"),
        ("storage", "name the model in `storageUri`"),
        ("confidential", REMOVE),
        ("name", REMOVE),
        ("image", NO_CONTAINERS),
        ("command", NO_CONTAINERS),
        ("args", NO_CONTAINERS),
        ("env", NO_CONTAINERS),
        ("envFrom", NO_CONTAINERS),
        ("ports", NO_CONTAINERS),
        ("volumeMounts", NO_CONTAINERS),
        ("workingDir", NO_CONTAINERS),
        ("imagePullPolicy", NO_CONTAINERS),
        ("securityContext", "every runtime is sandboxed already"),
        ("livenessProbe", PROBED),
        ("readinessProbe", PROBED),
        ("startupProbe", PROBED),
        ("lifecycle", REMOVE),
    ],
};

static MODEL_FORMAT: Schema =
    Schema { fields: &[must("name", Kind::Text), may("version", Kind::Text)], unsupported: &[] };

static RESOURCES: Schema = Schema {
    fields: &[may("requests", Kind::Object(&RESOURCE_LIST)), may("limits", Kind::Object(&RESOURCE_LIST))],
    unsupported: &[("claims", REMOVE)],
};

static RESOURCE_LIST: Schema = Schema {
    fields: &[may("cpu", Kind::Quantity), may("memory", Kind::Quantity)],
    unsupported: &[
        ("ephemeral-storage", REMOVE),
        ("nvidia.com/gpu", "models run on CPUs"),
        ("amd.com/gpu", "models run on CPUs"),
        ("gpu.intel.com/i915", "models run on CPUs"),
    ],
};

const REMOVE: &str = "remove it";
const SCALES: &str = "write `maxReplicas`, and `scaleMetric` and `scaleTarget` or `slo.p99Ms`";
const TO_ONNX: &str = "export the model to ONNX and write `model` with `modelFormat: {name: onnx}`";
const NO_CONTAINERS: &str = "a replica is a process, not a container: remove it";
const ONE_MACHINE: &str = "there is one machine: remove it";
const PROBED: &str = "replicas are probed already: remove it";
