//! Proofs: this test executable starts itself again, without the sandbox and in it, and tries things.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        net::UnixStream,
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Command, Output, Stdio},
};

use inference::{Datatype, InferRequest};

use super::{
    probe::{Mode, Outcome, Scene, self_test_with},
    *,
};
use crate::{backend::ort::tests::floats, library::tests::environment, load::Loader, onnx, registry::Model};

/// Says what a child does, and whether it enters the sandbox first.
const CASE: &str = "BERTH_SANDBOX_CASE";
const MODE: &str = "BERTH_SANDBOX_MODE";
const MODEL: &str = "BERTH_SANDBOX_MODEL";
const PORT: &str = "BERTH_SANDBOX_PORT";

const SIGSYS: i32 = 31;
const SIGABRT: i32 = 6;

fn command(case: &str, mode: Mode, model: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "sandbox::tests::child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(MODE, if mode == Mode::On { "on" } else { "off" })
        .env(MODEL, model);
    command
}

/// Runs a case to its end in a child with a model directory of its own.
fn run(case: &str, mode: Mode) -> Output {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("model.onnx"), onnx::sum_and_difference()).unwrap();
    command(case, mode, directory.path()).output().unwrap()
}

/// What a case of [`child`] wrote on its line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("SAID ").map(|(_, said)| said.to_owned()));
    line.unwrap_or_else(|| panic!("{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn say(text: impl std::fmt::Display) {
    let mut output = std::io::stdout();
    writeln!(output, "\nSAID {text}").unwrap();
    output.flush().unwrap();
}

/// Restricts this child when it is to be. The harness's own thread does nothing but wait.
fn restricted(memory_bytes_max: Option<u64>) {
    if env::var(MODE).unwrap() == "on" {
        let model = PathBuf::from(env::var_os(MODEL).unwrap());
        restrict(&Rules { model, memory_bytes_max }).unwrap();
    }
}

/// Runs only as the child of the tests below.
#[test]
fn child() {
    let Ok(case) = env::var(CASE) else { return };
    let model = PathBuf::from(env::var_os(MODEL).unwrap());
    match case.as_str() {
        "probe" => {
            let mode = if env::var(MODE).unwrap() == "on" { Mode::On } else { Mode::Off };
            let scene = Scene { model, port: env::var(PORT).unwrap().parse().unwrap() };
            probe::run(mode, &scene, restrict, &mut std::io::stdout()).unwrap();
        }
        "report" => say(format!("{:?}", restrict(&Rules { model, memory_bytes_max: Some(1 << 40) }).unwrap())),
        "threads" => say(enter(&Rules { model, memory_bytes_max: None }).unwrap_err()),
        "missing model" => {
            say(restrict(&Rules { model: model.join("gone"), memory_bytes_max: None }).unwrap_err());
        }
        "trace" => {
            // Ends with this process, which holds its input.
            let mut victim = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            restricted(None);
            let pid = nix::unistd::Pid::from_raw(victim.id().try_into().unwrap());
            say(nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).is_ok());
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        "change root" => {
            restricted(None);
            say(std::os::unix::fs::chroot("/").is_ok());
        }
        "become a program" => {
            restricted(None);
            say(Command::new("true").exec());
        }
        "abort" => {
            restricted(None);
            std::process::abort();
        }
        "load code" => {
            fs::copy(library_of_this_process(), model.join("code.so")).unwrap();
            restricted(None);
            say(daemon::supervisor::chain(&ort::init_from(model.join("code.so")).err().unwrap()).replace('\n', " "));
        }
        "memory" => {
            restricted(Some(256 * 1024 * 1024));
            say(Vec::<u8>::new().try_reserve_exact(512 * 1024 * 1024).is_ok());
        }
        "model" => {
            let environment = environment().clone();
            restricted(Some(4 << 30));
            run_model(environment, &model);
        }
        "serve" => serve(&model),
        other => panic!("there is no case `{other}`"),
    }
}

/// Any shared library.
fn library_of_this_process() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libgcc_s"));
    PathBuf::from(library.unwrap())
}

