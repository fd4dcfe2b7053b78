//! The roles: each runs in a process of its own.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use daemon::supervisor::{Ended, chain};

/// Exit code of a runtime whose model does not load.
const MODEL_FAILED: u8 = 3;
/// Exit code of a role that was cut off before everything was finished.
pub(crate) const CUT_OFF: u8 = 7;

pub(crate) fn gateway(args: gateway::Args) -> ExitCode {
    ended(gateway::run(args))
}

pub(crate) fn controller(args: controller::Args) -> ExitCode {
    ended(controller::run(args))
}

pub(crate) fn runtime(args: runtime::Args) -> ExitCode {
    match runtime::run(args) {
        // It has said why already, on the last line of its log.
        Err(runtime::Error::Model(_)) => ExitCode::from(MODEL_FAILED),
        ended_so => ended(ended_so),
    }
}

fn ended(outcome: Result<Ended, impl Error + 'static>) -> ExitCode {
    match outcome {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::CutOff) => ExitCode::from(CUT_OFF),
        Ok(Ended::TaskFailed) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}
