//! `berth events`: what happened.

use client::EventQuery;
use resources::event::{Event, Severity};
use serde_json::json;

use crate::{
    cli::Events,
    context::Context,
    failure::Failure,
    output::{Output, Tone},
    quantities::age,
    table::{one_line, table},
};

pub(super) const HEADER: &[&str] = &["AGE", "TYPE", "REASON", "SERVICE", "MESSAGE"];

pub(super) async fn events(context: &Context, args: &Events) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let query = EventQuery { service: args.name.clone(), limit: Some(args.limit), after: None };
    let events = client.events(&query).await?;
    if let Some(name) = args.name.as_ref().filter(|_| events.is_empty()) {
        // A service that never was and one that is quiet are told apart.
        client.service(name).await?;
    }
    if !args.watch {
        return print(out, &events);
    }
    let now_ms = daemon::time::now_ms();
    if out.is_for_people() {
        out.text(&table(HEADER, events.iter().map(|event| row(out, event, now_ms)).collect()))?;
    } else {
        events.iter().try_for_each(|event| out.item(event))?;
    }
    let after = match events.last() {
        Some(event) => event.sequence,
        None => client
            .events(&EventQuery { limit: Some(1), ..EventQuery::default() })
            .await?
            .last()
            .map_or(0, |e| e.sequence),
    };
    let mut watch =
        client.watch_events(&EventQuery { service: args.name.clone(), limit: None, after: Some(after) }).await?;
    while let Some(event) = watch.next().await? {
        if out.is_for_people() {
            out.text(&row(out, &event, daemon::time::now_ms()).join("   "))?;
        } else {
            out.item(&event)?;
        }
    }
    Err(Failure::failed("Berth ended the watch").hint("`berth status` says whether it still runs"))
}

fn print(out: Output, events: &[Event]) -> Result<(), Failure> {
    if !out.is_for_people() {
        return out.value(&json!({"items": events}));
    }
    if events.is_empty() {
        out.note("no events yet");
        return Ok(());
    }
    let now_ms = daemon::time::now_ms();
    out.text(&table(HEADER, events.iter().map(|event| row(out, event, now_ms)).collect()))
}

pub(super) fn row(out: Output, event: &Event, now_ms: u64) -> Vec<String> {
    let (severity, tone) = match event.severity {
        Severity::Normal => ("Normal", Tone::Good),
        Severity::Warning => ("Warning", Tone::Bad),
    };
    let severity = if event.severity == Severity::Warning { out.toned(severity, tone) } else { severity.to_owned() };
    let message = if out.is_wide() { event.message.replace('\n', " ↵ ") } else { one_line(&event.message) };
    let service = if event.service.is_empty() { "-".to_owned() } else { event.service.clone() };
    vec![age(&event.time, now_ms), severity, event.reason.clone(), service, message]
}
