"""Bounds that a client meets, and clients that mean harm: each gets its answer, and the platform stays up."""

import http.client
import json
import random
import resource
import socket
import threading
from collections import Counter

import pytest
import requests

from harness import cases, procs
from harness.platform import Platform

BODY_BYTES_MAX = 64 * 1024 * 1024
IDLE_CONNECTIONS = 1000
READ_SECONDS = 60
INFER = "/v2/models/iris/infer"
BODY = json.dumps(
    {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
).encode()


@pytest.fixture(scope="module")
def platform():
    platform = Platform()
    try:
        platform.start()
        platform.create("iris", cases.made("iris.onnx")())
        platform.create("busy", cases.made("busy.onnx")(), containerConcurrency=2)
        platform.wait_ready("iris")
        platform.wait_ready("busy")
        yield platform
    finally:
        platform.destroy()


@pytest.fixture(scope="module", autouse=True)
def slow_clients(platform: Platform):
    """Clients that begin and do not end, opened first and looked at last: their time runs while the rest is tested."""
    slow = {
        "nothing": b"",
        "half a line": b"POST /v2/mod",
        "half a head": f"POST {INFER} HTTP/1.1\r\nhost: x\r\nx-slow: ".encode(),
    }
    clients = {}
    for name, sent in slow.items():
        clients[name] = connect(platform)
        clients[name].sendall(sent)
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture(autouse=True)
def stays_up(platform: Platform):
    """After each test the same processes run, and answer."""
    before = platform.processes().keys()
    yield
    assert platform.processes().keys() == before
    assert infer(platform).status_code == 200


def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_sent(platform: Platform) -> None:
    client = connect(platform)
    client.sendall(head(platform, {"content-length": str(BODY_BYTES_MAX + 1), "expect": "100-continue"}))
    answer = read_answer(client)
    assert answer.status == 413
    assert "error" in json.loads(answer.text)
    client.close()


def test_a_body_that_grows_too_long_is_cut_off(platform: Platform) -> None:
    client = connect(platform)
    client.sendall(head(platform, {"transfer-encoding": "chunked"}))
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    sent = 0
    try:
        while sent <= BODY_BYTES_MAX + 64 * 0x100000:
            client.sendall(chunk)
            sent += 0x100000
        client.sendall(b"0\r\n\r\n")
    except OSError:
        pass  # the door was closed in the middle
    try:
        assert read_answer(client).status == 413
    except (OSError, http.client.HTTPException):
        assert sent < BODY_BYTES_MAX + 64 * 0x100000, "the whole body was taken"
    client.close()


def test_a_body_under_the_limit_passes(platform: Platform) -> None:
    padded = BODY[:-1] + b" " * (BODY_BYTES_MAX - len(BODY)) + b"}"
    assert requests.post(platform.url + INFER, padded, headers=platform.headers, timeout=120).status_code == 200


def test_headers_that_are_too_long(platform: Platform) -> None:
    answer = requests.post(platform.url + INFER, BODY, headers={**platform.headers, "x-long": "a" * 40_000}, timeout=30)
    assert answer.status_code == 431
    many = {f"x-{number}": "a" for number in range(1000)}
    assert requests.post(platform.url + INFER, BODY, headers={**platform.headers, **many}, timeout=30).status_code in (
        400,
        431,
    )
    assert requests.get(platform.url + "/" + "a" * 70_000, headers=platform.headers, timeout=30).status_code in (
        400,
        414,
        431,
    )


def test_more_requests_than_a_service_works_on(platform: Platform) -> None:
    rounds = procs.wait_until(lambda: rounds_for(platform, 0.3), "the time of a round")
    barrier = threading.Barrier(12)
    answers: list[requests.Response] = []

    def ask() -> None:
        barrier.wait(READ_SECONDS)
        answers.append(busy(platform, rounds))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    seen = Counter(answer.status_code for answer in answers)
    assert set(seen) == {200, 429} and seen[200] >= 2, seen
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1 and answer.json()["error"]
    assert busy(platform, 1).status_code == 200


def test_a_request_that_takes_too_long(platform: Platform) -> None:
    rounds = rounds_for(platform, 0.5)
    late = busy(platform, rounds, {"x-berth-timeout-ms": "20"})
    assert late.status_code == 504 and late.json()["error"]
    assert busy(platform, 1, {"x-berth-timeout-ms": "20000"}).status_code == 200


@pytest.mark.parametrize("value", ["0", "-1", "soon", "99999999999999999999"])
def test_a_deadline_that_is_none(platform: Platform, value: str) -> None:
    assert infer(platform, {"x-berth-timeout-ms": value}).status_code in (200, 400, 504)


def test_a_client_that_goes_away(platform: Platform) -> None:
    rounds = rounds_for(platform, 0.2)
    for _ in range(10):
        client = connect(platform)
        body = busy_body(rounds)
        client.sendall(head(platform, {"content-length": str(len(body))}, "/v2/models/busy/infer") + body)
        client.close()
    procs.wait_until(lambda: busy(platform, 1).status_code == 200, "the places to be free again")


def test_garbage(platform: Platform) -> None:
    source = random.Random(7)
    starts = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01",
        b"POST /v2/models/iris/infer HTTP/1.1\r\nhost: x\r\n",
    ]
    for number in range(60):
        client = connect(platform)
        try:
            client.sendall(starts[number % len(starts)] + source.randbytes(source.randrange(1, 4000)))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except OSError:
            pass  # being thrown out is an answer
        client.close()


