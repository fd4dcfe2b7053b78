"""Clients that mean harm: slow ones, ones that leave, ones that flood. Each is ended or bounded, and the next client is served."""

import gzip
import http.client
import json
import resource
import select
import socket
import struct
import threading
import zlib

import grpc
import pytest
import requests

from harness import cases, frames, procs
from harness.counts import Counts
from harness.frames import Connection, frame
from harness.platform import Platform

READ_SECONDS = 120
INFER = "/v2/models/iris/infer"
BODY = json.dumps(
    {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
).encode()
BODY_BYTES_MAX = 64 * 1024 * 1024
LARGE = 4_000_000
# Of one connection: see `ServerLimits`.
STREAMS_MAX = 1024
# Files that a gateway may have, and what of them it gives to its clients.
FEW_FILES = 2048
FEW_CONNECTIONS = 1024
# Fewer where this process or the gateway may not have as many files.
IDLE_CONNECTIONS = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 2048)
# What an idle connection may cost: its task with the buffers that hyper and the kernel's bookkeeping on our side hold for it.
IDLE_KIB_MAX = 24
FLOOD = 200_000
FLOOD_KIB_MAX = 32 * 1024


@pytest.fixture(scope="module")
def platform():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    platform = Platform()
    try:
        platform.start()
        platform.create("iris", cases.made("iris.onnx")())
        platform.create("large", cases.made("identity-fp32.onnx")())
        for name in ("iris", "large"):
            platform.wait_ready_at_first(name)
        yield platform
    finally:
        platform.destroy()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module", autouse=True)
def slow_heads(platform: Platform):
    """Heads a byte at a time, opened first and looked at last: their time runs while the rest is tested."""
    begun = [connect(platform) for _ in range(3)]
    ended: list[bytes] = []

    def trickle(client: socket.socket) -> None:
        got = b""
        for byte in endless_head():
            try:
                client.sendall(byte)
            except OSError:
                break
            if select.select([client], [], [], 0.2)[0]:
                try:
                    more = client.recv(65536)
                except OSError:
                    break
                if not more:
                    break
                got += more
        ended.append(got)

    threads = [threading.Thread(target=trickle, args=(client,), daemon=True) for client in begun]
    for thread in threads:
        thread.start()
    yield threads, ended
    for client in begun:
        client.close()


def endless_head():
    for byte in b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nx-slow: ":
        yield bytes([byte])
    while True:
        yield b"x"


@pytest.fixture(autouse=True)
def books_balance(platform: Platform):
    """After each test the same processes run, the next client is served, and nothing is left in flight."""
    before = platform.processes().keys()
    yield
    assert platform.processes().keys() == before
    assert infer(platform).status_code == 200
    procs.wait_until(lambda: Counts.of(platform).at_rest, "every request to have ended")


# Slow, and gone


def test_a_body_a_byte_at_a_time_has_the_time_of_its_request(platform: Platform) -> None:
    with connect(platform) as client:
        client.sendall(head(platform, {"content-length": "1000000", "x-berth-timeout-ms": "700"}))
        while not select.select([client], [], [], 0.02)[0]:
            client.sendall(b" ")
        assert read_answer(client).status == 504


def test_a_client_that_closed_its_side_gets_its_answer(platform: Platform) -> None:
    with connect(platform) as client:
        client.sendall(head(platform, {"content-length": str(len(BODY))}) + BODY)
        client.shutdown(socket.SHUT_WR)
        answer = read_answer(client)
        assert answer.status == 200 and "outputs" in answer.text
        assert client.recv(1) == b""


def test_a_client_that_closed_in_the_middle_of_its_body_is_refused(platform: Platform) -> None:
    lengths = ({"content-length": str(len(BODY))}, {"transfer-encoding": "chunked"})
    clients = [connect(platform) for _ in lengths]
    for client, length in zip(clients, lengths, strict=True):
        client.sendall(head(platform, length) + b"10\r\n" + BODY[:12])
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        answer = read_answer(client)
        assert answer.status in (400, 408), answer.text
        client.close()


def test_an_answer_that_is_never_read_ends_at_its_deadline(platform: Platform) -> None:
    body, headers = large(platform)
    with connect(platform) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(head(platform, headers | {"x-berth-timeout-ms": "3000"}, "/v2/models/large/infer") + body)
        select.select([client], [], [], READ_SECONDS)
        procs.wait_until(lambda: Counts.of(platform).at_rest, "the request to end though nobody reads")


# Heads


def test_a_head_that_is_too_long_or_has_too_many_headers(platform: Platform) -> None:
    many = {f"x-{number}": "1" for number in range(200)}
    for headers in ({"x-long": "x" * 100_000}, many):
        with connect(platform) as client:
            client.sendall(head(platform, headers | {"content-length": "0"}))
            assert read_answer(client).status == 431


# Many


