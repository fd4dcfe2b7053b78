"""A new revision that is tried with copies of requests: what clients see of it (nothing), and what it is found to answer."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import requests
from harness import cases, procs
from harness.load import ROW, Load
from harness.platform import ApiError, Platform, condition, manifest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tritonclient import http as triton

COUNTED = re.compile(r'^berth_gateway_shadow_requests_total\{service="([^"]+)",revision="(\d+)",outcome="(\w+)",reason="(\w*)"\} (\d+)$', re.M)


def test_the_same_model_agrees_in_every_protocol(platform: Platform) -> None:
    platform.deploy("same", cases.made("iris.onnx")())
    platform.berth("deploy", "same", cases.made("iris.onnx")(), "--timeout", "50", "--shadow", "100")
    service = shadowed(platform, "same", 2)
    assert service["status"]["traffic"] == [{"revision": 2, "percent": 0}, {"revision": 1, "percent": 100}]
    assert "is mirrored 100 % of the requests" in condition(service, "Ready")["message"]
    assert "100 % mirrored to the newest revision" in platform.berth("describe", "same").stdout
    assert "`shadow` mirrors 100 % of the requests to revision 2" in platform.berth("rollout", "status", "same").stdout
    asked = 0
    for path, body in (("v2/models/same/infer", v2(ROW)), ("v1/models/same:predict", {"instances": [ROW, ROW]})):
        for _ in range(10):
            answer = requests.post(f"{platform.url}/{path}", json=body, headers=platform.headers, timeout=60)
            assert answer.status_code == 200, answer.text
            asked += 1
    client = triton.InferenceServerClient(platform.address)
    tensor = triton.InferInput("input", [3, 4], "FP32")
    tensor.set_data_from_numpy(cases.irises(0, 70, 140)["input"], binary_data=True)
    for _ in range(5):
        answer = client.infer("same", [tensor], headers=platform.headers)
        assert answer.get_response()["model_version"] == "1"
        asked += 1
    # What is refused is refused by both.
    refused = requests.post(f"{platform.url}/v2/models/same/infer", json={"inputs": []}, headers=platform.headers, timeout=60)
    assert refused.status_code == 400
    asked += 1
    procs.wait_until(lambda: sum(counted(platform, "same").values()) == asked, "every copy to be compared")
    assert counted(platform, "same") == {("agreed", ""): asked}
    told = f"100 % mirrored to the newest revision; {asked} of {asked} answers agree"
    assert told in platform.berth("describe", "same").stdout and told in platform.berth("rollout", "status", "same").stdout
    report = json.loads(platform.berth("rollout", "status", "same", "-o", "json").stdout)
    assert (report["shadow"], report["agreement"]["agreed"]) == ({"percent": 100}, asked)
    with Load(platform, "same") as load:
        load.wait_for_more(20)
    assert not load.failures
    outcomes = {outcome for outcome, _ in counted(platform, "same")}
    assert "agreed" in outcomes and outcomes <= {"agreed", "dropped"}
    # The whole share of a change alone makes no revision.
    service = platform.service("same")
    service["spec"]["shadow"]["percent"] = 50
    del service["metadata"]["resourceVersion"]
    platform.api("PUT", "/inferenceservices/same", service)
    assert platform.service("same")["status"]["latestCreatedRevision"] == 2
    platform.api("DELETE", "/inferenceservices/same")


def test_a_model_that_has_moved_differs_until_it_is_promoted(platform: Platform, tmp_path: Path) -> None:
    platform.deploy("moved", cases.made("iris.onnx")())
    platform.berth("deploy", "moved", moved(tmp_path / "moved.onnx"), "--shadow", "100")
    shadowed(platform, "moved", 2)
    with Load(platform, "moved") as load:
        load.wait_for_more(5)
        # It dies under load, and nobody but the metrics notices.
        replicas = platform.service("moved")["status"]["replicas"]
        procs.kill(next(replica["pid"] for replica in replicas if replica["revision"] == 2))
        load.wait_for_more(20)
        shadowed(platform, "moved", 2)
    assert not load.failures
    found = counted(platform, "moved")
    assert found[("differed", "class")] > 0 and ("agreed", "") not in found
    assert re.search(r"; 0 of \d+ answers agree, \d+ differ \(\d+ class\)", platform.berth("rollout", "status", "moved").stdout)
    for _ in range(5):
        assert ask(platform, "moved")["model_version"] == "1"
    procs.wait_until(lambda: distances(platform, "moved") > 0, "distances of scores")
    platform.berth("rollout", "promote", "moved")
    procs.wait_until(lambda: ask(platform, "moved")["model_version"] == "2", "the new revision to take over")
    assert "shadow" not in platform.service("moved")["spec"]
    procs.wait_until(lambda: not counted(platform, "moved"), "the shadow's metrics to go")
    platform.api("DELETE", "/inferenceservices/moved")


def test_the_first_revision_answers_and_a_canary_beside_it_is_refused(platform: Platform) -> None:
    first = manifest("first", cases.made("iris.onnx")())
    first["spec"]["shadow"] = {"percent": 20}
    platform.api("POST", "/inferenceservices", first)
    service = platform.wait_ready("first")
    assert ask(platform, "first")["model_version"] == "1"
    assert condition(service, "RolledOut")["reason"] == "AllTraffic"
    told = "revision 1 answers all requests and `shadow` mirrors none: there is no earlier one to answer them"
    procs.wait_until(lambda: told in platform.service("first")["status"]["plan"], "the plan to say so")
    first["spec"]["predictor"]["canaryTrafficPercent"] = 10
    with pytest.raises(ApiError) as refused:
        platform.api("PUT", "/inferenceservices/first", first)
    assert "spec.shadow: a revision that is shadowed answers no clients" in str(refused.value)
    platform.api("DELETE", "/inferenceservices/first")


def moved(path: Path) -> Path:
    """The shape of the iris model, with every class named by another number."""
    features, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(features, (labels + 1) % 3)
    signature = [("input", FloatTensorType([None, 4]))]
    made = to_onnx(model, initial_types=signature, options={"zipmap": False}, target_opset={"": 21, "ai.onnx.ml": 3})
    path.write_bytes(made.SerializeToString())
    assert model.predict(np.array([ROW])) == [1], "the row is of class 0"
    return path


def shadowed(platform: Platform, name: str, revision: int) -> dict:
    """Waits until the gateway mirrors to a revision."""

    def mirrors() -> dict | None:
        service = platform.service(name)
        ready = condition(service, "Ready")["message"].startswith(f"revision {revision} is mirrored")
        return service if ready and condition(service, "RolledOut")["reason"] == "Shadow" else None

    service = procs.wait_until(mirrors, f"revision {revision} of `{name}` to be a shadow")
    platform.wait_routed()
    return service


def metrics(platform: Platform) -> str:
    return requests.get(f"{platform.url}/metrics", headers=platform.headers, timeout=60).text


def counted(platform: Platform, name: str) -> dict[tuple[str, str], int]:
    """Copies by outcome and reason."""
    return {(outcome, reason): int(count) for service, _, outcome, reason, count in COUNTED.findall(metrics(platform)) if service == name}


def distances(platform: Platform, name: str) -> float:
    found = re.search(rf'^berth_gateway_shadow_score_distance_sum\{{service="{name}",revision="2"\}} (\S+)$', metrics(platform), re.M)
    return float(found.group(1)) if found else 0.0


def v2(row: list[float]) -> dict:
    return {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": row}]}


def ask(platform: Platform, name: str) -> dict:
    answer = requests.post(f"{platform.url}/v2/models/{name}/infer", json=v2(ROW), headers=platform.headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()
