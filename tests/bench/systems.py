"""The servers that are measured: how each is installed, started, asked and weighed."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import requests
from tritonclient.grpc import service_pb2

from harness import cache, procs
from harness.platform import Platform

FILES = Path(__file__).resolve().parent / "peer_files"
JSON, BINARY, GRPC = "JSON", "binary", "gRPC"
START_SECONDS = 90


class System:
    """One server under one name."""

    name = ""
    about = ""
    protocols: tuple[str, ...] = (JSON, BINARY, GRPC)
    path = "/v2/models/iris/infer"
    headers: dict[str, str] = {}

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="berth-bench-", dir="/tmp"))
        self.process: subprocess.Popen | None = None
        self.http = self.grpc = ""

    def start(self) -> None:
        """Starts it and waits until it answers."""
        raise NotImplementedError

    def launch(self, command: list, env: dict[str, str] | None = None) -> None:
        with (self.folder / "log").open("wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen(list(map(str, command)), env=env, start_new_session=True, **streams)

    def wait_ready(self, path: str = "/v2/models/iris/ready") -> None:
        def ready() -> bool:
            if self.process and self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{self.log()}")
            try:
                return requests.get(f"http://{self.http}{path}", headers=self.headers, timeout=5).ok
            except requests.RequestException:
                return False

        procs.wait_until(ready, f"{self.name} to be ready, see {self.folder}/log", START_SECONDS)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def pids(self) -> list[int]:
        return procs.descendants(self.process.pid) if self.process else []

    def pss_mib(self) -> float:
        return procs.pss_kib(self.pids()) / 1024

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


class Fixed(System):
    """The limit: the HTTP stack of Berth, reading the body and answering the same text."""

    name = "fixed answer"
    about = "a Rust server on the same HTTP stack that reads the request and answers the same each time: the limit"
    protocols = (JSON, GRPC)

    def start(self) -> None:
        message = service_pb2.ModelInferResponse(model_name="iris", model_version="1")
        message.outputs.add(name="label", datatype="INT64", shape=[1])
        message.outputs.add(name="probabilities", datatype="FP32", shape=[1, 3])
        message.raw_output_contents.extend([bytes(8), bytes(12)])
        (self.folder / "message").write_bytes(message.SerializeToString())
        self.launch([load_generator(), "fixed", "--message", self.folder / "message"])
        log = self.folder / "log"
        text = procs.wait_until(lambda: log.read_text().strip(), "the fixed server's address", START_SECONDS)
        self.http = self.grpc = json.loads(text.splitlines()[0])["address"]


class BerthRuntime(System):
    """One runtime process without a gateway, as nobody should expose it."""

    name = "Berth runtime"
    about = "`berth runtime` alone, over TCP, without gateway and key"

    def __init__(self, berth: Path, models: dict[str, Path]) -> None:
        super().__init__()
        self.berth, self.models = berth, models

    def start(self) -> None:
        self.http = self.grpc = f"127.0.0.1:{free_port()}"
        served = [argument for name, path in self.models.items() for argument in ("--model", f"{name}={path}")]
        self.launch([self.berth, "runtime", "--listen", self.http, *served])
        self.wait_ready(f"/v2/models/{next(iter(self.models))}/ready")


class BerthPlatform(System):
    """The whole platform, asked through the gateway with a key."""

    name = "Berth"
    about = "the whole platform, asked through the gateway with a key"

    def __init__(self, berth: Path, models: dict[str, Path]) -> None:
        super().__init__()
        os.environ["BERTH_BIN"] = str(berth)
        self.models, self.platform = models, Platform()

    def start(self) -> None:
        self.platform.start()
        for name, path in self.models.items():
            self.platform.deploy(name, path)
        self.http = self.grpc = self.platform.address
        self.headers = self.platform.headers

    def pids(self) -> list[int]:
        return list(self.platform.processes())

    def stop(self) -> None:
        super().stop()
        self.platform.destroy()


class Triton(System):
    """Triton 2.51 of the package nvidia-pytriton; its Python backend calls onnxruntime."""

    name = "Triton"
    about = "Triton 2.51 (nvidia-pytriton 0.7.0), Python backend calling onnxruntime, dynamic batching: its quickest"
    config = (FILES / "triton_config.pbtxt").read_text()
    served = "iris"
    script = "triton_model.py"
    environment: dict[str, str] = {}

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.model = model

    def start(self) -> None:
        # The wheel has libraries for the distribution's own Python, not for one built elsewhere.
        venv = peer_environment("triton", Path("/usr/bin/python3"))
        (site,) = venv.glob("lib/python3.*/site-packages")
        version = site.parent.name.removeprefix("python")
        bundled = site / "pytriton" / "tritonserver"
        backends = self.folder / "backends"
        shutil.copytree(bundled / "backends", backends)
        shutil.copy(bundled / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
        repository = self.folder / "models" / self.served
        (repository / "1").mkdir(parents=True)
        (repository / "config.pbtxt").write_text(self.config)
        shutil.copy(FILES / self.script, repository / "1" / "model.py")
        shutil.copy(self.model, repository / "1" / "model.onnx")
        http, grpc = free_port(), free_port()
        self.http, self.grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        addresses = ["--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", "--allow-metrics", "false"]
        ports = ["--http-port", http, "--grpc-port", grpc]
        places = ["--model-repository", repository.parent, "--backend-directory", backends]
        path = f"{venv / 'bin'}:{os.environ['PATH']}"
        libraries = str(site / "nvidia_pytriton.libs")
        env = {**os.environ, **self.environment, "PATH": path, "LD_LIBRARY_PATH": libraries, "PYTHONPATH": str(site)}
        self.launch([bundled / "bin" / "tritonserver", *places, *addresses, *ports], env)
        self.wait_ready(f"/v2/models/{self.served}/ready")


class TritonUnbatched(Triton):
    """The same, each request by itself."""

    name = "Triton unbatched"
    about = "the same without dynamic batching, which is how Triton runs a model that does not ask for it"
    config = Triton.config.replace("dynamic_batching { }", "")


class TritonMiniLm(Triton):
    """MiniLM with dynamic batching: one instance whose runs have every core, or one of one thread for each core."""

    served = "minilm"
    script = "triton_minilm.py"

    def __init__(self, model: Path, instances: int) -> None:
        super().__init__(model)
        threads = max(1, (os.cpu_count() or 1) // instances)
        self.name = f"Triton, {instances} × {threads}"
        self.about = (
            f"Triton 2.51 (nvidia-pytriton 0.7.0), Python backend calling onnxruntime, dynamic batching, {instances} "
            f"instance{'s' if instances > 1 else ''} with {threads} thread{'s' if threads > 1 else ''} a run"
        )
        self.config = (FILES / "triton_minilm.pbtxt").read_text().replace("INSTANCES", str(instances))
        self.environment = {"BENCH_THREADS": str(threads)}


class MlServer(System):
    """MLServer 1.7.1 with a runtime of our own that calls onnxruntime: it has none."""

    name = "MLServer"
    about = "MLServer 1.7.1, a custom runtime calling onnxruntime, no worker pool (its quickest setting here)"
    protocols = (JSON, GRPC)
    workers = 0
    script = "mlserver_model.py"
    # What the model's settings say beside its name and its file.
    described: dict = {}

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.model = model

    def start(self) -> None:
        venv = peer_environment("mlserver", Path(sys.executable))
        folder = self.folder / "iris"
        folder.mkdir()
        shutil.copy(FILES / self.script, folder)
        shutil.copy(self.model, folder / "model.onnx")
        http, grpc, metrics = free_port(), free_port(), free_port()
        self.http, self.grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        settings |= {"debug": False, "parallel_workers": self.workers}
        (self.folder / "settings.json").write_text(json.dumps(settings))
        model = {"name": "iris", "implementation": f"{self.script.removesuffix('.py')}.OnnxModel", **self.described}
        model["parameters"] = {"uri": "./model.onnx", "version": "1"}
        (folder / "model-settings.json").write_text(json.dumps(model))
        path = f"{venv / 'bin'}:{os.environ['PATH']}"
        self.launch(
            [venv / "bin" / "mlserver", "start", self.folder], {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
        )
        self.wait_ready()


def load_generator() -> Path:
    """`BERTH_LOAD`, else that of the build for installation, which is what people run."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or cache.ROOT / "target")
    return Path(os.environ.get("BERTH_LOAD") or target / "dist" / "berth-load").absolute()


def peer_environment(name: str, python: Path) -> Path:
    """A virtual environment for a peer, made once for each state of its list."""
    listed = Path(__file__).with_name(f"requirements-{name}.txt")
    venv = cache.cache_dir() / f"venv-{name}-{cache.digest_of(listed)}"
    if not (venv / "complete").exists():
        shutil.rmtree(venv, ignore_errors=True)
        print(f"bench: installing {name} into {venv}", flush=True)
        subprocess.run([python, "-m", "venv", venv], check=True)
        options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--progress-bar", "off"]
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", *options, "-r", listed], check=True)
        (venv / "complete").touch()
    return venv


def free_port() -> int:
    """A port that is free now; for servers that cannot take one by themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def machine() -> str:
    """What the numbers were measured on."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    kernel = os.uname()
    name = cpu.group(1) if cpu else kernel.machine
    return f"{os.cpu_count()} cores of {name}, {memory:.0f} GiB, {kernel.sysname} {kernel.release}"
