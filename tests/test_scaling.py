"""The number of replicas follows the load: up, down, to none, and back by a request that waits."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests

from harness import cases, procs
from harness.load import Load
from harness.platform import Platform, condition, manifest

# Requests that come at once while there is no replica.
AT_ONCE = 30


def scaled(platform: Platform, name: str, **predictor: Any) -> None:
    """Deploys a service that is quick to let replicas go."""
    wanted = manifest(name, cases.made("iris.onnx")(), **predictor)
    wanted["metadata"]["annotations"] = {
        "autoscaling.knative.dev/window": "6s",
        "autoscaling.knative.dev/scale-down-delay": "0s",
    }
    platform.api("POST", "/inferenceservices", wanted)
    platform.wait_ready(name)


def has(platform: Platform, name: str, count: int) -> bool:
    """Whether so many replicas are wanted and there, and no others."""
    status = platform.service(name)["status"]
    return (status["scale"]["desired"], status["scale"]["ready"], len(status["replicas"])) == (count, count, count)


def infer(platform: Platform, name: str) -> requests.Response:
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
    return requests.post(f"{platform.url}/v2/models/{name}/infer", json=body, headers=platform.headers, timeout=60)


def reasons(platform: Platform, name: str) -> list[str]:
    return [event["reason"] for event in platform.api("GET", f"/events?service={name}&limit=200")["items"]]


def test_it_goes_up_under_load_and_comes_down(platform: Platform) -> None:
    scaled(platform, "loaded", minReplicas=1, maxReplicas=3, scaleMetric="rps", scaleTarget=5)
    assert has(platform, "loaded", 1)
    with Load(platform, "loaded") as load:
        procs.wait_until(partial(has, platform, "loaded", 3), "three replicas")
        load.wait_for_more(20)
    assert not load.failures
    procs.wait_until(partial(has, platform, "loaded", 1), "one replica")
    assert platform.service("loaded")["status"]["latestCreatedRevision"] == 1
    said = reasons(platform, "loaded")
    assert "ScaledUp" in said and "ScaledDown" in said
    shown = platform.berth("describe", "loaded").stdout
    assert "1 to 3 replicas; " in shown and "1 wanted, 1 ready" in shown
    assert "1/1" in platform.berth("get", "loaded").stdout
    platform.api("DELETE", "/inferenceservices/loaded")


def test_an_idle_service_has_none_and_a_request_brings_it_back(platform: Platform) -> None:
    scaled(platform, "idle", minReplicas=0, maxReplicas=2)
    for _ in range(2):
        procs.wait_until(partial(has, platform, "idle", 0), "no replica")
        said = condition(platform.service("idle"), "Ready")
        assert (said["status"], said["reason"]) == ("True", "ScaledToZero")
        # The question does not wake it, and says that it answers.
        assert requests.get(f"{platform.url}/v2/models/idle/ready", headers=platform.headers, timeout=10).ok
        assert has(platform, "idle", 0)
        answer = infer(platform, "idle")
        assert answer.status_code == 200, answer.text
    platform.api("DELETE", "/inferenceservices/idle")


def test_many_that_come_at_once_are_all_answered(platform: Platform) -> None:
    scaled(platform, "many", minReplicas=0, maxReplicas=2)
    procs.wait_until(partial(has, platform, "many", 0), "no replica")
    platform.key()  # made once, before many ask for it
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: infer(platform, "many"), range(AT_ONCE)))
    assert [answer.status_code for answer in answers] == [200] * AT_ONCE
    platform.api("DELETE", "/inferenceservices/many")


def test_a_change_of_the_numbers_makes_no_revision(platform: Platform) -> None:
    scaled(platform, "changed", minReplicas=1)
    wanted = platform.service("changed")
    del wanted["metadata"]["resourceVersion"]
    wanted["spec"]["predictor"] |= {"minReplicas": 2, "maxReplicas": 3}
    wanted["spec"]["slo"] = {"p99Ms": 100}
    platform.api("PUT", "/inferenceservices/changed", wanted)
    procs.wait_until(partial(has, platform, "changed", 2), "two replicas")
    assert platform.service("changed")["status"]["latestCreatedRevision"] == 1
    platform.api("DELETE", "/inferenceservices/changed")
