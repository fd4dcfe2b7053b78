"""The calls that Triton's published example clients make (`src/python/examples` of triton-inference-server/client), in our words.

Each test names the example it follows. The published files are not in a package; what they do and these do not is look for
Triton's own name and for the configuration of a model.
"""

import asyncio
import queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor, triton_to_np_dtype

from harness import clients
from harness.platform import Platform

COUNTING = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)
MINUS_ONES = -ONES
ASKED = {"test_1": 1, "test_2": 2}
RESULT_SECONDS = 60


def check(result, a: np.ndarray = COUNTING, b: np.ndarray = ONES) -> None:
    """OUTPUT0 is the sum and OUTPUT1 the difference; text is read as numbers."""
    for name, expected in (("OUTPUT0", a + b), ("OUTPUT1", a - b)):
        got = result.as_numpy(name)
        assert got.shape == expected.shape
        assert [int(one) for one in got.ravel()] == expected.ravel().tolist()


def written(array: np.ndarray) -> np.ndarray:
    """Numbers as text in bytes, which is how the examples fill a BYTES tensor."""
    return np.array([str(one).encode() for one in array.ravel()], np.object_).reshape(array.shape)


def zeros() -> list[np.ndarray]:
    """What the string clients send through the identity: text with a zero in it, and four bytes that begin with one."""
    return [np.array([one] * 16, np.object_).reshape(1, 16) for one in (b"he\x00llo", b"\x00\x01\x02\x03")]


def http_arguments(b: np.ndarray, outputs: bool) -> dict:
    """The first input and the second output as JSON, the others binary."""
    inputs = clients.http_inputs({"INPUT0": COUNTING}, binary=False) + clients.http_inputs({"INPUT1": b})
    if not outputs:
        return {"inputs": inputs, "query_params": ASKED}
    asked = [httpclient.InferRequestedOutput("OUTPUT0"), httpclient.InferRequestedOutput("OUTPUT1", binary_data=False)]
    return {"inputs": inputs, "outputs": asked, "query_params": ASKED}


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_simple_http_infer_client(serving: Platform, coding: str | None) -> None:
    codings = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    with clients.http_client(serving) as client:
        for outputs in (True, False):
            headers = {"x-of-the-example": "1"}
            check(client.infer("simple", **http_arguments(MINUS_ONES, outputs), headers=headers, **codings), b=MINUS_ONES)
        assert len(client.get_inference_statistics("simple")["model_stats"]) == 1
        with pytest.raises(InferenceServerException, match="Request for unknown model.*wrong_model_name"):
            client.infer("wrong_model_name", **http_arguments(MINUS_ONES, True))


def test_simple_http_string_infer_client(serving: Platform) -> None:
    with clients.http_client(serving) as client:
        for binary in (True, False):
            inputs = clients.http_inputs({"INPUT0": written(COUNTING), "INPUT1": written(ONES)}, binary, "BYTES")
            check(client.infer("simple-string", inputs, outputs=clients.http_outputs(["OUTPUT0", "OUTPUT1"], binary)))
        text = np.array(["abc", "déjà vu", "", "3 "], np.object_).reshape(1, 4)
        inputs = clients.http_inputs({"INPUT0": text}, datatype="BYTES")
        answer = client.infer("simple-identity", inputs, outputs=clients.http_outputs(["OUTPUT0"])).as_numpy("OUTPUT0")
        assert [one.decode() for one in answer.ravel()] == text.ravel().tolist()
        for binary in (True, False):
            for blobs in zeros():
                inputs = clients.http_inputs({"INPUT0": blobs}, binary, "BYTES")
                answer = client.infer("simple-identity", inputs, outputs=clients.http_outputs(["OUTPUT0"], binary))
                got = [one if isinstance(one, bytes) else one.encode() for one in answer.as_numpy("OUTPUT0").ravel()]
                assert got == blobs.ravel().tolist()


def test_simple_http_async_infer_client(serving: Platform) -> None:
    with clients.http_client(serving, concurrency=2) as client:
        inputs = clients.http_inputs({"INPUT0": COUNTING, "INPUT1": ONES})
        outputs = clients.http_outputs(["OUTPUT0", "OUTPUT1"])
        under_way = [client.async_infer("simple", inputs, outputs=outputs) for _ in range(2)]
        for one in under_way:
            check(one.get_result(timeout=RESULT_SECONDS))