def test_ten_thousand_idle_connections(platform: Platform) -> None:
    gateway = platform.pid_of("gateway")
    infer(platform)
    before = procs.pss_kib([gateway])
    idle = [connect(platform) for _ in range(IDLE_CONNECTIONS)]
    try:
        for client in idle:
            client.sendall(b"G")
        # The last one is served when all before it have been accepted.
        with connect(platform) as last:
            last.sendall(head(platform, {"content-length": str(len(BODY))}) + BODY)
            assert read_answer(last).status == 200
        each = (procs.pss_kib([gateway]) - before) / IDLE_CONNECTIONS
        print(f"an idle connection takes {each:.1f} KiB of the gateway")
        assert each <= IDLE_KIB_MAX
        assert infer(platform).status_code == 200
    finally:
        for client in idle:
            client.close()


def test_a_connection_too_many_is_told_so() -> None:
    """With few files the gateway lets in few connections, and refuses one more instead of running out."""
    small = Platform(before=("prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}"))
    idle: list[socket.socket] = []
    try:
        small.start()
        idle = [connect(small) for _ in range(FEW_CONNECTIONS)]
        for client in idle:
            client.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert read_answer(client).status == 200
        with connect(small) as last:
            last.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            refused = read_answer(last)
        assert refused.status == 503 and refused.getheader("retry-after") == "1" and "connections" in refused.text
        # With one place free again, the next is served.
        idle.pop().close()
        procs.wait_until(lambda: requests.get(f"{small.url}/livez", timeout=READ_SECONDS).status_code == 200, "a place")
    finally:
        for client in idle:
            client.close()
        small.destroy()


# Bodies


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_inflates_beyond_the_limit(platform: Platform, coding: str) -> None:
    bomb = squeeze(coding, b" " * (BODY_BYTES_MAX + 1024))
    assert len(bomb) < BODY_BYTES_MAX / 100
    headers = platform.headers | {"content-encoding": coding}
    answer = requests.post(platform.url + INFER, bomb, headers=headers, timeout=READ_SECONDS)
    assert answer.status_code == 413, answer.text


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_message_that_inflates_beyond_the_limit(platform: Platform, coding: str) -> None:
    """A good beginning, by which the gateway routes it, and then nothing but zeros."""
    size = BODY_BYTES_MAX + 1024
    message = b"\x0a\x04iris\x3a" + varint(size) + bytes(size)
    call = Counts.of(platform)
    with grpc.insecure_channel(platform.address) as channel:
        codings = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda raw: raw, lambda raw: raw)
        with pytest.raises(grpc.RpcError) as refused:
            ask(message, metadata=tuple(platform.headers.items()), timeout=READ_SECONDS, compression=codings[coding])
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused.value.details()
    assert Counts.of(platform).received == call.received + 1


# HTTP/2


def test_requests_that_are_reset_at_once(platform: Platform) -> None:
    """CVE-2023-44487: each request costs its client two small frames."""
    with h2(platform) as client, Memory(platform):
        for first in range(1, 40_000, 200):
            streams = range(first, first + 200, 2)
            cancel = struct.pack(">I", frames.CANCEL)
            pairs = [open_stream(platform, stream) + frame(frames.RST_STREAM, 0, stream, cancel) for stream in streams]
            if not client.send(*pairs):
                break
        assert infer(platform).status_code == 200


def test_headers_that_never_end(platform: Platform) -> None:
    """CVE-2024-27316: CONTINUATION frames without a last one."""
    with h2(platform) as client, Memory(platform):
        client.send(frame(frames.HEADERS, frames.END_STREAM, 1, frames.block([(":method", "GET"), (":scheme", "http")])))
        piece = frame(frames.CONTINUATION, 0, 1, frames.block([("x-more", "x" * 1000)]))
        sent = 0
        while sent < FLOOD and client.send(piece * 10):
            sent += 10
        assert sent < FLOOD
        assert infer(platform).status_code == 200


@pytest.mark.parametrize("kind", ["settings", "ping", "window", "empty data"])
def test_floods_of_small_frames(platform: Platform, kind: str) -> None:
    """Frames that want an answer, from a client that reads none; and frames that do nothing."""
    pieces = {
        "settings": frame(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, 65535)),
        "ping": frame(frames.PING, 0, 0, b"12345678"),
        "window": frame(frames.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)),
        "empty data": frame(frames.DATA, 0, 1),
    }
    with h2(platform) as client, Memory(platform):
        client.socket.settimeout(2)
        if kind == "empty data":
            client.send(open_stream(platform, 1))
        sent = 0
        try:
            while sent < FLOOD and client.send(pieces[kind] * 100):
                sent += 100
        except TimeoutError:
            pass  # Nobody reads it any more: that is a bound.
        assert infer(platform).status_code == 200


def test_a_client_that_grants_no_window(platform: Platform) -> None:
    """It asks and takes nothing; its requests end at their deadline all the same."""
    before, streams = Counts.of(platform).received, range(1, 101, 2)
    with h2(platform, window=0) as client, Memory(platform):
        # It answers pings, so that nobody takes it for dead.
        threading.Thread(target=lambda: list(client.frames()), daemon=True).start()
        for stream in streams:
            whole = frame(frames.DATA, frames.END_STREAM, stream, BODY)
            client.send(open_stream(platform, stream, {"x-berth-timeout-ms": "3000"}), whole)
        come = lambda: Counts.of(platform).received >= before + len(streams)  # noqa: E731
        procs.wait_until(come, "the requests to have come")
        procs.wait_until(lambda: Counts.of(platform).at_rest, "requests to end whose answers nobody takes")
        assert infer(platform).status_code == 200
        client.socket.shutdown(socket.SHUT_RDWR)


