"""Contracts of models: whether the documents are sound, and whether requests and answers are as they say."""

import re

import pytest
import requests

from harness import schema
from harness.platform import Platform

METHODS = {"get", "post"}


def get(platform: Platform, path: str, key: str | None = None) -> requests.Response:
    headers = {"authorization": f"Bearer {key}"} if key else platform.headers
    return requests.get(platform.url + path, headers=headers, timeout=30)


def operations(document: dict):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def check_sound(document: dict) -> None:
    """What OpenAPI 3.1 asks of the parts that these documents have."""
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] and document["info"]["version"]
    assert set(document) <= {"openapi", "info", "security", "paths", "components"}
    assert set(document["components"]) <= {"schemas", "responses", "securitySchemes"}
    for part in document["components"].values():
        assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in part)
    for need in document["security"]:
        assert set(need) <= set(document["components"]["securitySchemes"])
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for path, method, operation in operations(document):
        assert path.startswith("/") and "{" not in path and method in METHODS
        assert "200" in operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            response = schema.resolve(document, response["$ref"]) if "$ref" in response else response
            assert response["description"]
    check_references(document, document)


def check_references(document: dict, part: object) -> None:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            assert schema.resolve(document, part["$ref"]) is not None
        for member in part.values():
            check_references(document, member)
    elif isinstance(part, list):
        for member in part:
            check_references(document, member)


def fits(document: dict, content: dict, value: object) -> None:
    found = schema.wrong(document, content["application/json"]["schema"], value)
    assert found is None, found


@pytest.mark.parametrize("model", ["iris", "mixed", "scalar", "breast-cancer", "identity-bool", "identity-uint64", "simple"])
def test_a_document_is_sound_and_its_reads_are_true(serving: Platform, model: str) -> None:
    document = get(serving, f"/v2/models/{model}/openapi.json").json()
    check_sound(document)
    assert document["info"] | {"title": model, "version": "1"} == document["info"]
    for path, method, operation in operations(document):
        if method == "get":
            answer = get(serving, path)
            assert answer.status_code == 200, path
            fits(document, operation["responses"]["200"]["content"], answer.json())


def test_the_golden_case_is_the_example_and_gives_its_answer(serving: Platform) -> None:
    document = get(serving, "/v2/models/breast-cancer/openapi.json").json()
    infer = document["paths"]["/v2/models/breast-cancer/infer"]["post"]
    request, response = infer["requestBody"]["content"], infer["responses"]["200"]["content"]
    example = request["application/json"]["examples"]["golden"]["value"]
    fits(document, request, example)
    fits(document, response, response["application/json"]["examples"]["golden"]["value"])
    path = f"{serving.url}/v2/models/breast-cancer/infer"
    answer = requests.post(path, json=example, headers=serving.headers, timeout=30)
    assert answer.status_code == 200, answer.text
    fits(document, response, answer.json())


FLOWER = [5.1, 3.5, 1.4, 0.2]
TENSOR = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": FLOWER}
REQUESTS = [
    ("/v2/models/iris/infer", {"inputs": [TENSOR]}, True, ""),
    ("/v2/models/iris/infer", {"inputs": [TENSOR | {"data": [FLOWER]}], "outputs": [{"name": "label"}], "id": "7"}, True, ""),
    ("/v2/models/iris/infer", {}, False, "inputs"),
    ("/v2/models/iris/infer", {"inputs": [TENSOR | {"name": "x"}]}, False, "inputs[0]"),
    ("/v2/models/iris/infer", {"inputs": [TENSOR | {"datatype": "FP64"}]}, False, "inputs[0]"),
    ("/v2/models/iris/infer", {"inputs": [TENSOR | {"shape": [4]}]}, False, "inputs[0]"),
    ("/v2/models/iris/infer", {"inputs": [TENSOR | {"shape": [1, 5], "data": [*FLOWER, 1]}]}, False, "inputs[0]"),
    ("/v2/models/iris/infer", {"inputs": [TENSOR | {"data": [*FLOWER[:3], None]}]}, False, "inputs[0].data[3]"),
    ("/v2/models/iris/infer", {"inputs": [TENSOR], "outputs": [{"name": "nothing"}]}, False, "outputs[0]"),
    ("/v2/models/iris/infer", {"inputs": [TENSOR], "id": 7}, False, "id"),
    ("/v1/models/iris:predict", {"instances": [FLOWER, {"input": FLOWER}]}, True, ""),
    ("/v1/models/iris:predict", {"inputs": {"input": [FLOWER]}}, True, ""),
    ("/v1/models/iris:predict", {"instances": [[1, 2, 3, "x"]]}, False, "instances[0][3]"),
    ("/v1/models/iris:predict", {"instances": [{"x": FLOWER}]}, False, "instances[0].x"),
    ("/v1/models/iris:predict", {}, False, "instances"),
]


