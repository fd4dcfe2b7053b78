//! Checks the values of a service: ranges, names, quantities and what they say together.

use super::{
    FieldError, kserve,
    source::storage_source,
    walk::{clipped, join},
};
use crate::{
    API_VERSION,
    inference_service::{
        BATCH_LATENCY_MS_MAX, BATCH_SIZE_MAX, InferenceService, InferenceServiceSpec, MODEL_FORMATS, Model, P99_MS_MAX,
        PRIORITY_MAX, Predictor, REPLICAS_MAX, ResourceRequirements, SCALE_METRICS, SCALE_TARGET_MAX, Shadow, Sticky,
        TIMEOUT_SECONDS_MAX,
    },
    meta::ObjectMeta,
    quantity::{self, QuantityError},
    rollout::{Rollout, STEPS_MAX},
    scaling::Pace,
};

/// Labels and annotations of one service, each: as many as a person keeps in mind, and more.
const LABELS_MAX: usize = 64;
/// Bytes of all annotations together, as Kubernetes has it.
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;
/// Characters of a label's value and of its name without prefix, as Kubernetes has it.
const LABEL_LEN_MAX: usize = 63;
/// Characters of a label's prefix: a DNS name.
const LABEL_PREFIX_LEN_MAX: usize = 253;
/// Highest `containerConcurrency`: far more than one process can work on.
const CONCURRENCY_MAX: u32 = 65_535;
/// Seconds of a step of a rollout: a week, after which nobody waits for it.
const STEP_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// Requests of a step of a rollout: no share is compared better with more.
const STEP_REQUESTS_MAX: u32 = 100_000_000;
/// Characters of a header's or a cookie's name: more than any in use, and short enough to compare for every request.
const TOKEN_LEN_MAX: usize = 64;
/// The one kind.
const KIND: &str = "InferenceService";

/// Everything wrong with the values of `service`; nothing for one that can be served.
pub fn validate(service: &InferenceService) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(FieldError::new(path, message));
    if service.api_version != API_VERSION {
        let found = clipped(&service.api_version);
        wrong("apiVersion", format!("expected `{API_VERSION}`, found `{found}`"));
    }
    if service.kind != KIND {
        wrong("kind", format!("expected `{KIND}`, found `{}`", clipped(&service.kind)));
    }
    metadata(&service.metadata, &mut wrong);
    predictor(&service.spec.predictor, &mut wrong);
    scaling(&service.spec, &mut wrong);
    model(&service.spec.predictor.model, &mut wrong);
    if let Some(found) = service.spec.traffic.as_ref().and_then(|traffic| traffic.sticky.as_ref()) {
        sticky(found, &mut wrong);
    }
    if let Some(found) = &service.spec.rollout {
        if service.spec.predictor.canary_traffic_percent.is_some() {
            let text = "stands beside `spec.predictor.canaryTrafficPercent`, which sets a share by hand: remove one of the two";
            wrong("spec.rollout", text.to_owned());
        }
        if service.spec.shadow.is_some() {
            let text = "stands beside `spec.shadow`, whose revision answers nobody: remove one of the two";
            wrong("spec.rollout", text.to_owned());
        }
        rollout(found, &mut wrong);
    }
    let priority = service.spec.placement.and_then(|placement| placement.priority);
    if let Some(n) = priority.filter(|n| !(-PRIORITY_MAX..=PRIORITY_MAX).contains(n)) {
        wrong("spec.placement.priority", format!("expected -{PRIORITY_MAX} to {PRIORITY_MAX}, found `{n}`"));
    }
    if let Some(found) = service.spec.shadow {
        shadow(found, &service.spec.predictor, &mut wrong);
    }
    errors
}

