"""Triton's HTTP client against the gateway: binary and JSON, every datatype, real models, errors."""

import json

import numpy as np
import pytest
import requests
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from harness import cases
from harness.clients import http_client, http_inputs, http_outputs
from harness.example import golden_case
from harness.platform import Platform
from models.small import session

WIRES = ("binary", "json")
# The client refuses to write these as JSON; test_protocol.py does without it.
BINARY_ONLY = ("FP16", "BF16")
COMBINATIONS = [
    (datatype, wire_in, wire_out)
    for datatype in cases.VALUES
    for wire_in in WIRES
    for wire_out in WIRES
    if datatype not in BINARY_ONLY or (wire_in, wire_out) == ("binary", "binary")
]


@pytest.fixture(scope="module")
def client(serving: Platform):
    with http_client(serving, concurrency=4) as client:
        yield client


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", cases.REAL, ids=str)
def test_answers_are_onnxruntimes(client, case: cases.Case, wire: str) -> None:
    binary = wire == "binary"
    expected = case.expected()
    result = client.infer(
        case.service, http_inputs(case.inputs(), binary), outputs=http_outputs(list(expected), binary)
    )
    cases.check({name: result.as_numpy(name) for name in expected}, expected)


@pytest.mark.parametrize("wire", WIRES)
def test_the_example_gives_its_golden_answer(client, example, wire: str) -> None:
    inputs, golden = golden_case(example)
    result = client.infer("breast-cancer", http_inputs(inputs, wire == "binary"))
    cases.check({name: result.as_numpy(name) for name in golden}, golden)
    engine = session(example / "model.onnx")
    names = [output.name for output in engine.get_outputs()]
    expected = dict(zip(names, engine.run(names, inputs), strict=True))
    cases.check({name: result.as_numpy(name) for name in expected}, expected)


@pytest.mark.parametrize(("datatype", "wire_in", "wire_out"), COMBINATIONS)
def test_every_datatype_comes_back_unchanged(client, datatype: str, wire_in: str, wire_out: str) -> None:
    value = cases.VALUES[datatype]
    inputs = http_inputs({"INPUT0": value}, wire_in == "binary", datatype)
    result = client.infer(
        f"identity-{datatype.lower()}", inputs, outputs=http_outputs(["OUTPUT0"], wire_out == "binary")
    )
    output = result.get_output("OUTPUT0")
    assert output["datatype"] == datatype
    assert ("binary_data_size" in output.get("parameters", {})) == (wire_out == "binary")
    cases.check({"OUTPUT0": result.as_numpy("OUTPUT0")}, {"OUTPUT0": value})


@pytest.mark.parametrize("datatype", cases.VALUES)
def test_a_tensor_without_elements(client, datatype: str) -> None:
    value = cases.VALUES[datatype][:, :0]
    result = client.infer(f"identity-{datatype.lower()}", http_inputs({"INPUT0": value}, True, datatype))
    assert result.get_output("OUTPUT0")["shape"] == [1, 0]


def test_not_a_number_and_infinity_in_binary(client) -> None:
    value = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    result = client.infer("identity-fp32", http_inputs({"INPUT0": value}), outputs=http_outputs(["OUTPUT0"]))
    assert result.as_numpy("OUTPUT0").tobytes() == value.tobytes()


def test_bytes_that_are_not_text_are_refused_in_words(client) -> None:
    """Strings of ONNX are UTF-8."""
    value = np.array([[bytes(range(256)), b""]], np.object_)
    with pytest.raises(InferenceServerException, match="UTF-8") as refused:
        client.infer("identity-bytes", http_inputs({"INPUT0": value}))
    assert "400" in str(refused.value.status())


@pytest.mark.parametrize("wire", WIRES)
def test_simple(client, wire: str) -> None:
    a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.full((1, 16), -1, np.int32)
    result = client.infer("simple", http_inputs({"INPUT0": a, "INPUT1": b}, wire == "binary"))
    cases.check({n: result.as_numpy(n) for n in ("OUTPUT0", "OUTPUT1")}, {"OUTPUT0": a + b, "OUTPUT1": a - b})


@pytest.mark.parametrize("wire", WIRES)
def test_simple_string(client, wire: str) -> None:
    a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.full((1, 16), 1, np.int32)
    arrays = {"INPUT0": a.astype(str).astype(np.object_), "INPUT1": b.astype(str).astype(np.object_)}
    result = client.infer("simple-string", http_inputs(arrays, wire == "binary"))
    for name, expected in (("OUTPUT0", a + b), ("OUTPUT1", a - b)):
        assert cases.texts(result.as_numpy(name)) == cases.texts(expected.astype(str))