@pytest.mark.parametrize(("path", "body", "good", "place"), REQUESTS)
def test_the_document_and_the_server_agree(serving: Platform, path: str, body: dict, good: bool, place: str) -> None:
    """What the document lets through is answered as it says; what it does not is a 400 that names the place."""
    document = get(serving, "/v2/models/iris/openapi.json").json()
    operation = document["paths"][path]["post"]
    found = schema.wrong(document, operation["requestBody"]["content"]["application/json"]["schema"], body)
    assert (found is None) == good, found
    answer = requests.post(serving.url + path, json=body, headers=serving.headers, timeout=30)
    assert answer.status_code == (200 if good else 400), answer.text
    if good:
        fits(document, operation["responses"]["200"]["content"], answer.json())
    else:
        error = answer.json()["error"]
        assert f"`{place}`" in error, error
        assert "expected" in error or "it has" in error, error


def test_all_contracts_in_one(serving: Platform) -> None:
    document = get(serving, "/openapi.json").json()
    check_sound(document)
    names = get(serving, "/v2/models").json()["models"]
    assert all(f"/v2/models/{name}/infer" in document["paths"] for name in names)
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v1/models"):
        answer = get(serving, path)
        assert answer.status_code == 200
        fits(document, document["paths"][path]["get"]["responses"]["200"]["content"], answer.json())
    index = requests.post(f"{serving.url}/v2/repository/index", json={"ready": True}, headers=serving.headers, timeout=30)
    fits(document, document["paths"]["/v2/repository/index"]["post"]["responses"]["200"]["content"], index.json())
    assert {entry["name"] for entry in index.json()} == set(names)


def test_a_key_sees_its_own_contracts(serving: Platform) -> None:
    key = serving.new_key("contracts", ["metadata:iris"])
    paths = get(serving, "/openapi.json", key).json()["paths"]
    assert "/v2/models/iris/infer" in paths and "/v2/models/mixed/infer" not in paths
    assert get(serving, "/v2/models/iris/openapi.json", key).status_code == 200
    assert get(serving, "/v2/models/mixed/openapi.json", key).status_code == 403
    assert requests.get(f"{serving.url}/openapi.json", timeout=30).status_code == 401


def test_statistics_count(serving: Platform) -> None:
    def counted() -> dict:
        return get(serving, "/v2/models/scalar/stats").json()["model_stats"][0]

    before = counted()
    body = {"inputs": [{"name": "x", "shape": [], "datatype": "FP32", "data": [1.5]}]}
    for _ in range(3):
        answer = requests.post(f"{serving.url}/v2/models/scalar/infer", json=body, headers=serving.headers, timeout=30)
        assert answer.status_code == 200, answer.text
    requests.post(f"{serving.url}/v2/models/scalar/infer", data=b"{", headers=serving.headers, timeout=30)
    after = counted()
    for name, more in (("success", 3), ("fail", 1), ("queue", 3), ("compute_infer", 3)):
        assert after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] == more, name
    assert after["inference_count"] - before["inference_count"] == 3 and after["last_inference"] > before["last_inference"]
