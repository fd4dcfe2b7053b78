//! Proof that the sandbox makes the difference: forbidden acts are tried in a process without it and in one with it.

use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{getppid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::{Error, Report, Rules, enter};
use crate::config::{Config, Listen};

/// Time for a connection to this machine, which takes less than a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a process that probes enters the sandbox first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// How an act ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It worked.
    Allowed,
    /// The system refused it.
    Denied,
    /// It failed for another reason, so it proves nothing.
    Failed(String),
}

/// One act, tried twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was tried.
    pub name: String,
    /// What comes of it without the sandbox.
    #[serde(rename = "outside")]
    pub without_sandbox: Outcome,
    /// What comes of it inside the sandbox.
    #[serde(rename = "inside")]
    pub with_sandbox: Outcome,
    /// Whether the sandbox is meant to allow it.
    #[serde(rename = "meant")]
    pub is_meant: bool,
}

impl Probe {
    /// Whether the sandbox does what it is meant to do, and it is the sandbox that does it.
    pub fn is_proof(&self) -> bool {
        let inside = if self.is_meant { Outcome::Allowed } else { Outcome::Denied };
        self.without_sandbox == Outcome::Allowed && self.with_sandbox == inside
    }
}

/// What a probing process writes: one line of JSON for each act, and one for the sandbox's report.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Act { name: String, meant: bool, outcome: Outcome },
    Missing(Vec<String>),
}

/// Where a probing process tries its acts: in a directory with `model/` and `other/`, and at a port of this machine.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The directory that the process may read.
    pub model: PathBuf,
    /// A port that somebody listens on.
    pub port: u16,
}

/// What [`self_test`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Every act.
    pub probes: Vec<Probe>,
    /// Rules that the sandbox could not enforce here.
    pub missing: Vec<String>,
}

/// Tries every act in two processes of this executable, `berth runtime --sandbox-probe on|off`.
///
/// # Errors
///
/// When the processes cannot be started or do not answer.
pub fn self_test() -> io::Result<Findings> {
    let executable = env::current_exe()?;
    self_test_with(|mode, scene| {
        let mut command = Command::new(&executable);
        let model = format!("--model=probe={}", scene.model.display());
        let listen = format!("--listen={}", SocketAddr::from((Ipv4Addr::LOCALHOST, scene.port)));
        let mode = if mode == Mode::On { "on" } else { "off" };
        command.args(["runtime", &model, &listen, "--sandbox-probe", mode]);
        command
    })
}

/// Tries every act in two processes that `command` describes, which call `run`.
pub(crate) fn self_test_with(command: impl Fn(Mode, &Scene) -> Command) -> io::Result<Findings> {
    let directory = tempfile::Builder::new().prefix("berth-probe-").tempdir()?;
    for name in ["model", "other"] {
        fs::create_dir(directory.path().join(name))?;
        fs::write(directory.path().join(name).join("weights"), "weights")?;
    }
    // Nobody has to accept: the kernel completes connections that wait.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let scene = Scene { model: directory.path().join("model"), port: listener.local_addr()?.port() };
    let outside = lines(command(Mode::Off, &scene))?;
    let inside = lines(command(Mode::On, &scene))?;
    let mut findings = Findings::default();
    for line in &inside {
        match line {
            Line::Missing(missing) => findings.missing.clone_from(missing),
            Line::Act { name, meant, outcome } => {
                let same = |line: &&Line| matches!(line, Line::Act { name: other, .. } if other == name);
                let Some(Line::Act { outcome: without, .. }) = outside.iter().find(same) else { continue };
                findings.probes.push(Probe {
                    name: name.clone(),
                    without_sandbox: without.clone(),
                    with_sandbox: outcome.clone(),
                    is_meant: *meant,
                });
            }
        }
    }
    if findings.probes.len() == acts().len() {
        return Ok(findings);
    }
    Err(io::Error::other("the probing process ended before it had tried everything"))
}

