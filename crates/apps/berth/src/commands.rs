//! Commands of people: each asks Berth and prints what it learns.

use std::{future::Future, process::ExitCode};

use crate::{
    cli::{Command, Format, Global},
    context::Context,
    failure::{Exit, Failure},
    output::Output,
    up,
};

mod apply;
mod conformance;
mod deploy;
mod describe;
mod doctor;
mod events;
mod export;
mod get;
mod infer;
mod key;
mod logs;
mod rollout;
mod shadow;
mod simulate;
mod status;
mod version;

pub(crate) use status::print_status;

/// Runs a command to its exit code.
pub(crate) fn run(global: Global, command: Command) -> ExitCode {
    let out = Output::new(&global);
    match dispatch(global, out, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            // Codes are up to 130.
            ExitCode::from(u8::try_from(failure.exit as u16).unwrap_or(1))
        }
    }
}

fn dispatch(global: Global, out: Output, command: Command) -> Result<(), Failure> {
    if global.output == Format::Junit && !matches!(command, Command::Conformance(_)) {
        return Err(Failure::usage("`-o junit` is for `berth conformance`: use `-o json`"));
    }
    // These need no data directory.
    match &command {
        Command::Completions(args) => return version::completions(args),
        Command::Version => return version::version(out),
        _ => {}
    }
    let context = Context::new(global, out)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Up(args) => up::up(&context, &args).await,
            Command::Down => up::down(&context).await,
            command => Box::pin(interruptible(asking(&context, command))).await,
        }
    })
}

async fn asking(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status => status::status(context).await,
        Command::Deploy(args) => deploy::deploy(context, &args).await,
        Command::Apply(args) => apply::apply(context, &args).await,
        Command::Export(what) => export::export(context, &what).await,
        Command::Get(args) => get::get(context, &args).await,
        Command::Describe(args) => describe::describe(context, &args.name).await,
        Command::Logs(args) => logs::logs(context, &args).await,
        Command::Events(args) => events::events(context, &args).await,
        Command::Infer(args) => infer::infer(context, &args).await,
        Command::Rollout(rollout) => rollout::rollout(context, rollout).await,
        Command::Key(key) => key::key(context, key).await,
        Command::Delete(args) => deploy::delete(context, &args).await,
        Command::Doctor => doctor::doctor(context),
        Command::Simulate(args) => simulate::simulate(context, &args).await,
        Command::Conformance(args) => conformance::conformance(context, &args).await,
        Command::Up(_) | Command::Down | Command::Completions(_) | Command::Version => Ok(()),
        Command::Gateway(_) | Command::Runtime(_) | Command::Controller(_) => Ok(()),
    }
}

/// Ends a command at Ctrl-C. What Berth was asked for goes on.
async fn interruptible(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        // A command that has more to say about its end says it.
        biased;
        outcome = command => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}
