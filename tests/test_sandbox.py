"""The sandbox of a runtime, as the kernel tells it, and the proof that it makes the difference."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cases, procs
from harness.platform import Platform, condition

SECCOMP_FILTER = "2"
PASSED_ON = ("PATH", "HOME", "LANG", "RUST_LOG", "RUST_BACKTRACE", "BERTH_ONNXRUNTIME", "ORT_DISABLE_TELEMETRY")


@pytest.fixture(scope="module", params=[0, 3], ids=["cold", "warm"])
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """Replicas that were started from nothing, and replicas that waited in the warm pool."""
    platform = Platform("--warm-pool", str(request.param), env={"SOME_PASSWORD": "do-not-hand-this-on"})
    try:
        platform.start()
        procs.wait_until(lambda: len(platform.waiting_pids()) == request.param, "the warm pool")
        platform.deploy("iris", cases.made("iris.onnx")(), minReplicas=2)
        platform.deploy("ocr", cases.packaged("ppocrv4-det.onnx")())
        starts = [event for event in platform.api("GET", "/events")["items"] if event["reason"] == "ReplicaStarted"]
        assert sum("from the warm pool" in event["message"] for event in starts) == request.param
        yield platform
    finally:
        platform.destroy()


def test_the_kernel_says_that_runtimes_are_restricted(platform: Platform) -> None:
    pids = platform.runtime_pids()
    assert len(pids) == 3
    for pid in pids:
        status = procs.status_fields(pid)
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == SECCOMP_FILTER
        assert int(status["Seccomp_filters"]) >= 1
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[capabilities], 16) == 0, capabilities


def test_every_thread_is_restricted(platform: Platform) -> None:
    for pid in platform.runtime_pids():
        for thread in os.listdir(f"/proc/{pid}/task"):
            status = procs.status_fields(f"{pid}/task/{thread}")
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == SECCOMP_FILTER


def test_a_runtime_inherits_nothing(platform: Platform) -> None:
    for pid in platform.runtime_pids():
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {entry.split(b"=")[0].decode() for entry in environment if entry}
        assert "SOME_PASSWORD" not in names
        assert all(name in PASSED_ON or name.startswith("OTEL_") for name in names), names
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(descriptor)
            assert "berth.db" not in target and "control.sock" not in target and "local.key" not in target, target


def test_the_service_says_that_all_is_enforced(platform: Platform) -> None:
    for name in ("iris", "ocr"):
        enforced = condition(platform.service(name), "Enforced")
        assert enforced["status"] == "True", enforced


def test_a_limit_that_cannot_be_enforced_is_a_condition_or_is_enforced(platform: Platform) -> None:
    resources = {"limits": {"cpu": "1", "memory": "512Mi"}}
    model = {
        "modelFormat": {"name": "onnx"},
        "storageUri": f"file://{cases.made('iris.onnx')()}",
        "resources": resources,
    }
    platform.create("limited", cases.made("iris.onnx")(), model=model)
    platform.wait_ready("limited")
    enforced = condition(platform.service("limited"), "Enforced")
    assert (
        enforced["status"] == "True" or "cpu" in enforced["message"].lower() or "memory" in enforced["message"].lower()
    )
    platform.api("DELETE", "/inferenceservices/limited")


def test_what_the_sandbox_forbids_works_without_it(platform: Platform) -> None:
    """`berth doctor` tries each forbidden act twice, without the sandbox and inside it, and says what happened."""
    done = platform.berth("doctor", "-o", "json", check=False)
    report = json.loads(done.stdout)
    probes = {probe["name"]: probe for probe in report["sandbox"]["probes"]}
    for act in ("read", "network", "write"):
        named = [probe for name, probe in probes.items() if act in name]
        assert named, f"no probe for `{act}` in {list(probes)}"
        for probe in named:
            assert probe["outside"] == "allowed", probe
            assert probe["inside"] == "denied", probe
    assert done.returncode == 0
