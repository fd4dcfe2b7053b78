"""Threads that ask in a closed loop and remember every answer that was not right."""

import http.client
import json
import threading

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from harness import procs
from harness.platform import Platform

ROW = [5.1, 3.5, 1.4, 0.2]
FAILURES_MAX = 20


class Load:
    """Asks the iris model over HTTP and gRPC until the `with` block ends."""

    def __init__(self, platform: Platform, service: str, http_threads: int = 6, grpc_threads: int = 2) -> None:
        self.platform, self.service, self.headers = platform, service, platform.headers
        self.stopping = threading.Event()
        self.failures: list[str] = []
        self.answered = [0] * (http_threads + grpc_threads)
        asks = [self.http] * http_threads + [self.grpc] * grpc_threads
        self.threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number, ask in enumerate(asks)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        self.wait_for_more(5)
        return self

    def __exit__(self, *_) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def wait_for_more(self, count: int) -> None:
        """Until every thread has had `count` more right answers, or something failed."""
        wanted = [answered + count for answered in self.answered]

        def done() -> bool:
            return bool(self.failures) or all(now >= then for now, then in zip(self.answered, wanted, strict=True))

        procs.wait_until(done, f"{count} more answers for each of {len(wanted)} clients, now {self.answered}")

    def failed(self, number: int, what: str) -> None:
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(f"client {number}, request {self.answered[number]}: {what}")

    def http(self, number: int) -> None:
        tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}
        body = json.dumps({"inputs": [tensor], "outputs": [{"name": "label"}]})
        connection = http.client.HTTPConnection(self.platform.address, timeout=60)
        while not self.stopping.is_set() and not self.failures:
            try:
                connection.request("POST", f"/v2/models/{self.service}/infer", body, self.headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200 or json.loads(text)["outputs"][0]["data"] != [0]:
                    self.failed(number, f"{answer.status} {text[:300]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failed(number, repr(error))
            self.answered[number] += 1
        connection.close()

    def grpc(self, number: int) -> None:
        request = service_pb2.ModelInferRequest(model_name=self.service)
        request.inputs.add(name="input", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend(ROW)
        with grpc.insecure_channel(self.platform.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while not self.stopping.is_set() and not self.failures:
                try:
                    answer = stub.ModelInfer(request, metadata=tuple(self.headers.items()), timeout=60)
                    assert answer.model_name == self.service
                except grpc.RpcError as error:
                    self.failed(number, f"{error.code()} {error.details()}")
                self.answered[number] += 1
