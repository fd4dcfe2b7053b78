"""Kill -9: of a runtime and of the controller under load, of the gateway, and of everything in the middle of a deploy.

BERTH_KILLS says how often everything is killed (default 200), BERTH_SEED where and when.
"""

import os
import random
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import requests

from harness import cases, procs
from harness.load import Load
from harness.platform import ApiError, Platform, executable

KILLS = int(os.environ.get("BERTH_KILLS", "200"))
SEED = int(os.environ.get("BERTH_SEED", "1"))
# Kills of a runtime in one test. Fewer than would bring the longest back-off between restarts.
RUNTIME_KILLS = 3


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_killed_runtime_fails_no_request_and_comes_back(platform: Platform, replicas: int) -> None:
    name = f"iris-{replicas}"
    platform.deploy(name, cases.made("iris.onnx")(), minReplicas=replicas)
    with Load(platform, name) as load:
        for _ in range(RUNTIME_KILLS):
            victim = replica_pids(platform, name)[0]
            procs.kill(victim)
            back = partial(whole_again, platform, name, victim, replicas)
            procs.wait_until(back, "the replica to be back")
            load.wait_for_more(20)
    assert not load.failures
    reasons = [event["reason"] for event in platform.api("GET", f"/events?service={name}&limit=200")["items"]]
    assert reasons.count("ReplicaExited") >= RUNTIME_KILLS
    platform.api("DELETE", f"/inferenceservices/{name}")


def test_a_replica_that_is_stuck_in_one_run_is_replaced(platform: Platform) -> None:
    platform.deploy("busy", cases.made("busy.onnx")(), timeout=1)
    (stuck,) = replica_pids(platform, "busy")

    def ask(rounds: int) -> requests.Response:
        body = {"inputs": [{"name": "rounds", "shape": [1], "datatype": "INT64", "data": [rounds]}]}
        return requests.post(f"{platform.url}/v2/models/busy/infer", json=body, headers=platform.headers, timeout=60)

    assert ask(10**9).status_code == 504
    procs.wait_until(lambda: whole_again(platform, "busy", stuck, 1), "the stuck replica to be replaced")
    assert ask(3).json()["outputs"][0]["data"] == [192.0]
    events = platform.api("GET", "/events?service=busy&limit=200")["items"]
    assert any(event["reason"] == "ReplicaDraining" and "at one run for" in event["message"] for event in events)
    platform.api("DELETE", "/inferenceservices/busy")


def test_a_new_revision_under_load_fails_no_request(platform: Platform) -> None:
    platform.deploy("rolling", cases.made("iris.onnx")())
    with Load(platform, "rolling") as load:
        for timeout in (50, 40):
            changed = platform.service("rolling")
            changed["spec"]["predictor"]["timeout"] = timeout
            del changed["metadata"]["resourceVersion"]  # the status may change it at any moment
            platform.api("PUT", "/inferenceservices/rolling", changed)
            platform.wait_ready("rolling")
            load.wait_for_more(20)
    assert not load.failures
    assert platform.service("rolling")["status"]["latestReadyRevision"] == 3
    platform.api("DELETE", "/inferenceservices/rolling")


def test_the_controller_is_not_needed_and_adopts_when_it_is_back(fresh: Platform) -> None:
    fresh.start()
    fresh.deploy("iris", cases.made("iris.onnx")(), minReplicas=2)
    gateway, runtimes = fresh.pid_of("gateway"), fresh.runtime_pids()
    with Load(fresh, "iris") as load:
        controller = fresh.pid_of("controller")
        procs.kill(controller)
        procs.wait_until(lambda: not procs.alive(controller), "the controller to be gone")
        load.wait_for_more(50)
        fresh.restart_controller()
        load.wait_for_more(20)
    assert not load.failures
    assert fresh.pid_of("gateway") == gateway and fresh.runtime_pids() == runtimes
    reasons = [event["reason"] for event in fresh.api("GET", "/events?limit=500")["items"]]
    assert "ReplicaAdopted" in reasons and "GatewayAdopted" in reasons
    # What was adopted is still looked after.
    procs.kill(runtimes[0])
    procs.wait_until(lambda: whole_again(fresh, "iris", runtimes[0], 2), "an adopted replica to be replaced")


