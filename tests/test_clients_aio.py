"""Triton's asynchronous clients, HTTP and gRPC: many requests under way at once on one loop."""

import asyncio

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from harness import cases
from harness.clients import grpc_aio_client, grpc_inputs, grpc_outputs, http_aio_client, http_inputs, http_outputs
from harness.platform import Platform

VARIANTS = {
    "http-binary": (http_aio_client, lambda a, d=None: http_inputs(a, True, d), lambda n: http_outputs(n, True)),
    "http-json": (http_aio_client, lambda a, d=None: http_inputs(a, False, d), lambda n: http_outputs(n, False)),
    "grpc": (grpc_aio_client, grpc_inputs, grpc_outputs),
}
variants = pytest.mark.parametrize("variant", VARIANTS)


@variants
def test_real_models_all_at_once(serving: Platform, variant: str) -> None:
    open_client, inputs, outputs = VARIANTS[variant]

    async def ask() -> None:
        async with open_client(serving) as client:

            async def one(case: cases.Case) -> None:
                expected = case.expected()
                result = await client.infer(case.service, inputs(case.inputs()), outputs=outputs(list(expected)))
                cases.check({name: result.as_numpy(name) for name in expected}, expected)

            await asyncio.gather(*(one(case) for case in cases.REAL * 3))

    asyncio.run(ask())


@variants
def test_every_datatype_at_once(serving: Platform, variant: str) -> None:
    open_client, inputs, outputs = VARIANTS[variant]
    datatypes = [name for name in cases.VALUES if variant != "http-json" or name not in ("FP16", "BF16")]

    async def ask() -> None:
        async with open_client(serving) as client:

            async def one(datatype: str) -> None:
                value = cases.VALUES[datatype]
                tensors = inputs({"INPUT0": value}, datatype)
                result = await client.infer(f"identity-{datatype.lower()}", tensors, outputs=outputs(["OUTPUT0"]))
                cases.check({"OUTPUT0": result.as_numpy("OUTPUT0")}, {"OUTPUT0": value})

            await asyncio.gather(*map(one, datatypes))

    asyncio.run(ask())


@variants
def test_errors_and_health(serving: Platform, variant: str) -> None:
    open_client, inputs, _ = VARIANTS[variant]

    async def ask() -> None:
        async with open_client(serving) as client:
            assert await client.is_server_live() and await client.is_server_ready()
            assert await client.is_model_ready("iris")
            assert await client.get_model_metadata("iris")
            with pytest.raises(InferenceServerException, match="nobody"):
                await client.infer("nobody", inputs(cases.irises(0)))
            with pytest.raises(InferenceServerException, match="input"):
                await client.infer("iris", inputs({"input": np.zeros((1, 5), np.float32)}))

    asyncio.run(ask())
