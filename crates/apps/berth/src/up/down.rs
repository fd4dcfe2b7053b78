//! `berth down`: the end of a platform, whoever started it and whatever is left of it.

use tokio::time::Instant;

use super::{DRAIN_LOOK, STOP_TIME_MAX, leftovers, lock, processes};
use crate::{
    context::Context,
    failure::{Exit, Failure},
};

pub(crate) async fn down(context: &Context) -> Result<(), Failure> {
    let data_dir = context.data_dir();
    let mut running = leftovers(data_dir);
    let asked = match context.client.status().await {
        Ok(_) => context.client.shutdown().await,
        Err(error) => Err(error),
    };
    let mut progress = context.progress();
    let foreground = lock::holder(data_dir);
    match asked {
        Ok(()) => {}
        Err(error) => {
            // A `berth up` without a controller would start one again.
            if let Some(up) = foreground.and_then(processes::Process::berth_up) {
                up.terminate();
                running.push(up);
            } else if running.is_empty() {
                return Err(error.into());
            }
            progress.say("the controller does not answer: stopping its processes");
            processes::stop(std::mem::take(&mut running)).await?;
        }
    }
    let end = Instant::now() + STOP_TIME_MAX;
    let mut look = tokio::time::interval(DRAIN_LOOK);
    for process in &running {
        loop {
            tokio::select! {
                () = process.ended() => break,
                _ = look.tick() => progress.say(&processes::left(&running)),
                () = tokio::time::sleep_until(end) => {
                    let failure = Failure::new(Exit::TimedOut, format!("the {} (process {}) does not stop", process.role, process.pid));
                    return Err(failure.hint("see its log in the data directory; `kill -9` ends it"));
                }
            }
        }
    }
    progress.done();
    // What was starting just then.
    processes::stop(leftovers(data_dir)).await?;
    if context.out.is_for_people() {
        context.out.note("stopped");
        return Ok(());
    }
    context.out.value(&serde_json::json!({"stopped": true, "dataDir": data_dir}))
}
