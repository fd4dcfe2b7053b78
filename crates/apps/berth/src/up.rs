//! `berth up` and `berth down`: the life of a platform.
//!
//! Flow: start the controller, wait until the gateway is ready, make the local key, stay, start a controller that dies anew, drain.
//! Guarantees: one `berth up` for each data directory. Gateway and runtimes outlive both it and the controller.

use std::{path::PathBuf, process::ExitStatus, time::Duration};

use client::ServerStatus;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    cli::Up,
    commands::print_status,
    context::Context,
    failure::{Exit, Failure},
    progress::Progress,
    roles::CUT_OFF,
};

mod controller;
mod down;
mod key;
mod lock;
mod processes;

use controller::Controller;
pub(crate) use down::down;
pub(crate) use key::write_private;
pub(crate) use processes::leftovers;

/// Time for a controller and its gateway to start: a database to check and a library to hash, on a slow disk.
const START_TIME_MAX: Duration = Duration::from_secs(90);
/// How often a starting controller is asked.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// How often the drain looks at what is left.
const DRAIN_LOOK: Duration = Duration::from_millis(300);
/// Time for everything to stop: the gateway's grace, then the runtimes', and a little.
const STOP_TIME_MAX: Duration = Duration::from_secs(90);
/// Controllers that die one after the other before `up` gives up.
const FAILURES_MAX: u32 = 6;
/// What to do about a controller that does not come back.
const STILL_SERVED: &str = "models are still served: `berth up` tries again, `berth down` stops them";
/// Time after which a failure has nothing to do with the ones before.
const HEALTHY_TIME: Duration = Duration::from_secs(60);
/// First pause before a controller is started anew; it doubles.
const RESTART_PAUSE: Duration = Duration::from_millis(250);

/// Ctrl-C, the polite end, and a terminal that closes.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

pub(crate) async fn up(context: &Context, args: &Up) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let data_dir = context.data_dir();
    controller::prepare(data_dir)?;
    if let Ok(status) = context.client.status().await {
        return already(context, args, status).await;
    }
    let lock = lock::hold(data_dir)?;
    let mut progress = context.progress();
    progress.hint("starting the controller");
    let executable = controller::executable()?;
    let mut controller = Controller::start(&executable, data_dir, args)?;
    let status = tokio::select! {
        status = ready(context, &mut controller, &mut progress) => status,
        () = signals.next() => {
            progress.done();
            return drain(context, controller, &mut signals).await;
        }
    };
    let started = match status {
        Ok(status) => key::ensure(context).await.map(|()| status),
        Err(failure) => Err(failure),
    };
    progress.done();
    match started {
        Ok(status) => say_where(context, args, &status),
        Err(failure) => {
            // What came up half is not left behind.
            stop_controller(context, &mut controller).await;
            return Err(failure);
        }
    }
    if args.detach {
        drop(lock);
        return Ok(());
    }
    let stay = Stay { context, args, executable };
    stay.until_the_end(controller, &mut signals).await
}

/// It runs: says so, and makes sure of the key.
async fn already(context: &Context, args: &Up, status: ServerStatus) -> Result<(), Failure> {
    key::ensure(context).await?;
    let data_dir = context.data_dir().display();
    context.out.note(&format!("Berth runs already in `{data_dir}` (process {}); nothing was started", status.pid));
    if let Some(wanted) = args.listen.as_ref().filter(|wanted| !wanted.ends_with(":0") && **wanted != status.listen) {
        context
            .out
            .warning(&format!("it listens on {}, not on {wanted}: `berth down` first to change that", status.listen));
    }
    if context.out.is_for_people() { print_status(context.out, &status) } else { context.out.value(&status) }
}

/// Waits until the gateway answers.
async fn ready(
    context: &Context,
    controller: &mut Controller,
    progress: &mut Progress,
) -> Result<ServerStatus, Failure> {
    let end = Instant::now() + START_TIME_MAX;
    let mut last = String::new();
    while Instant::now() < end {
        tokio::select! {
            ended = controller.wait() => return Err(controller.failure(&ended?)),
            () = tokio::time::sleep(ASK_PAUSE) => {}
        }
        let Ok(status) = context.client.status().await else { continue };
        if status.is_ready() {
            return Ok(status);
        }
        progress.hint("starting the gateway");
        last = status.gateway.map(|gateway| gateway.message).unwrap_or_default();
    }
    let why = if last.is_empty() { String::new() } else { format!(": {last}") };
    let failure = Failure::new(Exit::TimedOut, format!("Berth is not ready after {} s{why}", START_TIME_MAX.as_secs()));
    Err(failure.hint(format!("its logs are in `{}`", context.data_dir().join("logs").display())))
}

