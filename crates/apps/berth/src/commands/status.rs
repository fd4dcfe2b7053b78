//! `berth status`: what runs.

use client::{ServerStatus, WarmPool};

use crate::{
    context::Context,
    failure::Failure,
    output::{Output, Tone},
    quantities::counted,
    up,
};

pub(super) async fn status(context: &Context) -> Result<(), Failure> {
    match context.client.status().await {
        Ok(status) if context.out.is_for_people() => print_status(context.out, &status),
        Ok(status) => context.out.value(&status),
        Err(error @ client::Error::NotRunning { .. }) => {
            let left = up::leftovers(context.data_dir());
            let failure = Failure::from(error);
            if left.is_empty() {
                return Err(failure);
            }
            let message = format!(
                "the controller is not running in `{}`, but {} of its processes are",
                context.data_dir().display(),
                left.len()
            );
            Err(Failure { message, ..failure }.hint("`berth up` takes them over, `berth down` stops them"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints a status for people.
pub(crate) fn print_status(out: Output, status: &ServerStatus) -> Result<(), Failure> {
    let gateway = match &status.gateway {
        Some(gateway) if gateway.ready => {
            let pid = gateway.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
            format!("{}{pid}, configuration {}", out.toned("ready", Tone::Good), gateway.generation)
        }
        Some(gateway) if !gateway.message.is_empty() => {
            format!("{}: {}", out.toned("not ready", Tone::Bad), gateway.message)
        }
        _ => out.toned("not ready", Tone::Waiting),
    };
    let WarmPool { size, waiting, memory_bytes } = status.warm_pool;
    let warm = match size.max(waiting) {
        0 => "none".to_owned(),
        _ => format!("{waiting} of {size} waiting for a model, {} MiB", memory_bytes >> 20),
    };
    let mut data = status.data_dir.display().to_string();
    if let Some(disk) = status.disk.filter(|disk| disk.full) {
        let told = format!("disk full, {} MiB free: no model is taken in", disk.free_bytes >> 20);
        data.push_str(&format!(", {}", out.toned(&told, Tone::Bad)));
    }
    let lines = [
        ("Endpoint", status.base_url()),
        ("Gateway", gateway),
        ("Controller", format!("process {}, version {}", status.pid, status.version)),
        ("Running", format!("{} with {}", counted(status.services, "service"), counted(status.replicas, "replica"))),
        ("Warm pool", warm),
        ("Data", data),
    ];
    let lines: Vec<String> = lines.iter().map(|(label, value)| format!("{:<12}{value}", format!("{label}:"))).collect();
    out.text(&lines.join("\n"))
}
