"""Triton's gRPC client and bare stubs against the gateway: raw and typed contents, health, reflection, errors."""

import queue

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from harness import cases
from harness.clients import grpc_client, grpc_inputs, grpc_outputs
from harness.example import golden_case
from harness.platform import Platform

# Datatype → field of InferTensorContents. FP16 and BF16 have none.
CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@pytest.fixture(scope="module")
def client(serving: Platform):
    with grpc_client(serving) as client:
        yield client


@pytest.fixture(scope="module")
def channel(serving: Platform):
    with grpc.insecure_channel(serving.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def metadata(serving: Platform):
    return tuple(serving.headers.items())


@pytest.mark.parametrize("case", cases.REAL, ids=str)
def test_answers_are_onnxruntimes(client, case: cases.Case) -> None:
    expected = case.expected()
    result = client.infer(case.service, grpc_inputs(case.inputs()), outputs=grpc_outputs(list(expected)))
    cases.check({name: result.as_numpy(name) for name in expected}, expected)


def test_the_example_gives_its_golden_answer(client, example) -> None:
    inputs, golden = golden_case(example)
    result = client.infer("breast-cancer", grpc_inputs(inputs))
    cases.check({name: result.as_numpy(name) for name in golden}, golden)


@pytest.mark.parametrize("datatype", cases.VALUES)
def test_every_datatype_comes_back_unchanged(client, datatype: str) -> None:
    value = cases.VALUES[datatype]
    result = client.infer(f"identity-{datatype.lower()}", grpc_inputs({"INPUT0": value}, datatype))
    assert result.get_output("OUTPUT0").datatype == datatype
    cases.check({"OUTPUT0": result.as_numpy("OUTPUT0")}, {"OUTPUT0": value})


@pytest.mark.parametrize("datatype", CONTENTS)
def test_every_datatype_as_typed_contents(stub, metadata, datatype: str) -> None:
    value = cases.VALUES[datatype]
    elements = [text.encode() for text in value.ravel()] if datatype == "BYTES" else value.ravel().tolist()
    request = infer_request(f"identity-{datatype.lower()}", "INPUT0", datatype, value.shape)
    getattr(request.inputs[0].contents, CONTENTS[datatype]).extend(elements)
    answer = stub.ModelInfer(request, metadata=metadata)
    (output,) = answer.outputs
    assert output.datatype == datatype and list(output.shape) == list(value.shape)
    if answer.raw_output_contents:
        (raw,) = answer.raw_output_contents
        sent = b"".join(len(e).to_bytes(4, "little") + e for e in elements) if datatype == "BYTES" else value.tobytes()
        assert raw == sent
    else:
        assert list(getattr(output.contents, CONTENTS[datatype])) == pytest.approx(elements)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_must_be_raw(stub, metadata, datatype: str) -> None:
    request = infer_request(f"identity-{datatype.lower()}", "INPUT0", datatype, [1, 1])
    request.inputs[0].contents.fp32_contents.append(1.0)
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(request, metadata=metadata)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "raw" in refused.value.details()


def test_not_a_number_and_infinity(client) -> None:
    value = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    result = client.infer("identity-fp32", grpc_inputs({"INPUT0": value}))
    assert result.as_numpy("OUTPUT0").tobytes() == value.tobytes()


def test_simple(client) -> None:
    a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.full((1, 16), -1, np.int32)
    result = client.infer("simple", grpc_inputs({"INPUT0": a, "INPUT1": b}))
    cases.check({n: result.as_numpy(n) for n in ("OUTPUT0", "OUTPUT1")}, {"OUTPUT0": a + b, "OUTPUT1": a - b})


def test_simple_string(client) -> None:
    a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.full((1, 16), 1, np.int32)
    arrays = {"INPUT0": a.astype(str).astype(np.object_), "INPUT1": b.astype(str).astype(np.object_)}
    result = client.infer("simple-string", grpc_inputs(arrays))
    for name, expected in (("OUTPUT0", a + b), ("OUTPUT1", a - b)):
        assert cases.texts(result.as_numpy(name)) == cases.texts(expected.astype(str))


def test_inputs_and_outputs_of_several_types_in_the_order_asked(client) -> None:
    numbers, tags = np.array([[1, 2, 3], [4, 5, 6]]), np.array(["a", "ß", ""], np.object_)
    inputs = grpc_inputs({"numbers": numbers, "tags": tags})
    result = client.infer("mixed", inputs, outputs=grpc_outputs(["marked", "halves"]))
    assert [output.name for output in result.get_response().outputs] == ["marked", "halves"]
    expected = {"halves": numbers / 2, "marked": np.array(["a!", "ß!", "!"], np.object_)}
    cases.check({name: result.as_numpy(name) for name in expected}, expected)


def test_a_tensor_without_dimensions(client) -> None:
    result = client.infer("scalar", grpc_inputs({"x": np.array(1.5, np.float32)}))
    assert result.as_numpy("y").shape == () and result.as_numpy("y") == 3.0


def test_the_id_comes_back(client) -> None:
    inputs = grpc_inputs(cases.irises(0))
    result = client.infer("iris", inputs, request_id="id-7 ü", parameters={"note": "hello", "count": 3, "sure": True})
    assert result.get_response().id == "id-7 ü"
    assert result.get_response().model_version == "1"


def test_many_at_once(client) -> None:
    answers: queue.Queue = queue.Queue()
    for row in range(32):
        inputs = grpc_inputs(cases.irises(row))
        client.async_infer("iris", inputs, lambda result, error: answers.put((result, error)), request_id=str(row))
    seen = set()
    for _ in range(32):
        result, error = answers.get(timeout=60)
        assert error is None, error
        assert result.as_numpy("label").shape == (1,)
        seen.add(result.get_response().id)
    assert seen == {str(row) for row in range(32)}


def test_health_and_metadata(client) -> None:
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert server.name == "berth" and server.version
    for version in ("", "1"):
        assert client.is_model_ready("iris", version)
        model = client.get_model_metadata("iris", version)
        assert model.name == "iris" and list(model.versions) == ["1"] and model.platform == "onnx_onnxv1"
        (tensor,) = model.inputs
        assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("input", "FP32", [-1, 4])


def test_a_model_that_is_not_there_is_not_ready(stub, metadata) -> None:
    for name, version in (("nobody", ""), ("iris", "7")):
        try:
            assert not stub.ModelReady(
                service_pb2.ModelReadyRequest(name=name, version=version), metadata=metadata
            ).ready
        except grpc.RpcError as refused:
            assert refused.code() == grpc.StatusCode.NOT_FOUND


def test_grpc_health_checking(channel, metadata) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(), metadata=metadata)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    named = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
    assert health.Check(named, metadata=metadata).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        health.Check(health_pb2.HealthCheckRequest(service="nothing"), metadata=metadata)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_service(serving: Platform, metadata) -> None:
    channel = grpc.intercept_channel(grpc.insecure_channel(serving.address), AddMetadata(metadata))
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "inference.GRPCInferenceService" in database.get_services()
    service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
    assert {"ServerLive", "ModelInfer", "ModelMetadata"} <= {method.name for method in service.methods}
    fields = {f.name: f.number for f in service.FindMethodByName("ModelInfer").input_type.fields}
    assert fields["raw_input_contents"] == 7
    channel.close()


