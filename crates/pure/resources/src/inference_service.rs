//! The `InferenceService` kind: what a person asks for. The shape follows KServe's v1beta1.

use serde::{Deserialize, Serialize};

use crate::{API_VERSION, id::ServiceName, meta::ObjectMeta, rollout::Rollout, status::InferenceServiceStatus};

/// A model served under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InferenceService {
    /// Always `berth.dev/v1alpha1`.
    pub api_version: String,
    /// Always `InferenceService`.
    pub kind: String,
    /// Name and bookkeeping.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: InferenceServiceSpec,
    /// What is there. Written by the controller alone; ignored on input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<InferenceServiceStatus>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InferenceServiceSpec {
    /// The model and how it runs.
    pub predictor: Predictor,
    /// Which requests a revision gets while two of them share the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// How a new revision takes over: by steps that are judged. Absent, it gets all requests, or `canaryTrafficPercent` of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Tries the newest revision with copies of requests that an earlier one answers. A change of it makes no revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// What the service promises. A change of it makes no revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// How the service stands beside the others of the machine. A change of it makes no revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

/// Tries the newest revision with copies of requests: while this is there it answers no client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shadow {
    /// Percent of the requests for predictions that are mirrored to it, 1 to 100.
    pub percent: u32,
}

/// What a service promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slo {
    /// Milliseconds in which 99 of 100 requests are to be answered. Replicas are counted by it, unless `scaleMetric` or
    /// `scaleTarget` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<u32>,
}

/// How a service stands beside the others of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// How important it is, -[`PRIORITY_MAX`] to [`PRIORITY_MAX`]; default 0. When memory is short, the least important lose replicas first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

/// Which requests a revision gets while two of them share the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Traffic {
    /// What keeps a client with one revision. Without it every request is drawn by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

/// What keeps a client with one revision; exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sticky {
    /// The value of this header, in gRPC of this metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The value of the cookie of this name, which the client sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The API key of the request; only `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<bool>,
}

/// The model and how it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Predictor {
    /// The model.
    pub model: Model,
    /// Fewest replicas; default 1, at most [`REPLICAS_MAX`]. With 0 an idle service has none, and the next request starts one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// Most replicas, at least 1 and `min_replicas`, at most [`REPLICAS_MAX`]. Without it their number is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
    /// What replicas are counted by, one of [`SCALE_METRICS`]; default the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_metric: Option<String>,
    /// How much of it one replica is to have. Default: 70 % of what it works on at a time, or [`RPS_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_target: Option<u32>,
    /// Requests that one replica works on at a time; more wait in the gateway's limit. Default: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_concurrency: Option<u32>,
    /// Seconds until a request fails with a time-out; default 60, at most 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Which requests that wait run together. Default: [`BATCH_SIZE_DEFAULT`] rows and no wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batcher: Option<Batcher>,
    /// Percent of the requests that the newest revision gets once it is ready; the last one that had all of them keeps the
    /// rest. Absent or 100, the newest one gets all. A change of it makes no revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_traffic_percent: Option<u32>,
}

impl InferenceService {
    /// A service of this model that says nothing else.
    #[must_use]
    pub fn of(name: ServiceName, model: Model) -> Self {
        let predictor = Predictor {
            model,
            min_replicas: None,
            max_replicas: None,
            scale_metric: None,
            scale_target: None,
            container_concurrency: None,
            timeout: None,
            batcher: None,
            canary_traffic_percent: None,
        };
        let spec =
            InferenceServiceSpec { predictor, traffic: None, rollout: None, shadow: None, slo: None, placement: None };
        let (api_version, kind) = (API_VERSION.to_owned(), "InferenceService".to_owned());
        Self { api_version, kind, metadata: ObjectMeta::named(name), spec, status: None }
    }
}

