"""The V1 protocol of TensorFlow Serving and KServe against the gateway: rows, columns, real models, errors."""

import numpy as np
import pytest
import requests

from harness import cases
from harness.platform import Platform

FLOWERS = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]


def predict(platform: Platform, model: str, body: object, version: str = "") -> requests.Response:
    path = f"/v1/models/{model}{f'/versions/{version}' if version else ''}:predict"
    return requests.post(platform.url + path, json=body, headers=platform.headers, timeout=30)


def expected_irises() -> tuple[list[int], np.ndarray]:
    engine = cases.loaded(cases.made("iris.onnx")())
    label, probabilities = engine.run(["label", "probabilities"], {"input": np.array(FLOWERS, np.float32)})
    return label.tolist(), probabilities


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("named", [False, True])
def test_rows(serving: Platform, named: bool, version: str) -> None:
    instances = [{"input": flower} for flower in FLOWERS] if named else list(FLOWERS)
    answer = predict(serving, "iris", {"signature_name": "serving_default", "instances": instances}, version)
    assert answer.status_code == 200, answer.text
    predictions, (labels, probabilities) = answer.json()["predictions"], expected_irises()
    assert [row["label"] for row in predictions] == labels
    np.testing.assert_allclose([row["probabilities"] for row in predictions], probabilities, rtol=1e-5)


@pytest.mark.parametrize("named", [False, True])
def test_columns(serving: Platform, named: bool) -> None:
    answer = predict(serving, "iris", {"inputs": {"input": FLOWERS} if named else FLOWERS})
    assert answer.status_code == 200, answer.text
    outputs, (labels, probabilities) = answer.json()["outputs"], expected_irises()
    assert outputs["label"] == labels
    np.testing.assert_allclose(outputs["probabilities"], probabilities, rtol=1e-5)


def test_one_output_has_no_name(serving: Platform) -> None:
    assert predict(serving, "identity-int64", {"instances": [[1, 2], [3, 4]]}).json() == {"predictions": [[1, 2], [3, 4]]}
    assert predict(serving, "identity-int64", {"inputs": [[1, 2]]}).json() == {"outputs": [[1, 2]]}
    assert predict(serving, "scalar", {"inputs": 1.5}).json() == {"outputs": 3.0}


def test_text(serving: Platform) -> None:
    body = {"instances": [["a", {"b64": "w58="}], ["", "\u00e9"]]}
    assert predict(serving, "identity-bytes", body).json() == {"predictions": [["a", "\u00df"], ["", "\u00e9"]]}


def test_several_inputs(serving: Platform) -> None:
    rows = [{"numbers": [1, 2, 3], "tags": "a"}, {"numbers": [4, 5, 6], "tags": "\u00df"}]
    answer = predict(serving, "mixed", {"instances": rows})
    wanted = [{"halves": [0.5, 1.0, 1.5], "marked": "a!"}, {"halves": [2.0, 2.5, 3.0], "marked": "\u00df!"}]
    assert answer.json() == {"predictions": wanted}, answer.text


def test_the_same_as_the_newer_protocol(serving: Platform) -> None:
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": FLOWERS}
    path = "/v2/models/iris/infer"
    newer = requests.post(serving.url + path, json={"inputs": [tensor]}, headers=serving.headers, timeout=30).json()
    newer = {output["name"]: output["data"] for output in newer["outputs"]}
    older = predict(serving, "iris", {"inputs": FLOWERS}).json()["outputs"]
    assert older["label"] == newer["label"]
    assert np.array(older["probabilities"]).ravel().tolist() == newer["probabilities"]


def test_lists_and_readiness(serving: Platform) -> None:
    def get(path: str) -> requests.Response:
        return requests.get(serving.url + path, headers=serving.headers, timeout=30)

    for path in ("/v1/models", "/v2/models"):
        names = get(path).json()["models"]
        assert "iris" in names and names == sorted(names)
    for path in ("/v1/models/iris", "/v1/models/iris/versions/1"):
        assert get(path).json() == {"name": "iris", "ready": True}
    assert get("/v1/models/nobody").status_code == 404 and get("/v1/models/iris/versions/7").status_code == 404


WRONG = {
    "an element": ({"instances": [[1, 2, 3, "x"]]}, "`instances[0][3]`"),
    "a ragged row": ({"instances": [[1, 2, 3, 4], [1, 2]]}, "`instances[1]`"),
    "an unknown input": ({"instances": [{"inputs": [1, 2, 3, 4]}]}, "`instances[0].inputs`"),
    "the wrong width": ({"instances": [[1, 2, 3]]}, "[-1, 4]"),
    "both forms": ({"instances": [], "inputs": []}, "`inputs`"),
    "no form": ({}, "`instances`"),
    "not an object": ([], "an object"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_request_says_where(serving: Platform, mistake: str) -> None:
    body, place = WRONG[mistake]
    answer = predict(serving, "iris", body)
    assert answer.status_code == 400 and place in answer.json()["error"], answer.text


def test_nothing_without_a_key_or_a_model(serving: Platform) -> None:
    answer = requests.post(f"{serving.url}/v1/models/iris:predict", json={"instances": []}, timeout=30)
    assert answer.status_code == 401
    assert predict(serving, "nobody", {"instances": []}).status_code == 404
    assert predict(serving, "iris", {"instances": []}, "7").status_code == 404