class AddMetadata(grpc.StreamStreamClientInterceptor):
    """Gives a channel that has no place for metadata a key."""

    def __init__(self, metadata) -> None:
        self.metadata = metadata

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(details._replace(metadata=self.metadata), requests)


WRONG = {
    "unknown model": ("nobody", cases.irises(0), "NOT_FOUND", "nobody"),
    "wrong name of the input": ("iris", {"inputs": cases.irises(0)["input"]}, "INVALID_ARGUMENT", "inputs"),
    "wrong datatype": ("iris", {"input": cases.irises(0)["input"].astype(np.float64)}, "INVALID_ARGUMENT", "FP64"),
    "wrong rank": ("iris", {"input": np.zeros(4, np.float32)}, "INVALID_ARGUMENT", "input"),
    "wrong size": ("iris", {"input": np.zeros((1, 5), np.float32)}, "INVALID_ARGUMENT", "input"),
    "too few inputs": ("mixed", {"tags": np.array(["x"], np.object_)}, "INVALID_ARGUMENT", "numbers"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_request_gets_a_clear_answer(client, mistake: str) -> None:
    service, arrays, status, named = WRONG[mistake]
    with pytest.raises(InferenceServerException) as refused:
        client.infer(service, grpc_inputs(arrays))
    assert status in refused.value.status() and named in refused.value.message()


def test_an_unknown_output_and_version(client) -> None:
    with pytest.raises(InferenceServerException, match="nothing"):
        client.infer("iris", grpc_inputs(cases.irises(0)), outputs=grpc_outputs(["nothing"]))
    with pytest.raises(InferenceServerException) as refused:
        client.infer("iris", grpc_inputs(cases.irises(0)), model_version="7")
    assert "NOT_FOUND" in refused.value.status()


def test_raw_and_typed_contents_do_not_mix(stub, metadata) -> None:
    request = infer_request("iris", "input", "FP32", [1, 4])
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    request.raw_input_contents.append(np.zeros(4, np.float32).tobytes())
    expect_invalid(stub, metadata, request)


def test_contents_of_the_wrong_number(stub, metadata) -> None:
    typed = infer_request("iris", "input", "FP32", [1, 4])
    typed.inputs[0].contents.fp32_contents.extend([1, 2, 3])
    raw = infer_request("iris", "input", "FP32", [1, 4])
    raw.raw_input_contents.append(bytes(15))
    blobs = infer_request("iris", "input", "FP32", [1, 4])
    blobs.raw_input_contents.extend([bytes(16), bytes(16)])
    negative = infer_request("iris", "input", "FP32", [-1, 4])
    negative.raw_input_contents.append(bytes(16))
    for request in (typed, raw, blobs, negative):
        expect_invalid(stub, metadata, request)


def test_numbers_out_of_range_are_refused(stub, metadata) -> None:
    request = infer_request("identity-int8", "INPUT0", "INT8", [1, 1])
    request.inputs[0].contents.int_contents.append(300)
    expect_invalid(stub, metadata, request)


def test_a_deadline_that_passes(stub, metadata) -> None:
    request = infer_request("busy", "rounds", "INT64", [1])
    request.inputs[0].contents.int64_contents.append(30_000)
    with pytest.raises(grpc.RpcError) as late:
        stub.ModelInfer(request, metadata=metadata, timeout=0.05)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_method_that_is_not_served(stub, metadata) -> None:
    with pytest.raises(grpc.RpcError) as unknown:
        stub.TraceSetting(service_pb2.TraceSettingRequest(), metadata=metadata)
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_index_and_nothing_loaded(client) -> None:
    states = {entry.name: entry.state for entry in client.get_model_repository_index().models}
    assert states["iris"] == "READY"
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="berth deploy") as refused:
            change("iris")
        assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


def test_statistics(client) -> None:
    (before,) = client.get_inference_statistics("iris").model_stats
    client.infer("iris", grpc_inputs(cases.irises(0, 1)))
    (after,) = client.get_inference_statistics("iris", "1").model_stats
    assert (after.name, after.version) == ("iris", "1")
    assert after.inference_count - before.inference_count == 2
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns


def infer_request(model: str, name: str, datatype: str, shape) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype=datatype, shape=list(shape))
    return request


def expect_invalid(stub, metadata, request) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(request, metadata=metadata)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, refused.value
    assert refused.value.details()
