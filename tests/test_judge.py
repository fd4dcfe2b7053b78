"""Rollouts that judge themselves, under load: a good version is promoted, a harmful one is rolled back, and nobody else notices."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import procs
from harness.platform import ApiError, Platform, condition, manifest
from models.judged import classifier

THREADS = 4
SECONDS = 150


def rollout(min_requests: int, tolerance: float = 20, percents: tuple[int, ...] = (20, 50)) -> dict:
    """Steps for a machine that does much else: latency counts only where a test is about it."""
    steps = [{"percent": percent, "minSeconds": 2} for percent in percents]
    analysis = {"minRequests": min_requests, "latencyTolerance": tolerance, "falseRollbackRate": 0.01}
    return {"steps": steps, "analysis": analysis}


class Load:
    """Threads that ask with inputs drawn from a seed, and count what comes back by version."""

    def __init__(self, platform: Platform, service: str) -> None:
        self.platform, self.service = platform, service
        self.headers = platform.headers
        self.stopping = threading.Event()
        self.codes: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, args=(seed,), daemon=True) for seed in range(THREADS)]

    def ask(self, seed: int) -> None:
        drawn = random.Random(seed)
        connection = http.client.HTTPConnection(self.platform.address, timeout=60)
        while not self.stopping.is_set():
            # Skewed, so that another version's answers fall elsewhere.
            row = [drawn.random() * 2, drawn.random(), drawn.random(), drawn.random()]
            body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]})
            connection.request("POST", f"/v2/models/{self.service}/infer", body, self.headers)
            answer = connection.getresponse()
            text = answer.read()
            with self.lock:
                self.codes[answer.status] += 1
                self.versions[json.loads(text).get("model_version", "")] += 1
        connection.close()


@contextmanager
def load(platform: Platform, service: str) -> Iterator[Load]:
    asking = Load(platform, service)
    for thread in asking.threads:
        thread.start()
    try:
        yield asking
    finally:
        asking.stopping.set()
        for thread in asking.threads:
            thread.join(60)


def create(platform: Platform, name: str, model: Path, steps: dict) -> None:
    wanted = manifest(name, model)
    wanted["spec"]["rollout"] = steps
    platform.api("POST", "/inferenceservices", wanted)
    platform.wait_ready_at_first(name)


def put(platform: Platform, name: str, model: Path, **predictor: int) -> None:
    changed = platform.service(name)
    changed["spec"]["predictor"]["model"]["storageUri"] = f"file://{model.absolute()}"
    changed["spec"]["predictor"] |= predictor
    del changed["metadata"]["resourceVersion"]
    platform.api("PUT", f"/inferenceservices/{name}", changed)


def ended(platform: Platform, name: str, revision: int) -> dict | None:
    """The rollout's status once it has ended for this revision."""
    found = platform.service(name)["status"].get("rollout") or {}
    over = found.get("phase") in ("Promoted", "RolledBack", "Aborted")
    return found if over and found["revision"] == revision else None


def judged(platform: Platform, name: str, revision: int) -> tuple[dict, float]:
    begun = time.monotonic()
    found = procs.wait_until(lambda: ended(platform, name, revision), f"a verdict on revision {revision}", SECONDS)
    return found, time.monotonic() - begun


def test_a_good_version_is_promoted_and_nobody_notices(platform: Platform, tmp_path: Path) -> None:
    model = classifier(tmp_path / "good.onnx")
    create(platform, "good", model, rollout(100))
    with load(platform, "good") as asking:
        put(platform, "good", model, timeout=50)
        found, seconds = judged(platform, "good", 2)
        assert found["phase"] == "Promoted", found["message"]
        procs.wait_until(lambda: condition(platform.service("good"), "RolledOut")["status"] == "True", "all requests")
    print(f"\npromoted after {found['requests']} requests and {seconds:.1f} s: {found['message']}")
    assert set(asking.codes) == {200} and asking.versions["2"] >= 200
    assert found["step"] == 2 and found["stableRequests"] > 0
    assert {test["name"] for test in found["tests"]} == {"errors", "latency", "outputs"}
    reasons = [event["reason"] for event in platform.api("GET", "/events?service=good&limit=200")["items"]]
    assert [reason for reason in reasons if reason.startswith("Rollout")] == [
        "RolloutStarted", "RolloutStep", "RolloutPromoted",
    ]
    platform.api("DELETE", "/inferenceservices/good")


