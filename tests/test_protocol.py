"""The protocol through the gateway, byte by byte where no client goes: what docs/reference/protocol.md says."""

import gzip
import json
import struct
import zlib

import ml_dtypes
import numpy as np
import pytest
import requests

from harness import cases
from harness.platform import Platform

ROW = [5.1, 3.5, 1.4, 0.2]


def ask(
    serving: Platform, method: str, path: str, body: object = None, headers: dict | None = None
) -> requests.Response:
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return requests.request(
        method, serving.url + path, data=content, headers={**serving.headers, **(headers or {})}, timeout=60
    )


def infer(serving: Platform, model: str, tensor: dict, **fields: object) -> requests.Response:
    return ask(serving, "POST", f"/v2/models/{model}/infer", {"inputs": [tensor], **fields})


def iris(data: object = ROW, shape: tuple = (1, 4)) -> dict:
    return {"name": "input", "shape": shape, "datatype": "FP32", "data": data}


def test_health_has_the_right_status_and_a_body(serving: Platform) -> None:
    for path, body in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/iris/ready", {"name": "iris", "ready": True}),
        ("/v2/models/iris/versions/1/ready", {"name": "iris", "ready": True}),
    ):
        answer = ask(serving, "GET", path)
        assert answer.status_code == 200 and answer.json() == body, (path, answer.text)


def test_server_metadata_with_and_without_a_slash(serving: Platform) -> None:
    first, second = ask(serving, "GET", "/v2"), ask(serving, "GET", "/v2/")
    assert first.json() == second.json()
    assert first.json()["name"] == "berth" and "binary_tensor_data" in first.json()["extensions"]


def test_head_is_get_without_a_body(serving: Platform) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/models/iris", "/v2/models/iris/ready"):
        answer = ask(serving, "HEAD", path)
        assert answer.status_code == 200 and not answer.content, path


def test_errors_are_json_everywhere(serving: Platform) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2", 405),
        ("GET", "/v2/models/iris/infer", 405),
        ("DELETE", "/v2/models/iris", 405),
        ("GET", "/v2/models/iris/nothing", 404),
        ("POST", "/v2/repository/models/iris/load", 501),
        ("POST", "/v1/models/iris:explain", 404),
    ):
        answer = ask(serving, method, path, b"{}" if method == "POST" else None)
        assert answer.status_code == status and answer.json()["error"], (method, path, answer.status_code, answer.text)
        assert status != 405 or answer.headers["allow"]


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", "text/plain", ""])
def test_any_content_type_will_do(serving: Platform, kind: str) -> None:
    assert (
        ask(serving, "POST", "/v2/models/iris/infer", {"inputs": [iris()]}, {"content-type": kind}).status_code == 200
    )


def test_the_published_bool_example_is_refused(serving: Platform) -> None:
    tensor = {"name": "INPUT0", "shape": [3], "datatype": "BOOL", "data": [True]}
    assert infer(serving, "identity-bool", tensor).status_code == 400


@pytest.mark.parametrize(
    "data", [[[1, 2, 3, 4]], [1, 2, 3], [[1, 2], [3, 4, 5]], "1234", 1, None, [True, 1, 1, 1], ["1", 2, 3, 4]]
)
def test_data_that_is_not_as_the_shape_says(serving: Platform, data: object) -> None:
    shape = (2, 2) if data == [[1, 2, 3, 4]] else (1, 4)
    answer = infer(serving, "iris", iris(data, shape))
    assert answer.status_code == 400 and answer.json()["error"]


def test_without_a_version_the_answer_says_which(serving: Platform) -> None:
    answer = infer(serving, "iris", iris())
    assert answer.json()["model_name"] == "iris" and answer.json()["model_version"] == "1"
    assert ask(serving, "POST", "/v2/models/iris/versions/2/infer", {"inputs": [iris()]}).status_code == 404


def test_an_id_comes_back_only_when_one_was_sent(serving: Platform) -> None:
    assert infer(serving, "iris", iris(), id="x").json()["id"] == "x"
    assert "id" not in infer(serving, "iris", iris()).json()
    assert "id" not in infer(serving, "iris", iris(), id="").json()


@pytest.mark.parametrize(("datatype", "kind"), [("FP16", np.float16), ("BF16", ml_dtypes.bfloat16)])
def test_half_floats_are_numbers_in_json(serving: Platform, datatype: str, kind: type) -> None:
    sent = [0.1, -65504, 1e-7, 3.0]
    tensor = {"name": "INPUT0", "shape": [1, 4], "datatype": datatype, "data": sent}
    got = infer(serving, f"identity-{datatype.lower()}", tensor).json()["outputs"][0]["data"]
    assert np.array(got).astype(kind).tobytes() == np.array(sent).astype(kind).tobytes()


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_what_is_not_a_number_is_a_string_in_answers(serving: Platform, datatype: str) -> None:
    for data in ("[NaN, Infinity, -Infinity]", '["NaN", "Infinity", "-Infinity"]'):
        body = f'{{"inputs": [{{"name": "INPUT0", "shape": [1, 3], "datatype": "{datatype}", "data": {data}}}]}}'
        answer = ask(serving, "POST", f"/v2/models/identity-{datatype.lower()}/infer", body.encode())
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    ("datatype", "number"),
    [
        ("FP16", 70000),
        ("FP32", 1e39),
        ("INT8", 128),
        ("UINT8", -1),
        ("INT64", 2**63),
        ("UINT64", 2**64),
        ("INT32", 1.5),
        ("BOOL", 2),
    ],
)
def test_numbers_out_of_range_are_refused(serving: Platform, datatype: str, number: float) -> None:
    tensor = {"name": "INPUT0", "shape": [1, 1], "datatype": datatype, "data": [number]}
    answer = infer(serving, f"identity-{datatype.lower()}", tensor)
    assert answer.status_code == 400 and "data[0]" in answer.json()["error"], answer.text


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**53 + 1])
def test_long_integers_are_exact(serving: Platform, number: int) -> None:
    tensor = {"name": "INPUT0", "shape": [1, 1], "datatype": "INT64", "data": [number]}
    assert infer(serving, "identity-int64", tensor).json()["outputs"][0]["data"] == [number]


