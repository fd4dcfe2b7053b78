//! A process that has loaded ONNX Runtime and waits for a model, so that a start costs only the model's load.
//!
//! Flow: bind the socket, load ONNX Runtime, wait on standard input for the arguments of a runtime, then go on exactly as a
//! runtime that was started with them: the sandbox comes before anything of the model is read.
//! Guarantees: while it waits it has one thread, reads nothing but its channel and answers nobody. It ends by itself when the
//! channel closes, which the kernel does when the process at its other end is gone, however that ended.
//! Assumptions: the channel is a pipe without a name whose other end the controller alone holds.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    iter,
    path::Path,
};

use clap::Parser;
use daemon::assignment;

use crate::{config::Args, error::Error};

/// The arguments of a runtime, without its executable and role.
#[derive(Debug, Parser)]
#[command(name = "berth-runtime", no_binary_name = false)]
struct Assigned {
    #[command(flatten)]
    args: Args,
}

/// Waits on standard input for the arguments to go on with; `None` when nobody has any. `socket` is where this process listens.
///
/// # Errors
///
/// [`Error`] when something else came.
pub(crate) fn wait(socket: &Path) -> Result<Option<Args>, Error> {
    // Not the standard library's own buffered one: no byte beyond the assignment is taken.
    let channel = rustix::io::dup(rustix::stdio::stdin()).map_err(|errno| failed(errno.into()))?;
    let assigned = receive(&mut File::from(channel), socket)?;
    let null = File::open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
    Ok(assigned)
}

fn failed(source: io::Error) -> Error {
    Error::Io { doing: "cannot take an assignment from standard input", source }
}

fn receive(channel: &mut impl Read, socket: &Path) -> Result<Option<Args>, Error> {
    let words = assignment::read(channel).map_err(|error| Error::Arguments(error.to_string()))?;
    words.map(|words| parse(words, socket)).transpose()
}

/// The arguments in `words`. They may say everything that the command line may, but for what belongs to development: a process
/// that waited always restricts itself.
fn parse(words: Vec<OsString>, socket: &Path) -> Result<Args, Error> {
    let words = iter::once(OsString::from("berth-runtime")).chain(words);
    let parsed = Assigned::try_parse_from(words);
    let args = parsed.map_err(|error| Error::Arguments(format!("the assignment is refused: {error}")))?.args;
    let wrong = |what: &str| Err(Error::Arguments(format!("the assignment is refused: {what}")));
    if args.socket.as_deref() != Some(socket) {
        return wrong("it is for another socket");
    }
    if args.standby || args.no_sandbox || args.sandbox_probe.is_some() {
        return wrong("it asks for what only a command line may");
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn received(line: &str) -> Result<Option<Args>, Error> {
        let bytes = assignment::encode(&words(line)).unwrap();
        receive(&mut bytes.as_slice(), Path::new("/d/r.sock"))
    }

    #[test]
    fn an_assignment_is_the_command_line_of_a_runtime() {
        let args = received("--socket /d/r.sock --model iris=/m --model-version 3 --memory-max 77").unwrap().unwrap();
        assert_eq!((args.model.as_deref(), args.model_version, args.memory_max), (Some("iris=/m"), 3, Some(77)));
        assert!(receive(&mut io::empty(), Path::new("/d/r.sock")).unwrap().is_none());
    }

    #[test]
    fn what_belongs_to_development_is_refused() {
        for (line, why) in [
            ("--socket /d/other.sock --model iris=/m", "another socket"),
            ("--listen 127.0.0.1:0 --model iris=/m", "another socket"),
            ("--socket /d/r.sock --model iris=/m --no-sandbox", "only a command line may"),
            ("--socket /d/r.sock --standby", "only a command line may"),
            ("--socket /d/r.sock", "--model"),
            ("--socket /d/r.sock --model iris=/m --unknown", "--unknown"),
        ] {
            let error = received(line).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
        let cut = assignment::encode(&words("--socket /d/r.sock")).unwrap();
        assert!(receive(&mut &cut[..9], Path::new("/d/r.sock")).is_err());
    }
}
