"""The life of `berth up`: what it starts again, what it drains, what it cuts off, and what it leaves for the next one."""

import json
import os
import shutil
import signal
import stat
import subprocess
import threading
from pathlib import Path

import pytest
import requests

from harness import cases, procs
from harness.platform import Platform, executable

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "breast-cancer"
INTERRUPTED = 130
# Rounds of the busy model that take some seconds.
LONG = 6000


def test_a_controller_that_dies_is_started_again(fresh: Platform) -> None:
    fresh.start()
    fresh.berth("deploy", "iris", cases.made("iris.onnx")())
    key, before = fresh.key(), fresh.pid_of("controller")
    serving = (fresh.pid_of("gateway"), fresh.runtime_pids())
    procs.kill(before)
    fresh.wait_up()
    assert fresh.pid_of("controller") != before
    assert (fresh.pid_of("gateway"), fresh.runtime_pids()) == serving
    answer = requests.get(f"{fresh.url}/v2/models/iris", headers={"authorization": f"Bearer {key}"}, timeout=30)
    assert answer.status_code == 200
    assert "starting it again" in fresh.output.read_text()
    assert fresh.stop() == 0


def test_what_a_killed_up_leaves_is_taken_over(fresh: Platform) -> None:
    fresh.start()
    fresh.berth("deploy", "iris", cases.made("iris.onnx")())
    fresh.up.kill()
    fresh.up.wait()
    assert fresh.berth("up").returncode == 0
    procs.kill(fresh.pid_of("controller"))
    told = fresh.berth("status", check=False)
    assert told.returncode == 4 and "berth up" in told.stderr and "berth down" in told.stderr
    serving = (fresh.pid_of("gateway"), fresh.runtime_pids())
    fresh.berth("up", "--detach", "--listen", "127.0.0.1:0")
    assert (fresh.pid_of("gateway"), fresh.runtime_pids()) == serving
    procs.kill(fresh.pid_of("controller"))
    fresh.berth("down")
    assert not fresh.processes()
    fresh.up = None


def test_the_drain_finishes_what_has_begun(fresh: Platform) -> None:
    fresh.start()
    fresh.berth("deploy", "busy", cases.made("busy.onnx")())
    headers = {"authorization": f"Bearer {fresh.key()}"}
    body = {"inputs": [{"name": "rounds", "datatype": "INT64", "shape": [1], "data": [LONG]}]}
    answers = []
    asking = threading.Thread(target=lambda: answers.append(requests.post(f"{fresh.url}/v2/models/busy/infer", json=body, headers=headers, timeout=120)))
    (runtime,) = fresh.runtime_pids()
    idle = cpu_ticks(runtime)
    asking.start()
    procs.wait_until(lambda: cpu_ticks(runtime) > idle + 20, "the model to compute")
    assert fresh.stop() == 0
    asking.join()
    assert [answer.status_code for answer in answers] == [200]


def test_a_second_signal_cuts_off(fresh: Platform) -> None:
    fresh.start()
    fresh.berth("deploy", "iris", cases.made("iris.onnx")())
    # A process that does not run does not drain.
    (runtime,) = fresh.runtime_pids()
    os.kill(runtime, signal.SIGSTOP)
    fresh.up.send_signal(signal.SIGINT)
    procs.wait_until(lambda: "stopping" in fresh.output.read_text(), "the drain to begin")
    procs.wait_until(lambda: not any(arguments[1] == "gateway" for arguments in fresh.processes().values()), "the gateway to be gone")
    assert fresh.up.poll() is None
    fresh.up.send_signal(signal.SIGINT)
    assert fresh.up.wait(30) == INTERRUPTED
    fresh.up = None
    assert not fresh.processes()


def test_the_local_key(fresh: Platform) -> None:
    up(fresh)
    file = fresh.data / "local.key"
    first = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first not in fresh.output.read_text() and str(file) in fresh.output.read_text()
    fresh.berth("deploy", "iris", cases.made("iris.onnx")())
    fresh.stop()
    up(fresh)
    assert file.read_text().strip() == first
    fresh.stop()
    file.unlink()
    up(fresh)
    second = file.read_text().strip()
    assert second != first
    assert [key["name"] for key in json.loads(fresh.berth("key", "list", "-o", "json").stdout)["items"]] == ["local"]
    fresh.wait_ready("iris")
    for key, code in ((first, 401), (second, 200)):
        answer = requests.get(f"{fresh.url}/v2/models/iris", headers={"authorization": f"Bearer {key}"}, timeout=30)
        assert answer.status_code == code


def test_ctrl_c_ends_the_waiting_and_not_the_service(fresh: Platform) -> None:
    fresh.start()
    command = [executable(), "deploy", "effnet", cases.made("efficientnet-lite0.onnx")()]
    waiting = subprocess.Popen(command, env=fresh.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A replica that stands still becomes no more ready; this one has a large model to load first.
    (runtime,) = procs.wait_until(fresh.runtime_pids, "the replica's process")
    os.kill(runtime, signal.SIGSTOP)
    assert any("effnet" in line for line in iter(waiting.stderr.readline, ""))
    waiting.send_signal(signal.SIGINT)
    told, rest = waiting.communicate(timeout=30)
    assert waiting.returncode == INTERRUPTED and not told
    assert "`effnet` stays" in rest and "berth delete effnet" in rest
    os.kill(runtime, signal.SIGCONT)
    fresh.wait_ready("effnet")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_infer_over_tls(tmp_path: Path, example: Path) -> None:
    certificate, other = (make_certificate(tmp_path / name) for name in ("one", "two"))
    platform = Platform("--tls-cert", str(certificate), "--tls-key", str(certificate.with_suffix(".key")))
    try:
        up(platform)
        platform.berth("deploy", "breast-cancer", example)
        ask = ("infer", "breast-cancer", "--input", EXAMPLE / "row.json")
        assert "malignant" in platform.berth(*ask, "--tls-ca", certificate).stdout
        without = platform.berth(*ask, check=False)
        assert without.returncode == 2 and "--tls-ca" in without.stderr
        wrong = platform.berth(*ask, "--tls-ca", other, check=False)
        assert wrong.returncode == 1 and "not trusted" in wrong.stderr
    finally:
        platform.destroy()


def make_certificate(path: Path) -> Path:
    """A certificate that vouches for itself and bears no name of this machine; its key is beside it."""
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=models.example"]
    files = ["-keyout", path.with_suffix(".key"), "-out", path.with_suffix(".pem")]
    subprocess.run(["openssl", "req", *kind, *files], check=True, capture_output=True)
    return path.with_suffix(".pem")


def up(platform: Platform) -> None:
    """Starts, and waits until it says that it is ready: its key is there then."""
    told = len(platform.output.read_text()) if platform.output.exists() else 0
    platform.start()
    procs.wait_until(lambda: "Berth is ready" in platform.output.read_text()[told:], "the words that it is ready")


def cpu_ticks(pid: int) -> int:
    """User and system time of a process, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