fn metadata(meta: &ObjectMeta, wrong: &mut impl FnMut(&str, String)) {
    if let Some(namespace) = meta.namespace.as_ref().filter(|namespace| *namespace != "default") {
        let found = clipped(namespace);
        wrong("metadata.namespace", format!("expected `default`, the one namespace of a machine, found `{found}`"));
    }
    for (field, map) in [("labels", &meta.labels), ("annotations", &meta.annotations)] {
        let path = format!("metadata.{field}");
        if map.len() > LABELS_MAX {
            wrong(&path, format!("has {} entries, more than {LABELS_MAX}", map.len()));
        }
        for key in map.keys().filter(|key| !is_label_key(key)).take(LABELS_MAX) {
            let text = format!(
                "`{}` is no name for a label: use letters, digits, `-`, `_` and `.`, after a DNS prefix and `/` if you like",
                clipped(key)
            );
            wrong(&path, text);
        }
    }
    for (key, value) in meta.labels.iter().filter(|(_, value)| !value.is_empty() && !is_label(value)).take(LABELS_MAX) {
        let text = format!(
            "`{}` is no value for the label `{}`: use at most {LABEL_LEN_MAX} letters, digits, `-`, `_` and `.`, \
             or an annotation",
            clipped(value),
            clipped(key)
        );
        wrong("metadata.labels", text);
    }
    for (annotation, field) in meta.annotations.keys().filter_map(|key| Some((key, kserve::reserved(key)?))) {
        let path = join("metadata.annotations", annotation);
        wrong(&path, format!("is for manifests of KServe: write the field `{field}` here"));
    }
    let bytes: usize = meta.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATION_BYTES_MAX {
        wrong("metadata.annotations", format!("has {bytes} bytes, more than {ANNOTATION_BYTES_MAX}"));
    }
    if let Err((key, message)) = Pace::of(&meta.annotations) {
        wrong(&format!("metadata.annotations.{key}"), message);
    }
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        !prefix.is_empty() && prefix.len() <= LABEL_PREFIX_LEN_MAX && prefix.bytes().all(inner)
    });
    prefix_fits && is_label(name)
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= LABEL_LEN_MAX && text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

fn predictor(predictor: &Predictor, wrong: &mut impl FnMut(&str, String)) {
    if let Some(n) = predictor.container_concurrency.filter(|n| !(1..=CONCURRENCY_MAX).contains(n)) {
        let text = format!("expected 1 to {CONCURRENCY_MAX}, found `{n}`: leave it out for no limit");
        wrong("spec.predictor.containerConcurrency", text);
    }
    if let Some(n) = predictor.timeout.filter(|n| !(1..=TIMEOUT_SECONDS_MAX).contains(n)) {
        wrong("spec.predictor.timeout", format!("expected 1 to {TIMEOUT_SECONDS_MAX} seconds, found `{n}`"));
    }
    if let Some(n) = predictor.canary_traffic_percent.filter(|n| *n > 100) {
        wrong("spec.predictor.canaryTrafficPercent", format!("expected 0 to 100 percent, found `{n}`"));
    }
    let batcher = predictor.batcher.unwrap_or_default();
    if let Some(n) = batcher.max_batch_size.filter(|n| !(1..=BATCH_SIZE_MAX).contains(n)) {
        let text = format!("expected 1 to {BATCH_SIZE_MAX}, found `{n}`: 1 runs every request by itself");
        wrong("spec.predictor.batcher.maxBatchSize", text);
    }
    if let Some(n) = batcher.max_latency.filter(|n| *n > BATCH_LATENCY_MS_MAX) {
        let text = format!("expected 0 to {BATCH_LATENCY_MS_MAX} milliseconds, found `{n}`");
        wrong("spec.predictor.batcher.maxLatency", text);
    }
}

