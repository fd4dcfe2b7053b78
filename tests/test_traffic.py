"""Two revisions that share the traffic: canaries, clients that stay, revisions asked by their number, promotion and the way back."""

import json
from collections import Counter

import requests

from harness import cases, procs
from harness.load import ROW, Load
from harness.platform import Platform

SHARED_OUT = 400
# A fair draw of 20 % of 400 is 80 with a standard deviation of 8; six of them on either side.
AT_20_PERCENT = range(32, 129)


def test_a_canary_from_its_first_request_to_the_last_of_the_old_one(platform: Platform) -> None:
    platform.deploy("iris", cases.made("iris.onnx")())
    with Load(platform, "iris") as load:
        put(platform, "iris", timeout=50, canaryTrafficPercent=20)
        service = platform.wait_ready("iris")
        load.wait_for_more(5)
        assert service["status"]["traffic"] == [{"revision": 2, "percent": 20}, {"revision": 1, "percent": 80}]
        assert service["status"]["latestRolledoutRevision"] == 1
        versions = Counter(ask(platform, "iris")["model_version"] for _ in range(SHARED_OUT))
        assert versions["2"] in AT_20_PERCENT and versions.total() == SHARED_OUT
        # The canary's replica is killed: the other revision answers meanwhile.
        procs.kill(pid_of(platform, "iris", 2))
        load.wait_for_more(20)
        platform.berth("rollout", "promote", "iris")
        rolled_out(platform, "iris", 2)
        load.wait_for_more(5)
        # And back, although the old one's replicas have gone.
        platform.berth("rollout", "abort", "iris")
        shares = [{"revision": 2, "percent": 0}, {"revision": 1, "percent": 100}]
        procs.wait_until(lambda: platform.service("iris")["status"]["traffic"] == shares, "the old revision to be back")
        load.wait_for_more(5)
        assert {ask(platform, "iris")["model_version"] for _ in range(20)} == {"1"}
    assert not load.failures
    status = platform.service("iris")["status"]
    assert status["latestCreatedRevision"] == 2, "shares are no revisions"
    reasons = {event["reason"] for event in platform.api("GET", "/events?service=iris&limit=200")["items"]}
    assert {"RevisionRolledOut", "TrafficShifted"} <= reasons
    platform.api("DELETE", "/inferenceservices/iris")


def test_a_client_keeps_its_revision(platform: Platform) -> None:
    platform.deploy("sticky", cases.made("iris.onnx")())
    put(platform, "sticky", traffic={"sticky": {"cookie": "session"}}, timeout=50, canaryTrafficPercent=30)
    platform.wait_ready("sticky")

    def versions() -> list[str]:
        cookies = [{"cookie": f"a=b; session=s-{number}"} for number in range(60)]
        return [ask(platform, "sticky", headers=cookie)["model_version"] for cookie in cookies]

    first = versions()
    assert set(first) == {"1", "2"} and versions() == first
    put(platform, "sticky", canaryTrafficPercent=70)
    share = {"revision": 2, "percent": 70}
    procs.wait_until(lambda: platform.service("sticky")["status"]["traffic"][0] == share, "the larger share")
    platform.wait_routed()
    later = versions()
    assert later != first and all(after == "2" for before, after in zip(first, later, strict=True) if before == "2")
    assert platform.service("sticky")["status"]["latestCreatedRevision"] == 2
    platform.api("DELETE", "/inferenceservices/sticky")


def test_a_revision_without_traffic_is_asked_by_its_number(platform: Platform) -> None:
    platform.berth("deploy", "hidden", cases.made("iris.onnx")())
    platform.berth("deploy", "hidden", cases.made("iris.onnx")(), "--timeout", "50", "--canary", "0")
    keys = {name: platform.new_key(name, [f"{name}:hidden"]) for name in ("infer", "preview")}

    def code(key: str, revision: int) -> int:
        return post(platform, f"hidden/versions/{revision}", {"authorization": f"Bearer {keys[key]}"}).status_code

    assert {key: (code(key, 1), code(key, 2)) for key in keys} == {"infer": (200, 403), "preview": (403, 200)}
    assert ask(platform, "hidden")["model_version"] == "1"
    told = platform.berth("rollout", "status", "hidden").stdout
    assert "gives revision 2 0 % of the requests" in told and "100 %" in told
    report = json.loads(platform.berth("rollout", "status", "hidden", "-o", "json").stdout)
    assert report["traffic"] == [{"revision": 2, "percent": 0}, {"revision": 1, "percent": 100}]
    assert report["rolledOut"]["reason"] == "Canary"
    assert "2=0%,1=100%" in platform.berth("get", "hidden").stdout
    assert "0 % to revision 2, 100 % to revision 1" in platform.berth("describe", "hidden").stdout
    platform.api("DELETE", "/inferenceservices/hidden")


def put(platform: Platform, name: str, traffic: dict | None = None, **predictor) -> None:
    """Changes a service; the status may change it at any moment."""
    changed = platform.service(name)
    changed["spec"]["predictor"] |= predictor
    changed["spec"] |= {"traffic": traffic} if traffic else {}
    del changed["metadata"]["resourceVersion"]
    platform.api("PUT", f"/inferenceservices/{name}", changed)


def post(platform: Platform, path: str, headers: dict) -> requests.Response:
    tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}
    return requests.post(f"{platform.url}/v2/models/{path}/infer", json={"inputs": [tensor]}, headers=headers, timeout=60)


def ask(platform: Platform, path: str, headers: dict | None = None) -> dict:
    answer = post(platform, path, platform.headers | (headers or {}))
    assert answer.status_code == 200, answer.text
    return answer.json()


def pid_of(platform: Platform, name: str, revision: int) -> int:
    replicas = platform.service(name)["status"]["replicas"]
    return next(replica["pid"] for replica in replicas if replica["revision"] == revision and replica["phase"] == "Ready")


def rolled_out(platform: Platform, name: str, revision: int) -> None:
    """Waits until a revision has everything and the others have gone."""

    def alone() -> bool:
        status = platform.service(name)["status"]
        revisions = {replica["revision"] for replica in status["replicas"]}
        return status["traffic"] == [{"revision": revision, "percent": 100}] and revisions == {revision}

    procs.wait_until(alone, f"`{name}` to have rolled out revision {revision}")