def test_a_gateway_without_a_controller_starts_from_its_last_configuration(fresh: Platform) -> None:
    fresh.start()
    fresh.deploy("iris", cases.made("iris.onnx")())
    arguments, address, headers = procs.command_line(fresh.pid_of("gateway")), fresh.address, fresh.headers
    # The one that brings the controller back goes first, then the one that brings the gateway back.
    for pid in (fresh.up.pid, fresh.pid_of("controller"), fresh.pid_of("gateway")):
        procs.kill(pid)
    fresh.up.wait(10)
    fresh.up = None
    with (fresh.data.parent / "gateway.log").open("wb") as log:
        gateway = subprocess.Popen(arguments, env=fresh.env, stdout=log, stderr=log, start_new_session=True)
    try:
        address = listening_address(arguments, address)
        procs.wait_until(lambda: answers(address, "iris", headers), "the gateway to answer alone")
        assert requests.get(f"http://{address}/v2", timeout=10).status_code == 401
    finally:
        gateway.kill()
        gateway.wait(10)
        fresh.kill_all()


def test_a_killed_gateway_is_started_again(platform: Platform) -> None:
    platform.deploy("iris", cases.made("iris.onnx")())
    address, runtimes = platform.address, platform.runtime_pids()
    for _ in range(2):
        before = platform.pid_of("gateway")
        procs.kill(before)
        procs.wait_until(lambda: answers(address, "iris", platform.headers), "the gateway to answer again")
    assert platform.runtime_pids() == runtimes
    platform.api("DELETE", "/inferenceservices/iris")


# Everything at once, in the middle of a deploy