BAD = {
    "errors": ({"fails": True}, 20, "requests failed"),
    "latency": ({"rounds": 120}, 1.5, "the 99th percentile"),
    "outputs": ({"flipped": True}, 20, "fall elsewhere"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_harmful_version_is_rolled_back(platform: Platform, tmp_path: Path, kind: str) -> None:
    changes, tolerance, words = BAD[kind]
    good, bad = classifier(tmp_path / "good.onnx"), classifier(tmp_path / "bad.onnx", **changes)
    create(platform, kind, good, rollout(5000, tolerance))
    with load(platform, kind) as asking:
        put(platform, kind, bad)
        found, seconds = judged(platform, kind, 2)
        assert found["phase"] == "RolledBack", found["message"]
        assert words in found["message"], found["message"]
        procs.wait_until(lambda: {one["revision"] for one in platform.service(kind)["status"]["replicas"]} == {1}, "one left")
        before = asking.codes.total()
        procs.wait_until(lambda: asking.codes.total() > before + 50, "more answers")
    print(f"\n{kind}: rolled back after {found['requests']} requests and {seconds:.1f} s: {found['message']}")
    assert set(asking.codes) <= ({200, 500} if kind == "errors" else {200}), asking.codes
    status = platform.service(kind)["status"]
    assert status["traffic"] == [{"revision": 1, "percent": 100}]
    told = condition(platform.service(kind), "RolledOut")
    assert (told["status"], told["reason"]) == ("False", "RolledBack") and words in told["message"]
    assert condition(platform.service(kind), "Ready")["status"] == "True"
    assert "RolledBack" in {event["reason"] for event in platform.api("GET", f"/events?service={kind}&limit=200")["items"]}
    watched = platform.berth("rollout", "status", kind, "--watch", check=False)
    assert watched.returncode != 0 and words in watched.stdout
    platform.api("DELETE", f"/inferenceservices/{kind}")


def test_a_version_that_crashes_once_it_has_everything_is_rolled_back(platform: Platform, tmp_path: Path) -> None:
    model = classifier(tmp_path / "good.onnx")
    create(platform, "relapse", model, rollout(50, percents=(50,)))
    with load(platform, "relapse"):
        put(platform, "relapse", model, timeout=50)
        found, _ = judged(platform, "relapse", 2)
        assert found["phase"] == "Promoted", found["message"]
    killed: set[int] = set()

    def back() -> bool:
        """Each replica of the new revision dies as soon as it is ready."""
        status = platform.service("relapse")["status"]
        for one in status["replicas"]:
            if one["revision"] == 2 and one["phase"] == "Ready" and one["pid"] not in killed:
                killed.add(one["pid"])
                procs.kill(one["pid"])
        return status["rollout"]["phase"] == "RolledBack"

    procs.wait_until(back, "the new version to be rolled back", SECONDS)
    assert len(killed) == 2
    told = condition(platform.service("relapse"), "RolledOut")
    assert told["reason"] == "RolledBack" and "after it took over: 2 failures in a row" in told["message"]
    with load(platform, "relapse") as asking:
        procs.wait_until(lambda: asking.codes.total() > 50, "answers")
    assert set(asking.codes) == {200} and set(asking.versions) == {"1"}
    reasons = [event["reason"] for event in platform.api("GET", "/events?service=relapse&limit=200")["items"]]
    assert reasons.count("RolledBack") == 1
    platform.api("DELETE", "/inferenceservices/relapse")


def test_a_person_steers_and_the_state_outlives_the_controller(platform: Platform, tmp_path: Path) -> None:
    model = classifier(tmp_path / "good.onnx")
    create(platform, "steered", model, rollout(50, percents=(30,)))
    with load(platform, "steered") as asking:
        put(platform, "steered", model, timeout=50)
        platform.berth("rollout", "pause", "steered")

        def paused() -> dict | None:
            found = platform.service("steered")["status"].get("rollout") or {}
            return found if found.get("phase") == "Paused" and found["stepRequests"] >= 60 else None

        before = procs.wait_until(paused, "a paused rollout with more requests than it needs", SECONDS)
        procs.kill(platform.pid_of("controller"))
        platform.wait_up()

        def more() -> dict | None:
            found = platform.service("steered")["status"].get("rollout") or {}
            return found if found.get("stepRequests", 0) > before["stepRequests"] else None

        after = procs.wait_until(more, "the count to go on from where it was", SECONDS)
        assert (after["phase"], after["step"]) == ("Paused", before["step"])
        report = json.loads(platform.berth("rollout", "status", "steered", "-o", "json").stdout)
        assert report["rollout"]["phase"] == "Paused" and report["rolledOut"]["reason"] == "Paused"
        told = platform.berth("rollout", "status", "steered").stdout
        assert "30 %" in told and "EVIDENCE" in told and "berth rollout resume" in told
        platform.berth("rollout", "abort", "steered")
        found, _ = judged(platform, "steered", 2)
        assert found["phase"] == "Aborted"
        platform.berth("rollout", "promote", "steered")
        watched = platform.berth("rollout", "status", "steered", "--watch", "-o", "json").stdout
        assert json.loads(watched.splitlines()[-1])["rolledOut"]["status"] == "True"
    assert set(asking.codes) == {200}, asking.codes
    assert platform.service("steered")["status"]["latestCreatedRevision"] == 2, "wishes are no revisions"
    platform.api("DELETE", "/inferenceservices/steered")


def test_shares_are_set_by_hand_or_by_steps(platform: Platform, tmp_path: Path) -> None:
    model = classifier(tmp_path / "good.onnx")
    wanted = manifest("both", model, canaryTrafficPercent=10)
    wanted["spec"]["rollout"] = rollout(50)
    with pytest.raises(ApiError, match="remove one of the two"):
        platform.api("POST", "/inferenceservices", wanted)
    platform.deploy("byhand", model)
    with pytest.raises(ApiError, match="no `spec.rollout`"):
        platform.api("PUT", "/inferenceservices/byhand/rollout", {"wish": "pause"})
    platform.api("DELETE", "/inferenceservices/byhand")
