"""The conformance suite against Berth itself, and against a server that does not conform."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest

from harness.platform import Platform


@pytest.mark.parametrize("model", ["simple", "mixed", "simple-string", "iris", "breast-cancer"])
def test_berth_conforms_without_a_skip(serving: Platform, model: str) -> None:
    key = ["--key-file", serving.data / "local.key"]
    done = serving.berth("conformance", f"http://{serving.address}", "--grpc", serving.address, "--model", model, *key, "-o", "json")
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if check["outcome"] != "pass"] == []
    assert report["passed"] > 50


class Stub(BaseHTTPRequestHandler):
    """Says yes to everything, and so conforms to nothing."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps({"name": "m", "version": "1", "platform": "p", "extensions": [],
                           "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
                           "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_does_not_conform_fails_the_run(serving: Platform) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = serving.berth("conformance", f"http://127.0.0.1:{server.server_port}", "--model", "m", "-o", "junit", check=False)
    finally:
        server.shutdown()
    assert done.returncode == 1
    suite = ElementTree.fromstring(done.stdout)
    failed = {case.get("name").split(":")[0] for case in suite if case.find("failure") is not None}
    assert {"rest.infer", "rest.error.not_json", "rest.error.unknown_model"} <= failed
    assert "rest.health.live" not in failed
