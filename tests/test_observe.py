"""Metrics and traces as tools outside see them."""

import re
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
import requests

from harness import cache, cases, procs
from harness.platform import Platform

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SAMPLE = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? [-+0-9.eE]+(Inf|NaN)?$')


class Collector(grpc.GenericRpcHandler):
    """Takes what is sent to an OTLP collector, as bytes: names and ids are in them as they are."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.export) if details.method == EXPORT else None

    def export(self, request: bytes, _context) -> bytes:
        self.received.append(request)
        return b""

    def has(self, *words: bytes) -> bool:
        everything = b"".join(self.received)
        return all(word in everything for word in words)


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((collector,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None)


def test_a_request_is_a_trace(collector: tuple[Collector, str]) -> None:
    seen, endpoint = collector
    platform = Platform(env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"})
    try:
        platform.start()
        platform.deploy("simple", cases.made("simple.onnx")())
        body = {"inputs": [{"name": name, "shape": [1, 16], "datatype": "INT32", "data": [1] * 16} for name in ("INPUT0", "INPUT1")]}
        url = f"{platform.url}/v2/models/simple/infer"
        refused = requests.post(url, json=body, headers={"traceparent": PARENT.replace("b7ad", "b7ae")}, timeout=30)
        assert refused.status_code == 401
        answered = requests.post(url, json=body, headers={**platform.headers, "traceparent": PARENT}, timeout=30)
        assert answered.status_code == 200, answered.text
        assert re.fullmatch(r"queue;dur=[0-9.]+, ?compute;dur=[0-9.]+", answered.headers["server-timing"])
        trace, parent = bytes.fromhex(PARENT.split("-")[1]), bytes.fromhex(PARENT.split("-")[2])
        words = (b"berth-gateway", b"infer", b"attempt", b"queue", b"compute", b"simple", trace, parent)
        procs.wait_until(lambda: seen.has(*words), "the spans", 30)
        # What was refused at the door is not told, and nothing of a key is.
        secret = platform.key().rpartition("_")[2].encode()
        assert not seen.has(bytes.fromhex("b7ae6b7169203331")) and not seen.has(secret)
        assert platform.stop() == 0
    finally:
        platform.destroy()


def test_metrics(platform: Platform) -> None:
    platform.deploy("simple", cases.made("simple.onnx")())
    body = {"inputs": [{"name": name, "shape": [1, 16], "datatype": "INT32", "data": [1] * 16} for name in ("INPUT0", "INPUT1")]}
    for _ in range(3):
        assert requests.post(f"{platform.url}/v2/models/simple/infer", json=body, headers=platform.headers, timeout=30).status_code == 200
    answer = requests.get(f"{platform.url}/metrics", headers=platform.headers, timeout=30)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    assert not [line for line in samples if not SAMPLE.match(line)]
    value = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in samples}
    assert value['berth_gateway_requests_total{service="simple",revision="1",protocol="rest",code="200"}'] == 3
    success = [found for name, found in value.items() if name.startswith("nv_inference_request_success{") and 'replica="' in name]
    assert success == [3]
    documented = (cache.ROOT / "docs" / "reference" / "metrics.md").read_text()
    # A histogram is documented once, by the name that its families share.
    named = set(re.findall("`([^`{]+)", documented))
    families = {(full := name.partition("{")[0]): re.sub("_(bucket|sum|count)$", "", full) for name in value}
    assert not {full for full, family in families.items() if not {full, family} & named}
