"""Mixed load with clients that break off at any point, over REST and gRPC, and then the books must balance.

`BERTH_SOAK_SECONDS` lengthens it and `BERTH_SEED` changes what breaks off when; `make soak` runs it for ten minutes and prints what
memory the processes take meanwhile.
"""

import http.client
import json
import os
import random
import socket
import struct
import threading
import time
from collections import Counter

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from harness import cases, procs
from harness.counts import Counts
from harness.platform import Platform

SECONDS = float(os.environ.get("BERTH_SOAK_SECONDS") or 10)
SEED = int(os.environ.get("BERTH_SEED") or 1)
# Of its length: caches and pools of connections fill before memory is first looked at.
WARM_UP = 0.2
LOOK_EVERY_SECONDS = 60
GROWTH_KIB_MAX = 64 * 1024
TIMEOUT_SECONDS = 60
FAILURES_MAX = 20
# Rows of the large request and answer: more than a socket's buffers hold.
LARGE = 1_000_000
SMALL_BODY = json.dumps(
    {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
).encode()
BUSY_ROUNDS = 500


@pytest.fixture(scope="module")
def platform():
    platform = Platform()
    try:
        platform.start()
        platform.create("iris", cases.made("iris.onnx")())
        platform.create("busy", cases.made("busy.onnx")(), containerConcurrency=2)
        platform.create("large", cases.made("identity-fp32.onnx")())
        for name in ("iris", "busy", "large"):
            platform.wait_ready_at_first(name)
        yield platform
    finally:
        platform.destroy()


class Soak:
    """Threads that ask, some of which never mean to read their answer."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.headers = platform.headers
        self.metadata = tuple(platform.headers.items())
        self.until = time.monotonic() + SECONDS
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []
        self.lock = threading.Lock()
        host, port = platform.address.rsplit(":", 1)
        self.address = (host, int(port))
        asks = [self.rest, self.rest, self.call, self.call, self.breaks_off, self.breaks_off, self.cancels]
        self.threads = [
            threading.Thread(target=self.loop, args=(ask, random.Random(SEED * 1000 + number)), daemon=True)
            for number, ask in enumerate(asks)
        ]

    def run(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(2 * TIMEOUT_SECONDS)
            assert not thread.is_alive()

    def loop(self, ask, source: random.Random) -> None:
        with grpc.insecure_channel(self.platform.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < self.until and len(self.failures) < FAILURES_MAX:
                try:
                    outcome = ask(source, stub)
                except Exception as error:
                    self.failures.append(f"{ask.__name__}: {error!r}")
                    continue
                with self.lock:
                    self.outcomes[outcome] += 1

    def request(self, source: random.Random) -> bytes:
        """A whole request of one of the models, as bytes of HTTP/1.1."""
        name = source.choice(["iris", "iris", "busy", "large"])
        body = {"iris": SMALL_BODY, "busy": busy(), "large": b""}[name]
        headers = {"host": "soak", **self.headers}
        if name == "large":
            tensor = {"name": "INPUT0", "shape": [1, LARGE], "datatype": "FP32", "parameters": {"binary_data_size": 4 * LARGE}}
            head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
            headers["inference-header-content-length"] = str(len(head))
            body = head + bytes(4 * LARGE)
        headers["content-length"] = str(len(body))
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        return f"POST /v2/models/{name}/infer HTTP/1.1\r\n{lines}\r\n".encode() + body

    def rest(self, source: random.Random, _) -> str:
        with socket.create_connection(self.address, TIMEOUT_SECONDS) as client:
            for _ in range(source.randrange(1, 8)):
                client.sendall(self.request(source))
                answer = http.client.HTTPResponse(client)
                answer.begin()
                answer.read()
                self.expect(answer.status in (200, 429, 503), f"rest: {answer.status}")
                with self.lock:
                    self.outcomes[f"rest {answer.status}"] += 1
        return "connections"

    def call(self, source: random.Random, stub) -> str:
        try:
            stub.ModelInfer(message(source), metadata=self.metadata, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            code = error.code()
            full = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.expect(code in full, f"grpc: {code} {error.details()}")
            return f"grpc {code.name}"
        return "grpc OK"

    def breaks_off(self, source: random.Random, _) -> str:
        """Leaves in the head, in the body, before the answer or within it; politely or with a reset."""
        whole = self.request(source)
        client = socket.create_connection(self.address, TIMEOUT_SECONDS)
        try:
            if source.random() < 0.5:
                client.sendall(whole[: source.randrange(1, len(whole))])
            else:
                client.sendall(whole)
                if source.random() < 0.7:
                    client.recv(source.randrange(1, 65536))
            if source.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except (ConnectionResetError, BrokenPipeError):
            return "refused while sending"
        finally:
            client.close()
        return "broke off"

    def cancels(self, source: random.Random, stub) -> str:
        under_way = stub.ModelInfer.future(message(source), metadata=self.metadata, timeout=TIMEOUT_SECONDS)
        if source.random() < 0.5:
            # Once another call is through, this one has mostly begun.
            self.call(source, stub)
        under_way.cancel()
        return "cancelled"

    def expect(self, right: bool, what: str) -> None:
        if not right and len(self.failures) < FAILURES_MAX:
            self.failures.append(what)


def busy() -> bytes:
    tensor = {"name": "rounds", "shape": [1], "datatype": "INT64", "data": [BUSY_ROUNDS]}
    return json.dumps({"inputs": [tensor]}).encode()


def message(source: random.Random) -> service_pb2.ModelInferRequest:
    name = source.choice(["iris", "iris", "large"])
    request = service_pb2.ModelInferRequest(model_name=name)
    if name == "iris":
        request.inputs.add(name="input", datatype="FP32", shape=[1, 4])
        request.raw_input_contents.append(bytes(16))
    else:
        request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, LARGE // 4])
        request.raw_input_contents.append(bytes(LARGE))
    return request


def watch(platform: Platform, soak: Soak) -> tuple[int, int]:
    """Prints memory at the start, every minute and at the end; gives it after the warm-up and at the end."""

    def look(what: str) -> int:
        taken = procs.pss_kib(list(platform.processes()))
        print(f"soak: {what}: {taken / 1024:.1f} MiB PSS; {Counts.of(platform)}", flush=True)
        return taken

    look("start")
    begun = time.monotonic()
    over = lambda at: lambda: time.monotonic() >= at or not any(thread.is_alive() for thread in soak.threads)  # noqa: E731
    procs.wait_until(over(begun + WARM_UP * SECONDS), "the warm-up", SECONDS)
    warm = look("warm")
    while any(thread.is_alive() for thread in soak.threads):
        procs.wait_until(over(time.monotonic() + LOOK_EVERY_SECONDS), "a minute", 2 * LOOK_EVERY_SECONDS)
        look(f"after {time.monotonic() - begun:.0f} s")
    soak.join()
    procs.wait_until(lambda: Counts.of(platform).at_rest, "every request to have ended")
    return warm, look("at rest")


def test_the_books_balance(platform: Platform) -> None:
    before, processes = Counts.of(platform), platform.processes().keys()
    soak = Soak(platform)
    soak.run()
    warm, end = watch(platform, soak)
    print(f"soak: clients: {dict(soak.outcomes)}")
    assert not soak.failures, soak.failures
    counts = Counts.of(platform)
    assert counts.received - before.received == counts.ended - before.ended
    # What clients know of is in the books.
    for code in ("200", "429", "503"):
        counted = counts.total("requests_total", 'protocol="rest"', f'code="{code}"')
        assert counted >= soak.outcomes[f"rest {code}"]
    assert counts.total("requests_total", 'protocol="grpc"', 'code="0"') >= soak.outcomes["grpc OK"] > 0
    assert counts.total("cancelled_total", 'protocol="rest"') > 0 and counts.total("cancelled_total", 'protocol="grpc"') > 0
    assert counts.label("rejected_total", "reason") <= {"service_busy", "overloaded", "no_replica", "client_gone"}
    assert platform.processes().keys() == processes, "nothing was restarted"
    # Nothing is kept of the requests that are over. Caches fill for minutes on a busy machine, so that a short run shows nothing.
    assert SECONDS < LOOK_EVERY_SECONDS or end - warm <= GROWTH_KIB_MAX, f"{warm} KiB grew to {end} KiB"