def test_more_streams_than_one_connection_may_have(platform: Platform) -> None:
    with h2(platform) as client:
        streams = range(1, 2 * (STREAMS_MAX + 100), 2)
        client.send(*[open_stream(platform, stream) for stream in streams])
        refused = set()
        for kind, _, stream, payload in client.frames():
            if kind == frames.RST_STREAM and int.from_bytes(payload) == frames.REFUSED_STREAM:
                refused.add(stream)
            if kind == frames.GOAWAY or len(refused) == 100:
                break
        assert len(refused) == 100 or kind == frames.GOAWAY
        assert infer(platform).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("transfer-encoding", "chunked")],
        [("connection", "close")],
        [("x-UPPER", "1")],
        [("x-split", "1\r\nx-more: 2")],
        [("x-zero", "a\0b")],
        [("content-length", "3")],
        [(":path", "/v2/models/large/infer")],
    ],
    ids=lambda headers: headers[0][0],
)
def test_what_is_no_request_in_http2(platform: Platform, headers: list[tuple[str, str]]) -> None:
    """Malformed as RFC 9113, 8.1.1, has it: no such request reaches a model."""
    before = statistics(platform)
    with h2(platform) as client:
        block = frames.block([*pseudo(platform), *headers])
        client.send(frame(frames.HEADERS, frames.END_HEADERS, 1, block), frame(frames.DATA, frames.END_STREAM, 1, BODY))
        for kind, _, stream, payload in client.frames():
            if kind in (frames.GOAWAY, frames.RST_STREAM):
                break
            assert not (kind == frames.HEADERS and stream == 1 and b"\x88" in payload[:1]), "answered with 200"
            if kind == frames.HEADERS:
                break
    assert statistics(platform) == before


# The end of what began first


def test_zz_heads_a_byte_at_a_time_are_shown_out(slow_heads) -> None:
    threads, ended = slow_heads
    for thread in threads:
        thread.join(READ_SECONDS)
        assert not thread.is_alive()
    assert not any(b" 200 " in got for got in ended)


class Memory:
    """What the gateway takes does not grow by more than a flood may cost."""

    def __init__(self, platform: Platform) -> None:
        self.pid = platform.pid_of("gateway")

    def __enter__(self) -> None:
        self.before = procs.pss_kib([self.pid])

    def __exit__(self, kind, *_) -> None:
        grown = procs.pss_kib([self.pid]) - self.before
        assert kind or grown <= FLOOD_KIB_MAX, f"the gateway grew by {grown} KiB"


def h2(platform: Platform, window: int | None = None) -> Connection:
    return Connection(address(platform), READ_SECONDS, window)


def pseudo(platform: Platform) -> list[tuple[str, str]]:
    return [(":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "x"), *platform.headers.items()]


def open_stream(platform: Platform, stream: int, headers: dict[str, str] | None = None) -> bytes:
    """The head of a request whose body is still to come."""
    block = frames.block([*pseudo(platform), *(headers or {}).items()])
    return frame(frames.HEADERS, frames.END_HEADERS, stream, block)


def address(platform: Platform) -> tuple[str, int]:
    host, port = platform.address.rsplit(":", 1)
    return host, int(port)


def connect(platform: Platform) -> socket.socket:
    return socket.create_connection(address(platform), timeout=READ_SECONDS)


def head(platform: Platform, headers: dict[str, str], path: str = INFER) -> bytes:
    lines = {"host": platform.address, **platform.headers, **headers}
    return f"POST {path} HTTP/1.1\r\n".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in lines.items()) + b"\r\n"


def read_answer(client: socket.socket) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(client)
    answer.begin()
    answer.text = answer.read().decode(errors="replace")
    return answer


def infer(platform: Platform) -> requests.Response:
    return requests.post(platform.url + INFER, BODY, headers=platform.headers, timeout=READ_SECONDS)


def statistics(platform: Platform) -> int:
    answer = requests.get(f"{platform.url}/v2/models/iris/stats", headers=platform.headers, timeout=READ_SECONDS)
    return answer.json()["model_stats"][0]["inference_count"]


def large(platform: Platform) -> tuple[bytes, dict[str, str]]:
    """A request whose answer is more than all buffers on its way."""
    tensor = {"name": "INPUT0", "shape": [1, LARGE], "datatype": "FP32", "parameters": {"binary_data_size": 4 * LARGE}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = text + bytes(4 * LARGE)
    return body, {"inference-header-content-length": str(len(text)), "content-length": str(len(body))}


def squeeze(coding: str, data: bytes) -> bytes:
    return gzip.compress(data, 1) if coding == "gzip" else zlib.compress(data, 1)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])
