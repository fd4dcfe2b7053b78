//! `berth describe`: everything about a service, as kubectl prints it.

use std::collections::BTreeMap;

use client::EventQuery;
use resources::{
    event::Event,
    inference_service::{InferenceService, ResourceList, TIMEOUT_SECONDS_DEFAULT},
    scaling::Bounds,
    status::{InferenceServiceStatus, ReplicaPhase},
};
use serde_json::json;

use super::{events, get, shadow};
use crate::{
    context::Context,
    failure::Failure,
    infer,
    output::{Tone, printable},
    quantities::age,
    table::{indented, one_line},
};

/// Newest events that are shown.
const EVENTS_MAX: u32 = 12;

pub(super) async fn describe(context: &Context, name: &str) -> Result<(), Failure> {
    let service = context.client.service(name).await?;
    let query = EventQuery { service: Some(name.to_owned()), limit: Some(EVENTS_MAX), after: None };
    let events = context.client.events(&query).await?;
    if !context.out.is_for_people() {
        return context.out.value(&json!({"service": service, "events": events}));
    }
    let status = service.status.clone().unwrap_or_default();
    let now_ms = daemon::time::now_ms();
    let agreement = shadow::agreement(context, &service).await;
    let mirrored = shadow::words(&service, agreement.as_ref());
    let mut text = head(context, &service, &status, (now_ms, mirrored));
    text.push_str(&tensors(context, name, &status).await);
    text.push_str(&states(context, &status, now_ms));
    text.push_str(&list_of_events(context, &events, now_ms));
    text.push_str(&call(context, &status));
    context.out.text(text.trim_end())
}

fn head(
    context: &Context,
    service: &InferenceService,
    status: &InferenceServiceStatus,
    (now_ms, mirrored): (u64, String),
) -> String {
    let (meta, predictor) = (&service.metadata, &service.spec.predictor);
    let (word, tone) = get::word(service);
    let ready = status.replicas.iter().filter(|replica| replica.phase == ReplicaPhase::Ready).count();
    let created = meta
        .creation_timestamp
        .as_deref()
        .map_or_else(|| "?".to_owned(), |time| format!("{time} ({} ago)", age(time, now_ms)));
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
    let revisions = format!(
        "{} newest, {} ready",
        or_none(status.latest_created_revision.map(|revision| revision.to_string())),
        or_none(status.latest_ready_revision.map(|revision| revision.to_string()))
    );
    let lines = [
        ("Name", meta.name.to_string()),
        ("Status", context.out.toned(&word, tone)),
        ("Labels", map(&meta.labels)),
        ("Annotations", map(&meta.annotations)),
        ("Created", created),
        ("Generation", format!("{} (seen {})", meta.generation.unwrap_or(0), status.observed_generation)),
        ("URL", or_none(status.url.clone())),
        ("Model", printable(&predictor.model.storage_uri)),
        ("Format", predictor.model.model_format.name.clone()),
        ("Bundle", or_none(status.bundle.as_ref().map(ToString::to_string))),
        ("Revision", revisions),
        ("Traffic", traffic(status)),
        ("Shadow", mirrored),
        ("Replicas", format!("{} wanted, {ready} ready", predictor.min_replicas.unwrap_or(1))),
        ("Replicas", replicas(service, status, ready)),
        ("Scaling", scaling(service, status)),
        (
            "Concurrency",
            predictor.container_concurrency.map_or_else(|| "no limit".to_owned(), |n| format!("{n} per replica")),
        ),
        ("Timeout", format!("{} s", predictor.timeout.unwrap_or(TIMEOUT_SECONDS_DEFAULT))),
        ("Requests", amounts(predictor.model.resources.as_ref().and_then(|resources| resources.requests.as_ref()))),
        ("Limits", amounts(predictor.model.resources.as_ref().and_then(|resources| resources.limits.as_ref()))),
    ];
    let mut text = String::new();
    for (label, value) in lines {
        text.push_str(&format!("{:<14}{value}\n", format!("{label}:")));
    }
    text
}

/// `3 wanted, 2 ready`.
fn replicas(service: &InferenceService, status: &InferenceServiceStatus, ready: usize) -> String {
    let wanted = status.scale.as_ref().map_or(Bounds::of(&service.spec).min, |scale| scale.desired);
    format!("{wanted} wanted, {ready} ready")
}

/// `0 to 8 replicas; 12.0 requests/s, …`.
fn scaling(service: &InferenceService, status: &InferenceServiceStatus) -> String {
    let bounds = Bounds::of(&service.spec);
    if !bounds.scales() {
        return "fixed".to_owned();
    }
    let reason = status.scale.as_ref().map(|scale| scale.reason.as_str()).filter(|reason| !reason.is_empty());
    let reason = reason.map_or_else(String::new, |reason| format!("; {}", printable(reason)));
    format!("{} to {} replicas{reason}", bounds.min, bounds.max)
}