def test_simple_http_aio_infer_client(serving: Platform) -> None:
    async def ask() -> None:
        async with httpaio.InferenceServerClient(serving.address) as client:
            client.register_plugin(clients.Bearer(serving.key()))
            for outputs in (True, False):
                check(await client.infer("simple", **http_arguments(MINUS_ONES, outputs)), b=MINUS_ONES)
            assert len((await client.get_inference_statistics("simple"))["model_stats"]) == 1
            with pytest.raises(InferenceServerException, match="Request for unknown model.*wrong_model_name"):
                await client.infer("wrong_model_name", **http_arguments(MINUS_ONES, True))
            both = [client.infer("simple", **http_arguments(MINUS_ONES, outputs)) for outputs in (True, False)]
            for result in await asyncio.gather(*both):
                check(result, b=MINUS_ONES)

    asyncio.run(asyncio.wait_for(ask(), RESULT_SECONDS))


def test_simple_http_health_metadata(serving: Platform) -> None:
    with clients.http_client(serving) as client:
        assert client.is_server_live(query_params=ASKED) and client.is_server_ready()
        assert client.is_model_ready("simple")
        assert client.get_server_metadata()["name"] == "berth"
        assert client.get_model_metadata("simple", query_params=ASKED)["name"] == "simple"
        with pytest.raises(InferenceServerException, match="Request for unknown model.*wrong_model_name"):
            client.get_model_metadata("wrong_model_name")


def numbers() -> list:
    return clients.grpc_inputs({"INPUT0": COUNTING, "INPUT1": ONES})


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_simple_grpc_infer_client(serving: Platform, coding: str | None) -> None:
    arguments = {"client_timeout": RESULT_SECONDS, "compression_algorithm": coding}
    with clients.grpc_client(serving) as client:
        outputs = clients.grpc_outputs(["OUTPUT0", "OUTPUT1"])
        check(client.infer("simple", numbers(), outputs=outputs, headers={"test": "1"}, **arguments))
        assert len(client.get_inference_statistics("simple").model_stats) == 1
        check(client.infer("simple", numbers(), outputs=None, **arguments))


def test_simple_grpc_string_infer_client(serving: Platform) -> None:
    with clients.grpc_client(serving) as client:
        texts = clients.grpc_inputs({"INPUT0": written(COUNTING), "INPUT1": written(ONES)}, "BYTES")
        check(client.infer("simple-string", texts, outputs=clients.grpc_outputs(["OUTPUT0", "OUTPUT1"])))
        for blobs in zeros():
            inputs = clients.grpc_inputs({"INPUT0": blobs}, "BYTES")
            answer = client.infer("simple-identity", inputs, outputs=clients.grpc_outputs(["OUTPUT0"]))
            assert answer.as_numpy("OUTPUT0").ravel().tolist() == blobs.ravel().tolist()


def test_simple_grpc_async_infer_client(serving: Platform) -> None:
    done: queue.Queue = queue.Queue()
    with clients.grpc_client(serving) as client:
        outputs = clients.grpc_outputs(["OUTPUT0", "OUTPUT1"])
        for _ in range(2):
            client.async_infer("simple", numbers(), lambda result, error: done.put((result, error)), outputs=outputs)
        for _ in range(2):
            result, error = done.get(timeout=RESULT_SECONDS)
            assert error is None, error
            check(result)


def test_simple_grpc_aio_infer_client(serving: Platform) -> None:
    async def ask() -> None:
        async with grpcaio.InferenceServerClient(serving.address) as client:
            client.register_plugin(clients.GrpcBearer(serving.key()))
            for outputs in (clients.grpc_outputs(["OUTPUT0", "OUTPUT1"]), None):
                check(await client.infer("simple", numbers(), outputs=outputs, client_timeout=RESULT_SECONDS))
            assert len((await client.get_inference_statistics("simple")).model_stats) == 1
            for result in await asyncio.gather(*(client.infer("simple", numbers()) for _ in range(2))):
                check(result)

    asyncio.run(asyncio.wait_for(ask(), RESULT_SECONDS))


def test_simple_grpc_health_metadata(serving: Platform) -> None:
    with clients.grpc_client(serving) as client:
        assert client.is_server_live(headers={"test": "1", "dummy": "2"}) and client.is_server_ready()
        assert client.is_model_ready("simple")
        assert client.get_server_metadata().name == "berth"
        assert client.get_model_metadata("simple", headers={"test": "1", "dummy": "2"}).name == "simple"
        with pytest.raises(InferenceServerException, match="Request for unknown model.*wrong_model_name"):
            client.get_model_metadata("wrong_model_name")