class Crashes:
    """Deploys, updates or deletes `victim`, kills everything at a point that the seed chooses, and looks."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self.platform, self.random = platform, random.Random(seed)
        self.sources = [cases.made("simple.onnx")(), cases.made("identity-fp64.onnx")()]
        self.current: int | None = None
        self.points: dict[str, int] = {}

    def once(self) -> None:
        change = "create" if self.current is None else self.random.choice(["update", "update", "delete"])
        wanted = 1 - self.current if change == "update" else self.random.randrange(2)
        arguments = ["delete", "victim"] if change == "delete" else ["deploy", "victim", str(self.sources[wanted])]
        with self.command(arguments) as command:
            point = self.wait_for_point(command, change)
            self.platform.kill_all()
            command.kill()
            acknowledged = command.wait(60) == 0
        self.points[point] = self.points.get(point, 0) + 1
        self.platform.start()
        found = self.look(f"{change} of {wanted}, killed at `{point}`")
        allowed = {self.current, None if change == "delete" else wanted}
        if acknowledged:
            allowed = {None if change == "delete" else wanted}
        assert found in allowed, f"{change}, killed at `{point}`: found {found}, not one of {allowed}"
        self.current = found

    def command(self, arguments: list[str]) -> subprocess.Popen:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([executable(), *arguments], env=self.platform.env, **quiet)

    def wait_for_point(self, command: subprocess.Popen, change: str) -> str:
        """Waits for one of the things that happen on the way, and then a little, counted in turns and not in time."""
        names = list(self.watch(change))
        name = self.random.choice([*names, "started", "acknowledged"])
        turns = self.random.choice([0, 0, 10, 100, 1000, 10_000, 100_000])
        if name == "acknowledged":
            command.wait(60)
        elif name != "started":
            changed = self.watch(change)[name]
            procs.wait_until(lambda: command.poll() is not None or changed(), name, 30)
        for _ in range(turns):
            pass
        return name

    def watch(self, change: str) -> dict[str, Callable[[], bool]]:
        """What can be seen of the work from outside, as questions whether it has changed since now."""
        data, platform = self.platform.data, self.platform
        looks: dict[str, Callable[[], object]] = {
            "database": lambda: [path.stat().st_size for path in data.glob("berth.db-wal")],
            "snapshot": lambda: [path.stat().st_ino for path in data.glob("gateway/snapshot.json")],
            "runtimes": lambda: platform.runtime_pids(),
            "sockets": lambda: sizes(data / "run"),
        }
        if change != "delete":
            looks["store"] = lambda: sizes(data / "store")
        return {name: changed_since(look) for name, look in looks.items()}

    def look(self, when: str) -> int | None:
        """Which model `victim` has, once it answers; or none. What was there all the time must be there still."""
        self.platform.wait_ready("steady")
        self.platform.wait_routed()
        assert answers(self.platform.address, "steady", self.platform.headers), when
        try:
            self.platform.service("victim")
        except ApiError as error:
            assert error.code == 404, when
            status = requests.get(f"{self.platform.url}/v2/models/victim", headers=self.platform.headers, timeout=30)
            assert status.status_code == 404, f"{when}: {status.text}"
            return None
        self.platform.wait_ready("victim")
        self.platform.wait_routed()
        described = requests.get(
            f"{self.platform.url}/v2/models/victim", headers=self.platform.headers, timeout=30
        ).json()
        model = 0 if len(described["inputs"]) == 2 else 1
        self.check_answer(model, when)
        return model

    def check_answer(self, model: int, when: str) -> None:
        a = {"name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "data": list(range(16))}
        x = {"name": "INPUT0", "shape": [1, 2], "datatype": "FP64", "data": [0.5, -1.5]}
        inputs = [a, {**a, "name": "INPUT1"}] if model == 0 else [x]
        url = f"{self.platform.url}/v2/models/victim/infer"
        answer = requests.post(url, json={"inputs": inputs}, headers=self.platform.headers, timeout=30)
        assert answer.status_code == 200, f"{when}: {answer.text}"
        data = answer.json()["outputs"][0]["data"]
        assert data == (list(range(0, 32, 2)) if model == 0 else [0.5, -1.5]), when


def test_everything_killed_in_the_middle_of_a_deploy(fresh: Platform) -> None:
    fresh.start()
    fresh.deploy("steady", cases.made("iris.onnx")())
    fresh.key()
    crashes = Crashes(fresh, SEED)
    for number in range(KILLS):
        try:
            crashes.once()
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"kill {number + 1} of {KILLS}, seed {SEED}: {error}") from error
    print(f"{KILLS} kills: {crashes.points}")


def sizes(folder: Path) -> dict[str, int]:
    """Every file below a folder and its size; what goes while one looks is not there."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                found[f"{parent}/{name}"] = os.lstat(f"{parent}/{name}").st_size
            except FileNotFoundError:
                pass
    return found


def changed_since(look: Callable[[], object]) -> Callable[[], bool]:
    before = look()
    return lambda: look() != before


def replica_pids(platform: Platform, name: str) -> list[int]:
    replicas = platform.service(name)["status"]["replicas"]
    return [replica["pid"] for replica in replicas if replica["phase"] == "Ready"]


def whole_again(platform: Platform, name: str, without: int, replicas: int) -> bool:
    pids = replica_pids(platform, name)
    return without not in pids and len(pids) == replicas


def listening_address(arguments: list[str], address: str) -> str:
    """A gateway told to take any port takes another one when it starts again by hand."""
    return arguments[arguments.index("--listen") + 1] if "--listen" in arguments else address


def answers(address: str, service: str, headers: dict[str, str]) -> bool:
    row = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": cases.irises(0)["input"].ravel().tolist()}
    try:
        answer = requests.post(
            f"http://{address}/v2/models/{service}/infer", json={"inputs": [row]}, headers=headers, timeout=30
        )
    except requests.RequestException:
        return False
    return answer.status_code == 200 and np.array(answer.json()["outputs"][0]["data"]).tolist() == [0]