@pytest.mark.parametrize("wire", WIRES)
def test_inputs_and_outputs_of_several_types(client, wire: str) -> None:
    numbers, tags = np.array([[1, 2, 3], [4, 5, 6]]), np.array(["a", "ß", ""], np.object_)
    result = client.infer("mixed", http_inputs({"numbers": numbers, "tags": tags}, wire == "binary"))
    expected = {"halves": numbers / 2, "marked": np.array(["a!", "ß!", "!"], np.object_)}
    cases.check({name: result.as_numpy(name) for name in expected}, expected)


def test_binary_and_json_in_one_request(client) -> None:
    numbers, tags = np.array([[1, 2, 3]]), np.array(["x"], np.object_)
    inputs = http_inputs({"numbers": numbers}, True) + http_inputs({"tags": tags}, False)
    outputs = http_outputs(["marked"], True) + http_outputs(["halves"], False)
    result = client.infer("mixed", inputs, outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["marked", "halves"]
    expected = {"halves": numbers / 2, "marked": np.array(["x!"], np.object_)}
    cases.check({name: result.as_numpy(name) for name in expected}, expected)


def test_only_the_outputs_asked_for(client) -> None:
    inputs = http_inputs(cases.irises(0))
    result = client.infer("iris", inputs, outputs=http_outputs(["label"]))
    assert [output["name"] for output in result.get_response()["outputs"]] == ["label"]


def test_a_tensor_without_dimensions(client) -> None:
    result = client.infer("scalar", http_inputs({"x": np.array(1.5, np.float32)}))
    assert result.as_numpy("y").shape == () and result.as_numpy("y") == 3.0


def test_weights_beside_the_model(client, models) -> None:
    value = np.eye(64, dtype=np.float32)[:2]
    expected = session(models / "external" / "model.onnx").run(None, {"x": value})[0]
    result = client.infer("external", http_inputs({"x": value}))
    cases.check({"y": result.as_numpy("y")}, {"y": expected})


def test_the_id_comes_back_and_parameters_are_accepted(client) -> None:
    parameters = {"note": "hello", "count": 3, "sure": True}
    result = client.infer("iris", http_inputs(cases.irises(0)), request_id="id-7 ü", parameters=parameters)
    assert result.get_response()["id"] == "id-7 ü"


def test_many_at_once(client) -> None:
    pending = [client.async_infer("iris", http_inputs(cases.irises(row))) for row in range(32)]
    expected = loaded_iris(range(32))
    for row, request in enumerate(pending):
        assert request.get_result().as_numpy("label").tolist() == [expected[row]]


def loaded_iris(rows: range) -> list[int]:
    engine = cases.loaded(cases.made("iris.onnx")())
    return engine.run(["label"], cases.irises(*rows))[0].tolist()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_and_answers(client, algorithm: str) -> None:
    compression = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    value = np.zeros((1, 2000), np.float32)
    result = client.infer("identity-fp32", http_inputs({"INPUT0": value}), **compression)
    cases.check({"OUTPUT0": result.as_numpy("OUTPUT0")}, {"OUTPUT0": value})


def test_health_and_metadata(client) -> None:
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert server["name"] == "berth" and server["version"] and "binary_tensor_data" in server["extensions"]
    for version in ("", "1"):
        assert client.is_model_ready("iris", version)
        model = client.get_model_metadata("iris", version)
        assert model["name"] == "iris" and model["versions"] == ["1"] and model["platform"] == "onnx_onnxv1"
        assert model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
        outputs = {output["name"]: output for output in model["outputs"]}
        assert outputs["probabilities"]["datatype"] == "FP32" and outputs["probabilities"]["shape"] == [-1, 3]
        assert outputs["label"]["datatype"] == "INT64"
    assert not client.is_model_ready("nobody") and not client.is_model_ready("iris", "7")


def test_the_index_and_nothing_loaded(client) -> None:
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states["iris"] == "READY"
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="berth deploy"):
            change("iris")