impl Predictor {
    /// The part that makes a revision: all but how many replicas it has and how much traffic it gets.
    #[must_use]
    pub fn revisioned(&self) -> Self {
        Self {
            canary_traffic_percent: None,
            min_replicas: None,
            max_replicas: None,
            scale_metric: None,
            scale_target: None,
            ..self.clone()
        }
    }

    /// Whether `other` asks for the same number of replicas.
    pub fn scales_as(&self, other: &Self) -> bool {
        let of = |predictor: &Self| {
            let Self { min_replicas, max_replicas, scale_metric, scale_target, .. } = predictor;
            (*min_replicas, *max_replicas, scale_metric.clone(), *scale_target)
        };
        of(self) == of(other)
    }
}

/// Which requests that wait run together, where the model answers them as it does one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batcher {
    /// Rows of one run at most; 1 runs every request by itself. Default [`BATCH_SIZE_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<u32>,
    /// Milliseconds that a request waits for others though the model is idle. Default 0: what waits anyway runs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency: Option<u32>,
}

/// Where the model is and what it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// Format of the model.
    pub model_format: ModelFormat,
    /// `file:///absolute/path` to a model file or a bundle directory, or `bundle://sha256:<hex>` for one in the store.
    pub storage_uri: String,
    /// Protocol of the endpoint; only `v2`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Requested and permitted resources of one replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// Names of formats of models.
pub const MODEL_FORMATS: [&str; 3] = ["onnx", "xgboost", "lightgbm"];

/// Format of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelFormat {
    /// One of [`MODEL_FORMATS`]; the content of the model has to be of it.
    pub name: String,
    /// Version of the format; informative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Requests and limits in Kubernetes' notation (`500m`, `2`, `256Mi`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceRequirements {
    /// What one replica needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceList>,
    /// What one replica may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceList>,
}

/// Quantities of CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceList {
    /// CPUs: `2`, `0.5`, `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Bytes: `268435456`, `256Mi`, `1G`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// Replicas of one service on one machine: each is a process, and two cores do not fill more.
pub const REPLICAS_MAX: u32 = 64;
/// Names of what replicas are counted by.
pub const SCALE_METRICS: [&str; 2] = ["concurrency", "rps"];
/// Requests per second of one replica unless `scaleTarget` says otherwise, as Knative's.
pub const RPS_DEFAULT: u32 = 200;
/// Highest `scaleTarget`: far more than one process answers or holds.
pub const SCALE_TARGET_MAX: u32 = 1_000_000;
/// Highest `p99Ms`: the longest time-out.
pub const P99_MS_MAX: u32 = 3_600_000;
/// Highest priority, and with a minus the lowest: room between any two for what comes later.
pub const PRIORITY_MAX: i32 = 1000;
/// Default of `timeout`, as KServe's.
pub const TIMEOUT_SECONDS_DEFAULT: u64 = 60;
/// Longest `timeout`.
pub const TIMEOUT_SECONDS_MAX: u64 = 3600;
/// Default of `maxBatchSize`, as KServe's.
pub const BATCH_SIZE_DEFAULT: u32 = 32;
/// Highest `maxBatchSize`: as many requests as wait in one replica.
pub const BATCH_SIZE_MAX: u32 = 1024;
/// Longest `maxLatency`, milliseconds: beyond it clients take the service for dead.
pub const BATCH_LATENCY_MS_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::InferenceService;

    /// Published examples of v1beta1 still show fields of the shape before it.
    #[test]
    fn decision_9_fields_of_older_manifests_are_unknown() {
        let manifest = |extra: serde_json::Value| {
            let mut spec = serde_json::json!({"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///m"}}});
            spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            serde_json::from_value::<InferenceService>(serde_json::json!({
                "apiVersion": "berth.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": "iris"}, "spec": spec,
            }))
        };
        assert!(manifest(serde_json::json!({})).is_ok());
        let error =
            manifest(serde_json::json!({"transformer": {"custom": {"container": {"image": "x"}}}})).unwrap_err();
        assert!(error.to_string().contains("`transformer`"), "{error}");
    }
}