fn rollout(rollout: &Rollout, wrong: &mut impl FnMut(&str, String)) {
    const PATH: &str = "spec.rollout";
    if rollout.steps.is_empty() || rollout.steps.len() > STEPS_MAX {
        let found = rollout.steps.len();
        wrong(&format!("{PATH}.steps"), format!("expected 1 to {STEPS_MAX} steps, found {found}"));
    }
    let mut before = 0;
    for (at, step) in rollout.steps.iter().take(STEPS_MAX).enumerate() {
        let path = format!("{PATH}.steps[{at}].percent");
        if !(1..=99).contains(&step.percent) {
            let text = format!("expected 1 to 99 percent, found `{}`: after the last step it gets all", step.percent);
            wrong(&path, text);
        } else if step.percent <= before {
            wrong(
                &path,
                format!("expected more than the {before} percent of the step before, found `{}`", step.percent),
            );
        }
        before = step.percent;
        if step.min_ms() > STEP_SECONDS_MAX * 1000 {
            wrong(&format!("{PATH}.steps[{at}].minSeconds"), format!("expected 0 to {STEP_SECONDS_MAX} seconds"));
        }
    }
    let limits = rollout.limits();
    let mut range = |name: &str, value: f64, from: f64, to: f64| {
        if !(from..=to).contains(&value) {
            wrong(&format!("{PATH}.analysis.{name}"), format!("expected {from} to {to}, found `{value}`"));
        }
    };
    range("minRequests", limits.min_requests as f64, 1.0, f64::from(STEP_REQUESTS_MAX));
    range("maxSeconds", (limits.max_ms / 1000) as f64, 1.0, STEP_SECONDS_MAX as f64);
    range("falseRollbackRate", limits.false_rollback_rate, 1e-9, 0.5);
    range("latencyTolerance", limits.latency_tolerance, 1.0, 100.0);
    range("outputTolerance", limits.output_tolerance, 0.0, 1.0);
}

fn shadow(shadow: Shadow, predictor: &Predictor, wrong: &mut impl FnMut(&str, String)) {
    if !(1..=100).contains(&shadow.percent) {
        let text = format!("expected 1 to 100 percent, found `{}`: leave `shadow` out to mirror none", shadow.percent);
        wrong("spec.shadow.percent", text);
    }
    if let Some(percent) = predictor.canary_traffic_percent {
        let text = format!(
            "a revision that is shadowed answers no clients, and `canaryTrafficPercent` gives it {percent} % of them: remove one of the two"
        );
        wrong("spec.shadow", text);
    }
}

/// How many replicas there may be, and by what they are counted.
fn scaling(spec: &InferenceServiceSpec, wrong: &mut impl FnMut(&str, String)) {
    let Predictor { min_replicas, max_replicas, scale_metric, scale_target, .. } = &spec.predictor;
    let min = min_replicas.unwrap_or(1);
    if min > REPLICAS_MAX {
        wrong("spec.predictor.minReplicas", format!("expected 0 to {REPLICAS_MAX}, found `{min}`"));
    }
    if let Some(max) = max_replicas.filter(|max| *max < min.max(1) || *max > REPLICAS_MAX) {
        let (least, most) = (min.clamp(1, REPLICAS_MAX), REPLICAS_MAX);
        let text =
            format!("expected {least} to {most}, found `{max}`: it is the most replicas, `minReplicas` the fewest");
        wrong("spec.predictor.maxReplicas", text);
    }
    if let Some(metric) = scale_metric.as_ref().filter(|metric| !SCALE_METRICS.contains(&metric.as_str())) {
        let why = match metric.as_str() {
            "cpu" | "memory" => ": that replicas are busy does not tell how many requests wait, which these count",
            _ => "",
        };
        let text = format!("expected `concurrency` or `rps`, found `{}`{why}", clipped(metric));
        wrong("spec.predictor.scaleMetric", text);
    }
    if let Some(n) = scale_target.filter(|n| !(1..=SCALE_TARGET_MAX).contains(n)) {
        wrong("spec.predictor.scaleTarget", format!("expected 1 to {SCALE_TARGET_MAX}, found `{n}`"));
    }
    if let Some(n) = spec.slo.and_then(|slo| slo.p99_ms).filter(|n| !(1..=P99_MS_MAX).contains(n)) {
        wrong("spec.slo.p99Ms", format!("expected 1 to {P99_MS_MAX} milliseconds, found `{n}`"));
    }
}

