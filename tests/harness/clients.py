"""Keys for the clients of Triton: a plug-in that every variant of them takes."""

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import np_to_triton_dtype

from harness.platform import Platform

TIMEOUT_SECONDS = 60


class Bearer(httpclient.InferenceServerClientPlugin):
    """Puts the key into the headers or metadata of every request."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request) -> None:
        request.headers["authorization"] = f"Bearer {self.key}"


class GrpcBearer(Bearer, grpcclient.InferenceServerClientPlugin):
    """The same for gRPC."""


def http_client(platform: Platform, key: str | None = None, **options) -> httpclient.InferenceServerClient:
    timeouts = {"connection_timeout": TIMEOUT_SECONDS, "network_timeout": TIMEOUT_SECONDS}
    client = httpclient.InferenceServerClient(platform.address, **timeouts, **options)
    client.register_plugin(Bearer(key or platform.key()))
    return client


def grpc_client(platform: Platform, key: str | None = None) -> grpcclient.InferenceServerClient:
    client = grpcclient.InferenceServerClient(platform.address)
    client.register_plugin(GrpcBearer(key or platform.key()))
    return client


def http_aio_client(platform: Platform) -> httpaio.InferenceServerClient:
    client = httpaio.InferenceServerClient(platform.address)
    client.register_plugin(Bearer(platform.key()))
    return client


def grpc_aio_client(platform: Platform) -> grpcaio.InferenceServerClient:
    client = grpcaio.InferenceServerClient(platform.address)
    client.register_plugin(GrpcBearer(platform.key()))
    return client


def http_inputs(arrays: dict[str, np.ndarray], binary: bool = True, datatype: str | None = None) -> list:
    inputs = []
    for name, array in arrays.items():
        tensor = httpclient.InferInput(name, list(array.shape), datatype or datatype_of(array))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


def http_outputs(names: list[str], binary: bool = True) -> list:
    return [httpclient.InferRequestedOutput(name, binary_data=binary) for name in names]


def grpc_inputs(arrays: dict[str, np.ndarray], datatype: str | None = None) -> list:
    inputs = []
    for name, array in arrays.items():
        tensor = grpcclient.InferInput(name, list(array.shape), datatype or datatype_of(array))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def grpc_outputs(names: list[str]) -> list:
    return [grpcclient.InferRequestedOutput(name) for name in names]


def datatype_of(array: np.ndarray) -> str:
    return np_to_triton_dtype(array.dtype)
