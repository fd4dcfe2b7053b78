//! `berth get`: services as a table, and as they change.

use std::collections::BTreeMap;

use client::ServiceChange;
use resources::{
    condition::{ConditionKind, ConditionStatus},
    inference_service::InferenceService,
    manifest::LIST_KIND,
    scaling::Bounds,
    status::ReplicaPhase,
};
use serde_json::json;

use super::rollout;
use crate::{
    cli::Get,
    context::Context,
    failure::Failure,
    output::{Output, Tone},
    quantities::age,
    table::{line, table, visible, widths},
    wait,
};

pub(super) async fn get(context: &Context, args: &Get) -> Result<(), Failure> {
    let list = context.client.services().await?;
    let wanted = |service: &InferenceService| {
        args.names.is_empty() || args.names.iter().any(|name| name == service.metadata.name.as_str())
    };
    for name in &args.names {
        if !list.items.iter().any(|service| service.metadata.name.as_str() == name) {
            // The server says it in its own words.
            context.client.service(name).await?;
        }
    }
    let services: Vec<&InferenceService> = list.items.iter().filter(|service| wanted(service)).collect();
    if !args.watch {
        return print(context, args, &services);
    }
    let mut table = Watched { out: context.out, widths: Vec::new(), shown: BTreeMap::new() };
    table.begin(&services)?;
    let mut watch = context.client.watch_services(&list.resource_version).await?;
    while let Some(change) = watch.next().await? {
        let (kind, service) = match change {
            ServiceChange::Added(service) => ("ADDED", service),
            ServiceChange::Modified(service) => ("MODIFIED", service),
            ServiceChange::Deleted(service) => ("DELETED", service),
            ServiceChange::Bookmark(_) => continue,
        };
        if wanted(&service) {
            table.change(kind, &service)?;
        }
    }
    Err(Failure::failed("Berth ended the watch").hint("`berth status` says whether it still runs"))
}

fn print(context: &Context, args: &Get, services: &[&InferenceService]) -> Result<(), Failure> {
    let out = context.out;
    if !out.is_for_people() {
        return match (args.names.len(), services) {
            (1, [service]) => out.value(service),
            _ => out.value(&json!({"apiVersion": resources::API_VERSION, "kind": LIST_KIND, "items": services})),
        };
    }
    if services.is_empty() {
        out.note("no services yet; `berth deploy NAME PATH` makes one");
        return Ok(());
    }
    let now_ms = daemon::time::now_ms();
    out.text(&table(header(out), services.iter().map(|service| row(out, service, now_ms)).collect()))
}

fn header(out: Output) -> &'static [&'static str] {
    if out.is_wide() {
        &["NAME", "STATUS", "REPLICAS", "REVISION", "TRAFFIC", "RESTARTS", "AGE", "URL", "MODEL", "BUNDLE"]
    } else {
        &["NAME", "STATUS", "REPLICAS", "REVISION", "TRAFFIC", "RESTARTS", "AGE", "URL"]
    }
}

fn row(out: Output, service: &InferenceService, now_ms: u64) -> Vec<String> {
    let status = service.status.clone().unwrap_or_default();
    let predictor = &service.spec.predictor;
    let (word, tone) = word(service);
    // Beside an older revision, only those of the newest count towards what is wanted of it.
    let newest = status.latest_created_revision;
    let counts = |replica: &&resources::status::ReplicaStatus| {
        replica.phase == ReplicaPhase::Ready && (status.traffic.len() < 2 || Some(replica.revision) == newest)
    };
    let ready = status.replicas.iter().filter(counts).count();
    let restarts: u32 = status.replicas.iter().map(|replica| replica.restarts).max().unwrap_or(0);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
    let mut row = vec![
        service.metadata.name.to_string(),
        out.toned(&word, tone),
        format!("{ready}/{}", status.scale.as_ref().map_or(Bounds::of(&service.spec).min, |scale| scale.desired)),
        or_none(status.latest_ready_revision.map(|revision| revision.to_string())),
        rollout::shares(&status.traffic),
        restarts.to_string(),
        service.metadata.creation_timestamp.as_deref().map_or_else(|| "?".to_owned(), |time| age(time, now_ms)),
        or_none(status.url),
    ];
    if out.is_wide() {
        row.push(predictor.model.storage_uri.clone());
        row.push(or_none(status.bundle.map(|digest| digest.to_string())));
    }
    row
}

/// `Ready`, or why not.
pub(super) fn word(service: &InferenceService) -> (String, Tone) {
    let status = service.status.clone().unwrap_or_default();
    match wait::condition(&status, ConditionKind::Ready) {
        None => ("Pending".to_owned(), Tone::Waiting),
        Some(ready) if ready.status == ConditionStatus::True => ("Ready".to_owned(), Tone::Good),
        Some(ready) => {
            let tone = match wait::standing(service) {
                wait::Standing::Failed { .. } => Tone::Bad,
                _ => Tone::Waiting,
            };
            (ready.reason.clone(), tone)
        }
    }
}

/// Place of the age in a row.
const AGE: usize = 6;

/// A table that grows: columns keep the width they began with, or get wider.
struct Watched {
    out: Output,
    widths: Vec<usize>,
    /// What was printed last of each service: a change that does not show is not printed.
    shown: BTreeMap<String, Vec<String>>,
}

impl Watched {
    fn begin(&mut self, services: &[&InferenceService]) -> Result<(), Failure> {
        if !self.out.is_for_people() {
            return services.iter().try_for_each(|service| self.change("ADDED", service));
        }
        let now_ms = daemon::time::now_ms();
        let mut all = vec![header(self.out).iter().map(|title| (*title).to_owned()).collect::<Vec<String>>()];
        all.extend(services.iter().map(|service| row(self.out, service, now_ms)));
        self.widths = widths(&all);
        all.iter().try_for_each(|row| self.out.text(&line(row, &self.widths)))
    }

    fn change(&mut self, kind: &str, service: &InferenceService) -> Result<(), Failure> {
        if !self.out.is_for_people() {
            return self.out.item(&json!({"type": kind, "object": service}));
        }
        let mut row = row(self.out, service, daemon::time::now_ms());
        if kind == "DELETED"
            && let Some(status) = row.get_mut(1)
        {
            *status = self.out.toned("Deleted", Tone::Bad);
        }
        // The age always changes.
        let lasting: Vec<String> =
            row.iter().enumerate().filter(|(at, _)| *at != AGE).map(|(_, cell)| cell.clone()).collect();
        let before = self.shown.insert(service.metadata.name.to_string(), lasting.clone());
        if before.is_some_and(|before| before == lasting) {
            return Ok(());
        }
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(visible(cell));
        }
        self.out.text(&line(&row, &self.widths))
    }
}