fn sticky(sticky: &Sticky, wrong: &mut impl FnMut(&str, String)) {
    const PATH: &str = "spec.traffic.sticky";
    let Sticky { header, cookie, key } = sticky;
    let given = usize::from(header.is_some()) + usize::from(cookie.is_some()) + usize::from(key.is_some());
    if given != 1 {
        wrong(PATH, format!("expected one of `header`, `cookie` and `key`, found {given}"));
    }
    if *key == Some(false) {
        wrong(&format!("{PATH}.key"), "expected `true`: leave `sticky` out to draw every request by itself".to_owned());
    }
    for (field, name) in [("header", header), ("cookie", cookie)] {
        if let Some(name) = name.as_ref().filter(|name| !is_token(name)) {
            let text = format!(
                "`{}` is no name of a {field}: use at most {TOKEN_LEN_MAX} letters, digits and characters of `!#$%&'*+-.^_|~`",
                clipped(name)
            );
            wrong(&format!("{PATH}.{field}"), text);
        }
    }
    if let Some(name) = header {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "authorization" | "proxy-authorization" => {
                wrong(&format!("{PATH}.header"), format!("`{lower}` is a credential: write `key: true`"));
            }
            "cookie" => {
                wrong(&format!("{PATH}.header"), "`cookie` holds many: write `cookie:` and the name".to_owned())
            }
            _ => {}
        }
    }
}

/// A token of RFC 9110, 5.6.2, of which names of headers and cookies are made.
fn is_token(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.len() <= TOKEN_LEN_MAX && text.bytes().all(inner)
}

fn model(model: &Model, wrong: &mut impl FnMut(&str, String)) {
    if !MODEL_FORMATS.contains(&model.model_format.name.as_str()) {
        let found = clipped(&model.model_format.name);
        let text = format!("expected `onnx`, `xgboost` or `lightgbm`, found `{found}`: export the model to ONNX");
        wrong("spec.predictor.model.modelFormat.name", text);
    }
    if let Err(text) = storage_source(&model.storage_uri) {
        wrong("spec.predictor.model.storageUri", text);
    }
    if let Some(version) = model.protocol_version.as_ref().filter(|version| *version != "v2") {
        let text = format!("expected `v2`, which is REST and gRPC, found `{}`", clipped(version));
        wrong("spec.predictor.model.protocolVersion", text);
    }
    if let Some(resources) = &model.resources {
        let cpu = amounts(resources, "cpu", quantity::cpu_milli, wrong);
        let memory = amounts(resources, "memory", quantity::bytes, wrong);
        for (name, excess) in [("cpu", cpu), ("memory", memory)] {
            if excess {
                let path = format!("spec.predictor.model.resources.requests.{name}");
                wrong(&path, format!("is more than `limits.{name}`: lower it, or raise the limit"));
            }
        }
    }
}

/// Reads requests and limits of one resource; whether more is requested than permitted.
fn amounts(
    resources: &ResourceRequirements,
    name: &str,
    read: fn(&str) -> Result<u64, QuantityError>,
    wrong: &mut impl FnMut(&str, String),
) -> bool {
    let mut amounts = [None, None];
    let lists = [("requests", &resources.requests), ("limits", &resources.limits)];
    for (amount, (list_name, list)) in amounts.iter_mut().zip(lists) {
        let text =
            list.as_ref().and_then(|list| if name == "cpu" { list.cpu.as_deref() } else { list.memory.as_deref() });
        match text.map(read) {
            Some(Ok(value)) => *amount = Some(value),
            Some(Err(error)) => {
                wrong(&format!("spec.predictor.model.resources.{list_name}.{name}"), error.to_string());
            }
            None => {}
        }
    }
    matches!(amounts, [Some(request), Some(limit)] if request > limit)
}