def test_keys_in_any_order_and_unknown_ones(serving: Platform) -> None:
    tensor = {"data": ROW, "datatype": "FP32", "more": 1, "shape": [1, 4], "name": "input"}
    body = {"extra": {"a": [1, {"b": None}]}, "inputs": [tensor], "model_name": "other"}
    answer = ask(serving, "POST", "/v2/models/iris/infer", body)
    assert answer.status_code == 200 and answer.json()["model_name"] == "iris"


def test_a_json_request_may_ask_for_bytes(serving: Platform) -> None:
    parameters = {"binary_data_output": True}
    outputs = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    answer = infer(serving, "iris", iris(), parameters=parameters, outputs=outputs)
    length = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.content[:length])["outputs"]
    assert described[0]["data"] == [0] and described[1]["parameters"]["binary_data_size"] == 12
    expected = cases.loaded(cases.made("iris.onnx")()).run(["probabilities"], cases.irises(0))[0]
    np.testing.assert_allclose(np.frombuffer(answer.content[length:], "<f4"), expected[0], rtol=1e-5)


def test_a_raw_request_of_bytes_is_one_element(serving: Platform) -> None:
    headers = {"inference-header-content-length": "0"}
    answer = ask(serving, "POST", "/v2/models/simple-identity/infer", "grüße".encode(), headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    size = struct.unpack("<I", answer.content[length : length + 4])[0]
    assert answer.content[length + 4 :].decode() == "grüße" and size == len("grüße".encode())


def test_a_raw_request_to_a_model_with_two_inputs(serving: Platform) -> None:
    headers = {"inference-header-content-length": "0"}
    assert ask(serving, "POST", "/v2/models/simple/infer", bytes(128), headers).status_code == 400


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_both_ways(serving: Platform, encoding: str, compress) -> None:
    tensor = {"name": "INPUT0", "shape": [1, 1000], "datatype": "FP32", "data": [0.5] * 1000}
    body = compress(json.dumps({"inputs": [tensor]}).encode())
    headers = {"content-encoding": encoding, "accept-encoding": encoding}
    answer = ask(serving, "POST", "/v2/models/identity-fp32/infer", body, headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-encoding"] == encoding
    assert answer.json()["outputs"][0]["data"] == [0.5] * 1000


def test_an_unknown_compression(serving: Platform) -> None:
    answer = ask(serving, "POST", "/v2/models/iris/infer", b"x", {"content-encoding": "br"})
    assert answer.status_code == 415 and answer.json()["error"]


def test_a_bomb_of_zeros(serving: Platform) -> None:
    body = gzip.compress(b" " * (65 * 1024 * 1024))
    assert len(body) < 100_000
    assert ask(serving, "POST", "/v2/models/iris/infer", body, {"content-encoding": "gzip"}).status_code == 413


def test_classes_by_name(serving: Platform, example) -> None:
    row = json.loads((example / "golden.json").read_text())["cases"][0]["request"]["inputs"][0]
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    answer = infer(serving, "breast-cancer", row, outputs=outputs)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert output["datatype"] == "BYTES" and len(output["data"]) == 2
    parts = [element.split(":") for element in output["data"]]
    assert float(parts[0][0]) >= float(parts[1][0])
    assert {part[2] for part in parts} == {"malignant", "benign"}


def test_every_published_path_works_with_and_without_version(serving: Platform) -> None:
    for prefix in ("/v2/models/iris", "/v2/models/iris/versions/1"):
        assert ask(serving, "GET", prefix).json()["platform"] == "onnx_onnxv1"
        assert ask(serving, "GET", f"{prefix}/ready").status_code == 200
        assert ask(serving, "POST", f"{prefix}/infer", {"inputs": [iris()]}).status_code == 200


def test_metrics_have_both_families_of_names(serving: Platform) -> None:
    assert infer(serving, "iris", iris()).status_code == 200
    text = ask(serving, "GET", "/metrics").text
    for name in (
        "berth_gateway_requests_total",
        "berth_gateway_request_duration_seconds_bucket",
        "nv_inference_request_success",
        "nv_inference_count",
    ):
        assert name in text, name
    samples = [
        line for line in text.splitlines() if line.startswith("nv_inference_request_success") and 'model="iris"' in line
    ]
    assert samples and all('replica="' in sample and float(sample.rsplit(" ", 1)[1]) >= 1 for sample in samples)