def test_simple_grpc_keepalive_client(serving: Platform) -> None:
    # More often than gRPC's servers take by default, and without calls: the connection is still good for the second.
    often = grpcclient.KeepAliveOptions(
        keepalive_time_ms=1000,
        keepalive_timeout_ms=20_000,
        keepalive_permit_without_calls=True,
        http2_max_pings_without_data=0,
    )
    with grpcclient.InferenceServerClient(serving.address, keepalive_options=often) as client:
        client.register_plugin(clients.GrpcBearer(serving.key()))
        for _ in range(2):
            check(client.infer("simple", numbers(), outputs=clients.grpc_outputs(["OUTPUT0", "OUTPUT1"])))


def test_simple_grpc_custom_args_client(serving: Platform) -> None:
    options = [("grpc.primary_user_agent", "of-the-example"), ("grpc.max_receive_message_length", 1024 * 1024)]
    with grpcclient.InferenceServerClient(serving.address, channel_args=options) as client:
        client.register_plugin(clients.GrpcBearer(serving.key()))
        check(client.infer("simple", numbers(), outputs=clients.grpc_outputs(["OUTPUT0", "OUTPUT1"])))


@pytest.mark.parametrize(
    ("model", "datatype"),
    [("simple", "INT32"), ("simple-int8", "INT8"), ("simple-string", "BYTES")],
    ids=["grpc_explicit_int_content_client", "grpc_explicit_int8_content_client", "grpc_explicit_byte_content_client"],
)
def test_explicit_contents(serving: Platform, model: str, datatype: str) -> None:
    """The answer is raw though the request is typed; typed contents are there for who asks for them."""
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, array in (("INPUT0", COUNTING), ("INPUT1", ONES)):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if datatype == "BYTES":
            tensor.contents.bytes_contents.extend(written(array).ravel())
        else:
            tensor.contents.int_contents.extend(array.ravel().tolist())
    for name in ("OUTPUT0", "OUTPUT1"):
        request.outputs.add(name=name)
    with grpc.insecure_channel(serving.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        raw = stub.ModelInfer(request, metadata=tuple(serving.headers.items()), timeout=RESULT_SECONDS)
        request.parameters["binary_data_output"].bool_param = False
        typed = stub.ModelInfer(request, metadata=tuple(serving.headers.items()), timeout=RESULT_SECONDS)
        request.raw_input_contents.append(bytes(32))
        with pytest.raises(grpc.RpcError) as mixed:
            stub.ModelInfer(request, metadata=tuple(serving.headers.items()), timeout=RESULT_SECONDS)
        request.model_version = "wrong_specification"
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request, metadata=tuple(serving.headers.items()), timeout=RESULT_SECONDS)
    words = f"contents field must not be specified when using raw_input_contents for 'INPUT0' for model '{model}'"
    assert words in mixed.value.details()
    words = "failed to get model version from specified version string 'wrong_specification'"
    assert words in refused.value.details()
    assert not typed.raw_output_contents
    for index, expected in enumerate((COUNTING + ONES, COUNTING - ONES)):
        for output in (raw.outputs[index], typed.outputs[index]):
            assert list(output.shape) == [1, 16] and output.datatype == datatype
        contents = typed.outputs[index].contents
        for elements in (elements_of(raw.raw_output_contents[index], datatype), contents.bytes_contents or contents.int_contents):
            assert [int(one) for one in elements] == expected.ravel().tolist()


def elements_of(raw: bytes, datatype: str) -> list:
    """Raw contents as the examples read them."""
    if datatype == "BYTES":
        return deserialize_bytes_tensor(raw).tolist()
    return np.frombuffer(raw, triton_to_np_dtype(datatype)).tolist()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_reuse_infer_objects_client(serving: Platform, protocol: str) -> None:
    """The same objects for several requests with other data; the example's shared memory is no part of the protocol."""
    made = clients.http_client if protocol == "http" else clients.grpc_client
    if protocol == "http":
        inputs, outputs = clients.http_inputs({"INPUT0": COUNTING, "INPUT1": ONES}), clients.http_outputs(["OUTPUT0", "OUTPUT1"])
    else:
        inputs, outputs = numbers(), clients.grpc_outputs(["OUTPUT0", "OUTPUT1"])
    with made(serving) as client:
        for factor in (1, 2, 1):
            inputs[1].set_data_from_numpy(ONES * factor)
            check(client.infer("simple", inputs, outputs=outputs), b=ONES * factor)