def test_requests_that_are_two(platform: Platform) -> None:
    """Two lengths, or a length and chunks: proxies have read such a request as two."""
    for headers in (
        b"content-length: 4\r\ncontent-length: 5\r\n",
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding : chunked\r\n",
    ):
        client = connect(platform)
        key = f"authorization: {platform.headers['authorization']}\r\n".encode()
        client.sendall(
            f"POST {INFER} HTTP/1.1\r\nhost: x\r\n".encode()
            + key
            + headers
            + b"\r\n0\r\n\r\nGET /v2 HTTP/1.1\r\nhost: x\r\n\r\n"
        )
        client.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while more := client.recv(65536):
                got += more
        except OSError:
            pass
        # Refused, or one request read and nothing of what was smuggled in taken for a good one.
        assert b" 200 " not in got, got
        client.close()


def test_a_thousand_idle_connections(platform: Platform) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    idle = [connect(platform) for _ in range(IDLE_CONNECTIONS)]
    try:
        assert infer(platform).status_code == 200
        # They are still good.
        idle[0].sendall(head(platform, {"content-length": str(len(BODY))}) + BODY)
        assert read_answer(idle[0]).status == 200
    finally:
        for client in idle:
            client.close()


def test_what_a_client_can_make_json_cost(platform: Platform) -> None:
    """Depth, repetition and long numbers: an error each, soon, and no stack overflows."""
    deep = b'{"inputs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    data = (
        b'{"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": '
        + b"[" * 100_000
        + b"]" * 100_000
        + b"}]}"
    )
    parameters = b'{"parameters": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b', "inputs": []}'
    huge_shape = json.dumps(
        {"inputs": [{"name": "input", "shape": [2**62, 2**62], "datatype": "FP32", "data": [1]}]}
    ).encode()
    digits = (
        b'{"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [1,2,3,'
        + b"9" * 1_000_000
        + b"]}]}"
    )
    for body in (deep, data, parameters, huge_shape):
        answer = requests.post(platform.url + INFER, body, headers=platform.headers, timeout=60)
        assert answer.status_code in (400, 413), answer.text[:200]
    assert requests.post(platform.url + INFER, digits, headers=platform.headers, timeout=60).status_code in (200, 400)


def test_zz_slow_clients_are_shown_out(slow_clients: dict[str, socket.socket]) -> None:
    for name, client in slow_clients.items():
        client.settimeout(READ_SECONDS)
        got = b""
        while more := client.recv(65536):
            got += more
        assert b" 200 " not in got, name


def connect(platform: Platform) -> socket.socket:
    host, port = platform.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=READ_SECONDS)


def head(platform: Platform, headers: dict[str, str], path: str = INFER) -> bytes:
    lines = {"host": platform.address, **platform.headers, **headers}
    return f"POST {path} HTTP/1.1\r\n".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in lines.items()) + b"\r\n"


def read_answer(client: socket.socket):
    answer = http.client.HTTPResponse(client)
    answer.begin()
    answer.text = answer.read().decode(errors="replace")
    return answer


def infer(platform: Platform, headers: dict[str, str] | None = None) -> requests.Response:
    return requests.post(platform.url + INFER, BODY, headers={**platform.headers, **(headers or {})}, timeout=60)


def busy_body(rounds: int) -> bytes:
    return json.dumps({"inputs": [{"name": "rounds", "shape": [1], "datatype": "INT64", "data": [rounds]}]}).encode()


def busy(platform: Platform, rounds: int, headers: dict[str, str] | None = None) -> requests.Response:
    url = platform.url + "/v2/models/busy/infer"
    return requests.post(url, busy_body(rounds), headers={**platform.headers, **(headers or {})}, timeout=120)


def rounds_for(platform: Platform, seconds: float) -> int:
    """How many rounds take the engine about that long here, by its own account."""
    answer = busy(platform, 200)
    assert answer.status_code == 200, answer.text
    timing = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
    return max(1, int(200 * seconds * 1000 / max(float(timing["compute"]), 0.1)))
