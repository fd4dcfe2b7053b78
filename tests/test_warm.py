"""The warm pool: processes that have loaded ONNX Runtime and wait for a model, and the replicas that they become."""

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest
import requests

from harness import cases, procs
from harness.platform import Platform, condition

SECCOMP_OFF, SECCOMP_FILTER = "0", "2"


@pytest.fixture
def warm() -> Iterator[Platform]:
    """A platform whose pool is full, not yet started on any model."""
    platform = Platform("--warm-pool", "2")
    try:
        platform.start()
        full(platform, 2)
        yield platform
    finally:
        platform.destroy()


def full(platform: Platform, size: int) -> list[int]:
    """Waits until so many processes wait, and gives them."""

    def waiting() -> list[int] | None:
        found = platform.waiting_pids()
        pool = platform.status()["warmPool"]
        return found if len(found) == size == pool["waiting"] else None

    return procs.wait_until(waiting, f"{size} processes of the warm pool")


def started(platform: Platform, service: str) -> list[str]:
    """What the events say of the service's starts."""
    events = platform.api("GET", f"/events?service={service}&limit=200")["items"]
    return [event["message"] for event in events if event["reason"] == "ReplicaStarted"]


def answers(platform: Platform, service: str) -> None:
    body = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
    url = f"{platform.url}/v2/models/{service}/infer"
    done = requests.post(url, json=body, headers=platform.headers, timeout=60)
    assert done.status_code == 200, done.text
    outputs = {output["name"]: output["data"] for output in done.json()["outputs"]}
    expected = cases.loaded(cases.made("iris.onnx")()).run(
        ["probabilities"], {"input": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)}
    )
    assert np.allclose(outputs["probabilities"], expected[0].ravel())


def restricted(pid: int) -> bool:
    """Whether every thread is in the sandbox; there are several once a model is served."""
    threads = [procs.status_fields(f"{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task")]
    restricted = [one["NoNewPrivs"] == "1" and one["Seccomp"] == SECCOMP_FILTER for one in threads]
    assert len(threads) > 1
    return all(restricted)


def test_a_process_that_waits_becomes_a_sandboxed_replica_and_is_replaced(warm: Platform) -> None:
    waiting = warm.waiting_pids()
    for pid in waiting:
        # It has loaded the library, has no model, and is restricted when it gets one.
        fields = procs.status_fields(pid)
        assert fields["Threads"] == "1" and fields["Seccomp"] == SECCOMP_OFF
        assert os.readlink(f"/proc/{pid}/fd/0").startswith("pipe:")
    pool = warm.status()["warmPool"]
    assert pool["size"] == 2 and pool["memoryBytes"] > 1024 * 1024
    assert "2 of 2 waiting" in warm.berth("status").stdout
    warm.deploy("iris", cases.made("iris.onnx")(), minReplicas=2)
    assert warm.runtime_pids() == waiting
    assert all("from the warm pool" in message for message in started(warm, "iris"))
    for pid in waiting:
        assert restricted(pid)
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert condition(warm.service("iris"), "Enforced")["status"] == "True"
    answers(warm, "iris")
    assert "model ready" in warm.berth("logs", "iris").stdout
    assert not set(full(warm, 2)) & set(waiting)


def test_a_replica_that_started_warm_is_adopted_and_the_pool_goes_with_its_controller(warm: Platform) -> None:
    warm.deploy("iris", cases.made("iris.onnx")())
    (replica,) = warm.runtime_pids()
    waiting = full(warm, 2)
    # `berth up` goes first: it would bring the controller back.
    for pid in (warm.up.pid, warm.pid_of("controller")):
        procs.kill(pid)
    warm.up.wait(10)
    warm.up = None
    procs.wait_until(lambda: not any(map(procs.alive, waiting)), "those that wait to end by themselves")
    assert warm.runtime_pids() == [replica]
    warm.start()
    assert not set(full(warm, 2)) & set(waiting)
    assert warm.runtime_pids() == [replica]
    reasons = [event["reason"] for event in warm.api("GET", "/events?limit=500")["items"]]
    assert "ReplicaAdopted" in reasons and "StrayStopped" not in reasons and "ReplicaExited" not in reasons
    answers(warm, "iris")
    # What was adopted is still looked after, and its successor comes from the pool.
    procs.kill(replica)
    procs.wait_until(lambda: warm.runtime_pids() not in ([], [replica]), "a successor")
    warm.wait_ready("iris")
    assert "from the warm pool" in started(warm, "iris")[-1] or "from the warm pool" in started(warm, "iris")[0]


def test_a_process_that_ends_while_it_waits_is_replaced_and_no_replica_is_lost(warm: Platform) -> None:
    gone = warm.waiting_pids()
    for pid in gone:
        procs.kill(pid)
    warm.deploy("iris", cases.made("iris.onnx")())
    answers(warm, "iris")
    assert not set(full(warm, 2)) & set(gone)


def test_without_services_that_go_to_zero_nothing_waits_unless_asked(fresh: Platform) -> None:
    fresh.start()
    fresh.deploy("iris", cases.made("iris.onnx")())
    assert fresh.status()["warmPool"] == {"size": 0, "waiting": 0, "memoryBytes": 0}
    assert not fresh.waiting_pids() and "from the warm pool" not in started(fresh, "iris")[0]
    refused = fresh.berth("up", "--warm-pool", "17", check=False)
    assert refused.returncode == 2 and "--warm-pool" in refused.stderr


def test_what_the_first_replica_found_out_is_not_tried_again_unless_it_is_damaged(platform: Platform) -> None:
    platform.deploy("iris", cases.made("iris.onnx")())
    (kept,) = procs.wait_until(lambda: list((platform.data / "findings").glob("*.json")), "the findings to be kept")
    found = kept.read_text()
    assert tried(platform) == [True]
    another_start(platform)
    assert tried(platform) == [True, False]
    assert kept.read_text() == found
    kept.write_text('{"circumstances": 1}')
    another_start(platform)
    assert tried(platform) == [True, False, True]
    procs.wait_until(lambda: kept.read_text() != '{"circumstances": 1}', "the findings to be kept again")
    answers(platform, "iris")


def another_start(platform: Platform) -> None:
    (before,) = platform.runtime_pids()
    procs.kill(before)
    procs.wait_until(lambda: platform.runtime_pids() not in ([], [before]), "another replica")
    platform.wait_ready("iris")


def tried(platform: Platform) -> list[bool]:
    """Whether the trials were made, for each replica in the order of its start."""
    logs = sorted((platform.data / "logs").glob("iris-*.log"), key=lambda log: log.stat().st_mtime)
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines() if line.startswith("{")]
    return [line["trials"] in (True, "true") for line in lines if line["message"] == "model measured"]