/// Says where things are. Not the key itself.
fn say_where(context: &Context, args: &Up, status: &ServerStatus) {
    let out = context.out;
    let data_dir = context.data_dir();
    let stop = if args.detach { "berth down" } else { "Ctrl-C" };
    let printed = if out.is_for_people() {
        let text = format!(
            "Berth is ready.\n\n  Endpoint   {}\n  Key        {}\n  Data       {}\n  Logs       {}\n  Stop       {stop}\n\n\
             Serve a model with `berth deploy NAME PATH`.",
            status.base_url(),
            context.local_key().display(),
            data_dir.display(),
            data_dir.join("logs").display(),
        );
        if out.is_quiet() { Ok(()) } else { out.text(&text) }
    } else {
        out.value(status)
    };
    // Nobody reads it; that is no reason to stop.
    drop(printed);
}

/// What a foreground `berth up` needs to start its controller anew.
struct Stay<'a> {
    context: &'a Context,
    args: &'a Up,
    executable: PathBuf,
}

impl Stay<'_> {
    /// Stays until a signal, or until somebody else stops the platform. Starts a controller that dies anew.
    async fn until_the_end(&self, mut controller: Controller, signals: &mut Signals) -> Result<(), Failure> {
        let context = self.context;
        let mut failures = 0;
        loop {
            let ended = tokio::select! {
                ended = controller.wait() => ended?,
                () = signals.next() => return drain(context, controller, signals).await,
            };
            if was_asked(ended) {
                context.out.note("Berth was stopped");
                return Ok(());
            }
            failures = if controller.age() > HEALTHY_TIME { 1 } else { failures + 1 };
            let failure = controller.failure(&ended);
            if failures > FAILURES_MAX {
                return Err(failure.hint(STILL_SERVED));
            }
            context.out.warning(&format!("{failure}; starting it again"));
            tokio::select! {
                () = tokio::time::sleep(RESTART_PAUSE * 2_u32.pow(failures - 1)) => {}
                () = signals.next() => return stop_left(context).await,
            }
            controller = Controller::start(&self.executable, context.data_dir(), self.args)
                .map_err(|failure| failure.hint(STILL_SERVED))?;
            tokio::select! {
                () = back(context, &mut controller) => {}
                () = signals.next() => return drain(context, controller, signals).await,
            }
        }
    }
}

/// Says when a controller that was started anew is there. When it is not, its end is seen next.
async fn back(context: &Context, controller: &mut Controller) {
    if let Ok(status) = ready(context, controller, &mut context.progress()).await {
        context.out.note(&format!("the controller is back (process {}); models were served all the time", status.pid));
    }
}

/// Whether the controller ended because it was told to.
fn was_asked(ended: ExitStatus) -> bool {
    ended.success() || ended.code() == Some(i32::from(CUT_OFF))
}

/// Asks for the end and shows what is left, until a second signal.
async fn drain(context: &Context, mut controller: Controller, signals: &mut Signals) -> Result<(), Failure> {
    context.out.note("stopping: requests that have begun are finished first; Ctrl-C again stops at once");
    // Held from now on: a process that drains has closed its socket already and is not found by it.
    let running = leftovers(context.data_dir());
    if context.client.shutdown().await.is_err() {
        controller.terminate();
    }
    let mut progress = context.progress();
    let end = Instant::now() + STOP_TIME_MAX;
    let mut look = tokio::time::interval(DRAIN_LOOK);
    loop {
        tokio::select! {
            ended = controller.wait() => {
                ended?;
                break;
            }
            () = signals.next() => {
                progress.done();
                controller.kill();
                processes::kill(running).await;
                processes::kill(leftovers(context.data_dir())).await;
                return Err(Failure::new(Exit::Interrupted, "stopped at once; requests were cut off"));
            }
            _ = look.tick() => progress.say(&processes::left(&running)),
        }
        if Instant::now() > end {
            controller.kill();
            break;
        }
    }
    progress.done();
    processes::stop(running).await?;
    stop_left(context).await
}

/// Stops what no controller looks after any more.
async fn stop_left(context: &Context) -> Result<(), Failure> {
    processes::stop(leftovers(context.data_dir())).await?;
    context.out.note("stopped");
    Ok(())
}

async fn stop_controller(context: &Context, controller: &mut Controller) {
    if context.client.shutdown().await.is_err() {
        controller.terminate();
    }
    if tokio::time::timeout(STOP_TIME_MAX, controller.wait()).await.is_err() {
        controller.kill();
    }
}
