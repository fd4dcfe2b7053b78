"""A whole platform in a data directory of its own: the real executable, started as a person starts it."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from harness import cache, procs

API = "/apis/berth.dev/v1alpha1"
EVERYTHING = ["infer:*", "preview:*", "metadata:*", "metrics"]


def executable() -> Path:
    """`BERTH_BIN`, else the debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or cache.ROOT / "target")
    return Path(os.environ.get("BERTH_BIN") or target / "debug" / "berth").absolute()


class ApiError(Exception):
    """An answer of the resource API that is an error."""

    def __init__(self, code: int, body: Any) -> None:
        super().__init__(f"{code}: {body}")
        self.code, self.body = code, body


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Platform:
    """Starts, asks, kills and stops. Ends only processes that carry its data directory in their arguments."""

    def __init__(
        self,
        *arguments: str,
        data_dir: Path | None = None,
        env: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> None:
        # A short path: a Unix socket's may have 107 bytes.
        self.data = data_dir or Path(tempfile.mkdtemp(prefix="berth-", dir="/tmp")) / "d"
        # `before` is a command that becomes the one after it, such as `prlimit`.
        self.arguments, self.before = arguments, before
        home = self.data.parent / "home"
        home.mkdir(exist_ok=True)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "BERTH_DATA_DIR": str(self.data)}
        self.env |= {
            name: os.environ[name] for name in ("BERTH_ONNXRUNTIME", "RUST_LOG", "RUST_BACKTRACE") if name in os.environ
        }
        self.env |= env or {}
        self.up: subprocess.Popen | None = None
        self.output = self.data.parent / "up.log"
        self.address = ""
        self._key = ""

    # Life

    def start(self) -> "Platform":
        """`berth up`, until the gateway is ready."""
        self.launch()
        self.wait_up()
        return self

    def launch(self) -> None:
        """`berth up`, without waiting."""
        with self.output.open("ab") as output:
            command = [*self.before, executable(), "up", "--listen", "127.0.0.1:0", *self.arguments]
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            self.up = subprocess.Popen(command, env=self.env, start_new_session=True, **streams)

    def wait_up(self, seconds: float = 60) -> None:
        """Waits until the controller answers and says that its gateway is ready."""

        def ready() -> Any:
            if self.up and (code := self.up.poll()):
                raise AssertionError(f"`berth up` ended with {code}:\n{self.logs()}")
            try:
                status = self.status()
            except (OSError, http.client.HTTPException, ApiError, ValueError):
                return None
            return status if status["gateway"] and status["gateway"]["ready"] else None

        self.address = procs.wait_until(ready, "the platform to be up", seconds)["listen"]

    def restart_controller(self) -> None:
        """`berth up` again, once the controller is gone; one that is still in the foreground ends first."""
        if self.up and self.up.poll() is None and procs.command_line(self.up.pid)[1] == "up":
            procs.wait_until(lambda: self.up.poll() is not None or self.controllers(), "`berth up` to notice")
        if not self.controllers():
            self.launch()
        self.wait_up()

    def stop(self) -> int | None:
        """Ctrl-C, as a person would; gives the exit code. What is left over is a failure."""
        code = None
        if self.up:
            if self.up.poll() is None:
                self.up.send_signal(signal.SIGINT)
            code = self.up.wait(60)
            self.up = None
        procs.wait_until(lambda: not self.processes(), f"no process left of {self.data}", 30)
        return code

    def kill_all(self) -> None:
        """SIGKILL to every process at once: the power goes."""
        while found := self.processes():
            for pid in found:
                procs.kill(pid)
            if self.up:
                self.up.poll()
        if self.up:
            self.up.wait(10)
            self.up = None

    def destroy(self) -> None:
        """Ends what runs and removes the data."""
        try:
            self.stop()
        except (TimeoutError, subprocess.TimeoutExpired):
            self.kill_all()
            raise
        finally:
            self.kill_all()
            shutil.rmtree(self.data.parent, ignore_errors=True)

    def processes(self) -> dict[int, list[str]]:
        """Every process of this platform, the `berth up` too."""
        found = procs.processes_naming(str(self.data))
        if self.up and self.up.poll() is None:
            found[self.up.pid] = procs.command_line(self.up.pid)
        return {pid: arguments for pid, arguments in found.items() if is_berth(arguments)}

    def pid_of(self, role: str) -> int:
        """The one process of a role: `controller` or `gateway`."""
        (pid,) = [pid for pid, arguments in self.processes().items() if arguments[1] == role]
        return pid

    def controllers(self) -> list[int]:
        return [pid for pid, arguments in self.processes().items() if arguments[1] == "controller"]

    def runtime_pids(self) -> list[int]:
        """Runtimes with a model."""
        return sorted(pid for pid, arguments in self.processes().items() if arguments[1] == "runtime" and not waits(pid))

    def waiting_pids(self) -> list[int]:
        """Runtimes of the warm pool, which wait for a model."""
        return sorted(pid for pid, arguments in self.processes().items() if arguments[1] == "runtime" and waits(pid))

    def logs(self, lines: int = 30) -> str:
        """The ends of every log, for a person who wants to know why a test failed."""
        files = [self.output, *sorted((self.data / "logs").glob("*.log"))]
        texts = [(file.name, file.read_text(errors="replace")) for file in files if file.exists()]
        return "\n".join(f"==> {name}\n" + "\n".join(text.splitlines()[-lines:]) for name, text in texts)

    # Asking

    def berth(
        self, *arguments: Any, check: bool = True, text_in: str | None = None, timeout: float = 90
    ) -> subprocess.CompletedProcess:
        """Runs the CLI against this platform."""
        command = [executable(), *map(str, arguments)]
        done = subprocess.run(command, env=self.env, input=text_in, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(
                f"berth {arguments} ended with {done.returncode}\n{done.stdout}{done.stderr}\n{self.logs()}"
            )
        return done

    def api(self, method: str, path: str, body: Any = None, timeout: float = 60) -> Any:
        """One call of the resource API; `path` starts after the group and version."""
        connection = UnixConnection(self.data / "run" / "control.sock", timeout)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, API + path, payload, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        parsed = json.loads(text) if text.startswith(("{", "[")) else text
        if answer.status >= 400:
            raise ApiError(answer.status, parsed)
        return parsed

    def status(self) -> dict:
        return self.api("GET", "/status")

    def service(self, name: str) -> dict:
        return self.api("GET", f"/inferenceservices/{name}")

    def create(self, name: str, source: Path, **predictor: Any) -> None:
        """Asks for a service, without waiting for it. Keyword arguments go to `spec.predictor`."""
        self.api("POST", "/inferenceservices", manifest(name, source, **predictor))

    def deploy(self, name: str, source: Path, **predictor: Any) -> None:
        """Asks for a service and waits until it is ready."""
        self.create(name, source, **predictor)
        self.wait_ready_at_first(name)

    def wait_ready(self, name: str, seconds: float = 60) -> dict:
        """Waits until the newest revision answers."""
        return procs.wait_until(lambda: self.ready(name), f"`{name}` to be ready", seconds)

    def wait_ready_at_first(self, name: str, seconds: float = 120) -> dict:
        """The same for a service that has no reason to fail even once."""

        def ready() -> dict | None:
            found = condition(self.service(name), "Ready")
            assert found.get("reason") != "CrashLoopBackOff", found["message"]
            return self.ready(name)

        return procs.wait_until(ready, f"`{name}` to be ready", seconds)

    def wait_routed(self) -> None:
        """Waits until the gateway serves what the controller has decided."""

        def routed() -> bool:
            status = self.status()
            return bool(status["gateway"]) and status["gateway"]["generation"] == status["generation"]

        procs.wait_until(routed, "the gateway to serve the newest configuration")

    def ready(self, name: str) -> dict | None:
        service = self.service(name)
        status = service.get("status") or {}
        fresh = status.get("observedGeneration") == service["metadata"].get("generation")
        return service if fresh and condition(service, "Ready").get("status") == "True" else None

    def key(self) -> str:
        """A key that permits everything, made once."""
        if not self._key:
            self._key = self.new_key("all", EVERYTHING)
        return self._key

    def new_key(self, name: str, allow: list[str]) -> str:
        return self.api("POST", "/keys", {"name": name, "allow": allow})["key"]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key()}"}

    @property
    def url(self) -> str:
        return f"http://{self.address}"


def waits(pid: int) -> bool:
    """Whether it is a process of the warm pool that has no model yet: it has one thread until then."""
    try:
        return "--standby" in procs.command_line(pid) and procs.status_fields(pid)["Threads"] == "1"
    except OSError:
        return False


def is_berth(arguments: list[str]) -> bool:
    return len(arguments) > 1 and arguments[0].endswith("berth")


def condition(service: dict, kind: str) -> dict:
    """One condition of a service; empty when it is not there."""
    conditions = (service.get("status") or {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), {})


def manifest(name: str, source: Path, **predictor: Any) -> dict:
    """An `InferenceService` for a model file or a bundle directory."""
    model = {"modelFormat": {"name": "onnx"}, "storageUri": f"file://{Path(source).absolute()}"}
    spec = {"predictor": {"model": model, **predictor}}
    return {"apiVersion": "berth.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": name}, "spec": spec}