def test_statistics(client) -> None:
    (before,) = client.get_inference_statistics("iris")["model_stats"]
    client.infer("iris", http_inputs(cases.irises(0, 1)))
    (after,) = client.get_inference_statistics("iris", "1")["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 2
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1


def test_a_version_in_the_path(client) -> None:
    result = client.infer("iris", http_inputs(cases.irises(0)), model_version="1")
    assert result.get_response()["model_version"] == "1"


WRONG = {
    "unknown model": ("nobody", cases.irises(0), "404", "nobody"),
    "wrong name of the input": ("iris", {"inputs": cases.irises(0)["input"]}, "400", "inputs"),
    "wrong datatype": ("iris", {"input": cases.irises(0)["input"].astype(np.float64)}, "400", "FP64"),
    "wrong rank": ("iris", {"input": np.zeros(4, np.float32)}, "400", "input"),
    "wrong size": ("iris", {"input": np.zeros((1, 5), np.float32)}, "400", "input"),
    "too few inputs": ("mixed", {"tags": np.array(["x"], np.object_)}, "400", "numbers"),
    "too many inputs": ("iris", {**cases.irises(0), "more": np.zeros(1, np.int32)}, "400", "more"),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_request_gets_a_clear_answer(client, mistake: str, wire: str) -> None:
    service, arrays, status, named = WRONG[mistake]
    with pytest.raises(InferenceServerException) as refused:
        client.infer(service, http_inputs(arrays, wire == "binary"))
    assert status in str(refused.value.status())
    assert named in refused.value.message(), refused.value.message()


def test_an_unknown_output_and_version(client) -> None:
    with pytest.raises(InferenceServerException, match="nothing"):
        client.infer("iris", http_inputs(cases.irises(0)), outputs=http_outputs(["nothing"]))
    with pytest.raises(InferenceServerException) as refused:
        client.infer("iris", http_inputs(cases.irises(0)), model_version="7")
    assert "404" in str(refused.value.status())


def test_a_model_that_fails_says_so_and_lives(client) -> None:
    with pytest.raises(InferenceServerException) as failed:
        client.infer("division", http_inputs({"x": np.zeros(5, np.float32)}))
    assert failed.value.status() in ("400", "500") and failed.value.message()
    result = client.infer("division", http_inputs({"x": np.zeros(6, np.float32)}))
    assert result.as_numpy("y").shape == (2, 3)


def test_bytes_of_the_wrong_number(serving: Platform) -> None:
    tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    head = json.dumps({"inputs": [tensor]}).encode()
    for body, length in (
        (head + b"\0" * 12, len(head)),
        (head + b"\0" * 16, len(head)),
        (head, len(head) + 1),
        (head, -1),
    ):
        headers = {**serving.headers, "inference-header-content-length": str(length)}
        answer = requests.post(f"{serving.url}/v2/models/iris/infer", body, headers=headers, timeout=30)
        assert answer.status_code == 400 and answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"{}", b'{"inputs": 3}', b'{"inputs": [{}]}', b"\xff\xfe"])
def test_a_body_that_is_no_request(serving: Platform, body: bytes) -> None:
    answer = requests.post(f"{serving.url}/v2/models/iris/infer", body, headers=serving.headers, timeout=30)
    assert answer.status_code == 400 and answer.json()["error"]


def test_flat_and_nested_data_are_the_same(serving: Platform) -> None:
    answers = []
    for data in ([1, 2, 3, 4, 5, 6, 7, 8], [[1, 2, 3, 4], [5, 6, 7, 8]]):
        tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": data}
        body = {"model_name": "iris", "inputs": [tensor]}
        answer = requests.post(f"{serving.url}/v2/models/iris/infer", json=body, headers=serving.headers, timeout=30)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
    assert answers[0] == answers[1]


def test_a_raw_request_is_nothing_but_bytes(serving: Platform) -> None:
    value = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    headers = {**serving.headers, "inference-header-content-length": "0", "content-type": "application/octet-stream"}
    answer = requests.post(f"{serving.url}/v2/models/iris/infer", value.tobytes(), headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    result = httpclient.InferenceServerClient.parse_response_body(answer.content, header_length=length)
    assert result.as_numpy("label").tolist() == [0]


def test_answers_say_how_long_they_took_and_which_request_they_are_of(serving: Platform) -> None:
    tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
    headers = {**serving.headers, "x-request-id": "abc-123"}
    answer = requests.post(
        f"{serving.url}/v2/models/iris/infer", json={"inputs": [tensor]}, headers=headers, timeout=30
    )
    assert answer.headers["x-request-id"] == "abc-123"
    assert "compute;dur=" in answer.headers["server-timing"]
    assert answer.headers["content-type"].startswith("application/json")