fn run_model(environment: ort::environment::Environment, path: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let model = Model::announced("m".into(), "1".into());
    let loader = Loader {
        environment,
        cpus: 4,
        batching: crate::batching::policy::Policy::default(),
        memory_bytes_max: None,
        cpu: None,
        known: None,
    };
    model.load(loader.load(model.metadata(), path).unwrap());
    let inputs = vec![floats("b", &[2, 4], &[1.0; 8]), floats("a", &[2, 4], &[2.0; 8])];
    let answer = runtime.block_on(model.infer(InferRequest { inputs, ..InferRequest::default() }, None)).unwrap();
    assert_eq!(answer.response.outputs[0], floats("sum", &[2, 4], &[3.0; 8]));
    assert_eq!(answer.response.outputs[0].datatype, Datatype::Fp32);
    say("ran");
}

/// Echoes one message of each of two connections on a socket that was bound before.
fn serve(directory: &Path) {
    let socket = daemon::http::EarlySocket::unix(&directory.join("s")).unwrap();
    restricted(None);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    runtime.block_on(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let daemon::http::Listener::Unix(listener, _file) = socket.listen().unwrap() else {
            panic!("not a Unix socket")
        };
        let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        say("listening");
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let echo = tokio::task::spawn_blocking(|| b"echo ".to_vec()).await.unwrap();
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&[&echo[..], &bytes[..]].concat()).await.unwrap();
        }
        drop(signals);
    });
}

#[test]
fn forbidden_acts_work_without_the_sandbox_and_fail_in_it() {
    let findings = self_test_with(|mode, scene| {
        let mut command = command("probe", mode, &scene.model);
        command.env(PORT, scene.port.to_string());
        command
    })
    .unwrap();
    assert!(findings.probes.len() > 10);
    for probe in &findings.probes {
        // A kernel without Landlock leaves reading open, and the report says so.
        if findings.missing.iter().any(|missing| missing.contains("files")) && probe.name.contains("read") {
            continue;
        }
        assert!(probe.is_proof(), "{probe:?}, missing: {:?}", findings.missing);
    }
    let meant: Vec<&str> =
        findings.probes.iter().filter(|probe| probe.is_meant).map(|probe| probe.name.as_str()).collect();
    assert_eq!(meant, ["use its own model"]);
    assert!(findings.probes.iter().all(|probe| probe.without_sandbox == Outcome::Allowed), "{findings:?}");
}

#[test]
fn calls_that_only_an_attack_makes_end_the_process() {
    for case in ["trace", "change root"] {
        assert_eq!(run(case, Mode::On).status.signal(), Some(SIGSYS), "{case}");
    }
    assert_eq!(said(&run("trace", Mode::Off)), "true");
}

#[test]
fn a_process_cannot_become_a_program() {
    assert!(said(&run("become a program", Mode::On)).contains("not permitted"));
    // Without the sandbox it is the program, which says nothing.
    let output = run("become a program", Mode::Off);
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("SAID"));
}

#[test]
fn a_process_can_still_abort() {
    assert_eq!(run("abort", Mode::On).status.signal(), Some(SIGABRT));
}

#[test]
fn no_code_is_loaded_later() {
    // Outside, the library loads and is found not to be ONNX Runtime.
    let (outside, inside) = (said(&run("load code", Mode::Off)), said(&run("load code", Mode::On)));
    assert!(outside.contains("OrtGetApiBase"), "{outside}");
    assert!(inside.contains("dlopen failed"), "{inside}");
}

#[test]
fn memory_has_its_limit() {
    assert_eq!(said(&run("memory", Mode::Off)), "true");
    assert_eq!(said(&run("memory", Mode::On)), "false");
}

#[test]
fn a_model_loads_and_runs_inside() {
    assert_eq!(said(&run("model", Mode::Off)), "ran");
    assert_eq!(said(&run("model", Mode::On)), "ran");
}

#[test]
fn a_socket_that_was_bound_before_serves_inside() {
    for mode in [Mode::Off, Mode::On] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = command("serve", mode, directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("listening")));
        for _ in 0..2 {
            let mut stream = UnixStream::connect(directory.path().join("s")).unwrap();
            stream.write_all(b"ping").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "echo ping");
        }
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn the_report_says_what_is_in_force() {
    let text = said(&run("report", Mode::On));
    for word in ["privileges", "limits", "memory: at most 1099511627776", "network", "processes", "system calls"] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(text.contains("files: reads its model") || text.contains("missing: [\"files"), "{text}");
}

#[test]
fn what_must_not_go_on_is_an_error() {
    assert!(said(&run("threads", Mode::On)).contains("start the sandbox before other threads"));
    let text = said(&run("missing model", Mode::On));
    assert!(text.contains("cannot open the model") && text.contains("gone"), "{text}");
}