fn lines(mut command: Command) -> io::Result<Vec<Line>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    // Other lines are none of ours: a test harness writes some.
    Ok(output.stdout.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect())
}

/// What `berth runtime --sandbox-probe` does: the model is the scene's, the address that of the listener.
///
/// # Errors
///
/// When the process cannot be restricted.
pub(crate) fn serve(mode: Mode, config: &Config) -> Result<(), Error> {
    let Listen::Tcp(address) = config.listen else { return Ok(()) };
    let scene = Scene { model: config.model_path.clone(), port: address.port() };
    run(mode, &scene, enter, &mut io::stdout())
}

/// Restricts the process with `enter` if `mode` says so, tries every act and writes what comes of it to `output`.
///
/// # Errors
///
/// When the process cannot be restricted.
pub(crate) fn run(
    mode: Mode,
    scene: &Scene,
    enter: impl Fn(&Rules) -> Result<Report, Error>,
    output: &mut dyn Write,
) -> Result<(), Error> {
    if mode == Mode::On {
        let report = enter(&Rules { model: scene.model.clone(), memory_bytes_max: None })?;
        say(output, &Line::Missing(report.missing))?;
    }
    for act in acts() {
        let outcome = match (act.attempt)(scene) {
            Ok(()) => Outcome::Allowed,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Outcome::Denied,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        say(output, &Line::Act { name: act.name.to_owned(), meant: act.is_meant, outcome })?;
    }
    Ok(())
}

fn say(output: &mut dyn Write, line: &Line) -> Result<(), Error> {
    let failed = |source| Error::System { doing: "write what came of the probes", source };
    let text = serde_json::to_string(line).map_err(|error| failed(error.into()))?;
    // A line feed first: a test harness may have begun a line.
    writeln!(output, "\n{text}").and_then(|()| output.flush()).map_err(failed)
}

struct Act {
    name: &'static str,
    is_meant: bool,
    attempt: fn(&Scene) -> io::Result<()>,
}

fn acts() -> Vec<Act> {
    let forbidden = |name, attempt| Act { name, is_meant: false, attempt };
    vec![
        Act { name: "use its own model", is_meant: true, attempt: |scene| read(&scene.model.join("weights")) },
        forbidden("read /etc/passwd", |_| read(Path::new("/etc/passwd"))),
        forbidden("read another model", |scene| read(&beside(scene).join("other/weights"))),
        forbidden("list another directory", |_| fs::read_dir("/").map(drop)),
        forbidden("write to the model", |scene| append(&scene.model.join("weights"))),
        forbidden("write a file beside the model", |scene| create(&scene.model.join("new"))),
        forbidden("write a file in the temporary directory", |_| {
            tempfile::tempfile_in(env::temp_dir()).and_then(|mut file| file.write_all(b"x"))
        }),
        forbidden("remove a file", |scene| {
            let path = beside(scene).join("other/extra");
            fs::write(&path, "x").and_then(|()| fs::remove_file(path))
        }),
        forbidden("connect over the network", |scene| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, scene.port));
            TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map(drop)
        }),
        forbidden("listen on the network", |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        forbidden("open a local socket", |_| UnixDatagram::unbound().map(drop)),
        forbidden("start a program", |_| ran(&Command::new("true").status()?)),
        forbidden("signal another process", |_| {
            let parent = getppid().ok_or_else(|| io::Error::other("there is no parent"))?;
            test_kill_process(parent).map_err(io::Error::from)
        }),
    ]
}

fn beside(scene: &Scene) -> &Path {
    scene.model.parent().unwrap_or(&scene.model)
}

fn read(path: &Path) -> io::Result<()> {
    File::open(path)?.read_exact(&mut [0])
}

fn append(path: &Path) -> io::Result<()> {
    File::options().append(true).open(path)?.write_all(b"x")
}

fn create(path: &Path) -> io::Result<()> {
    File::create_new(path)?.write_all(b"x")
}

fn ran(status: &ExitStatus) -> io::Result<()> {
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("`true` ended with {status}"))) }
}