/// `10 % to revision 2, 90 % to revision 1`.
fn traffic(status: &InferenceServiceStatus) -> String {
    let shares = status.traffic.iter().map(|share| format!("{} % to revision {}", share.percent, share.revision));
    let shares: Vec<String> = shares.collect();
    if shares.is_empty() { "<none>".to_owned() } else { shares.join(", ") }
}

fn map(map: &BTreeMap<String, String>) -> String {
    if map.is_empty() {
        return "<none>".to_owned();
    }
    map.iter().map(|(key, value)| format!("{key}={}", one_line(value))).collect::<Vec<_>>().join(", ")
}

fn amounts(list: Option<&ResourceList>) -> String {
    let list = list.cloned().unwrap_or_default();
    let named = [("cpu", list.cpu), ("memory", list.memory)];
    let named: Vec<String> =
        named.into_iter().filter_map(|(name, amount)| amount.map(|amount| format!("{name} {amount}"))).collect();
    if named.is_empty() { "<none>".to_owned() } else { named.join(", ") }
}

/// Inputs and outputs, when somebody can be asked.
async fn tensors(context: &Context, name: &str, status: &InferenceServiceStatus) -> String {
    if status.latest_ready_revision.is_none() {
        return String::new();
    }
    let Ok(metadata) = infer::local_metadata(context, name).await else { return String::new() };
    let mut text = String::new();
    for (title, specs) in [("Inputs", &metadata.inputs), ("Outputs", &metadata.outputs)] {
        let rows =
            specs.iter().map(|spec| vec![printable(&spec.name), spec.datatype.clone(), format!("{:?}", spec.shape)]);
        section(context, &mut text, title, &indented(&["NAME", "DATATYPE", "SHAPE"], rows.collect()));
    }
    text
}

fn states(context: &Context, status: &InferenceServiceStatus, now_ms: u64) -> String {
    let mut text = String::new();
    let since = |time: &Option<String>| time.as_deref().map_or_else(|| "?".to_owned(), |time| age(time, now_ms));
    let rows = status.conditions.iter().map(|condition| {
        vec![
            format!("{:?}", condition.kind),
            format!("{:?}", condition.status),
            condition.reason.clone(),
            since(&condition.last_transition_time),
            one_line(&condition.message),
        ]
    });
    let table = indented(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows.collect());
    section(context, &mut text, "Conditions", &table);
    // What does not fit in a line, the log's last lines above all, is shown whole; once.
    let mut long: Vec<&str> = status
        .conditions
        .iter()
        .map(|condition| condition.message.as_str())
        .filter(|text| text.contains('\n'))
        .collect();
    long.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
    if let Some(message) = long.first() {
        let lines: Vec<String> = printable(message).lines().map(|line| format!("    {line}")).collect();
        text.push_str(&format!("\n{}\n", lines.join("\n")));
    }
    let rows = status.replicas.iter().map(|replica| {
        vec![
            replica.id.to_string(),
            replica.revision.to_string(),
            format!("{:?}", replica.phase),
            replica.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            replica.restarts.to_string(),
            one_line(&replica.message),
        ]
    });
    let table = indented(&["ID", "REVISION", "PHASE", "PID", "RESTARTS", "MESSAGE"], rows.collect());
    section(context, &mut text, "Replicas", &table);
    let plan: Vec<String> = status.plan.iter().map(|line| format!("  {}", one_line(line))).collect();
    section(context, &mut text, "Last plan", &plan.join("\n"));
    text
}

fn list_of_events(context: &Context, events: &[Event], now_ms: u64) -> String {
    let mut text = String::new();
    let rows = events.iter().map(|event| {
        let mut row = events::row(context.out, event, now_ms);
        // Every event here is of this service.
        row.remove(3);
        row
    });
    section(context, &mut text, "Events", &indented(&["AGE", "TYPE", "REASON", "MESSAGE"], rows.collect()));
    text
}

fn call(context: &Context, status: &InferenceServiceStatus) -> String {
    let Some(url) = &status.url else { return String::new() };
    let key = context.local_key();
    let insecure = if url.starts_with("https") { " --cacert CERT.pem" } else { "" };
    let line = format!(
        "  curl {url}/infer{insecure} -H \"Authorization: Bearer $(cat {})\" -H 'Content-Type: application/json' --data @request.json",
        key.display()
    );
    let mut text = String::new();
    section(context, &mut text, "Call it", &line);
    text
}

fn section(context: &Context, text: &mut String, title: &str, body: &str) {
    let body = if body.lines().count() == 0 { "  <none>" } else { body };
    text.push_str(&format!("\n{}\n{body}\n", context.out.toned(&format!("{title}:"), Tone::Head)));
}
