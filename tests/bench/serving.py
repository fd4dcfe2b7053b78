"""`make bench-serving`: Berth, Triton and MLServer on one model in one run; writes docs/benchmarks/serving.md.

The rounds are interleaved, system after system, and each number is the median of its rounds, so that what the machine
does meanwhile falls on all alike. Needs the build for installation (`dist`) of `berth` and `berth-load`.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import requests
import tritonclient.grpc as grpcclient
from tritonclient.utils import np_to_triton_dtype

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import systems
from bench.systems import (
    BINARY,
    GRPC,
    JSON,
    BerthPlatform,
    BerthRuntime,
    Fixed,
    MlServer,
    System,
    Triton,
    TritonUnbatched,
)
from harness import cache, cases
from models.efficientnet import image

CONNECTIONS = (1, 16, 64)
IMAGE_CONNECTIONS = (1, 4)
REPORT = cache.ROOT / "docs" / "benchmarks" / "serving.md"
IRIS = {"input": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)}
Key = tuple[str, str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of each measurement, after a third of that to warm up"
    )
    parser.add_argument("--only", help="systems whose name contains this text; nothing is written")
    parser.add_argument("--berth", type=Path, default=systems.load_generator().with_name("berth"))
    options = parser.parse_args()
    iris = cache.models_dir() / "iris.onnx"
    servers = [
        Fixed(),
        BerthRuntime(options.berth, {"iris": iris}),
        BerthPlatform(options.berth, {"iris": iris}),
        Triton(iris),
        TritonUnbatched(iris),
        MlServer(iris),
    ]
    servers = [server for server in servers if not options.only or options.only.lower() in server.name.lower()]
    runs, memory = measure_all(servers, options)
    images = measure_images(options) if not options.only else {}
    text = report(servers, runs, memory, images, options)
    print(text)
    if not options.only:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(text)


def measure_all(servers: list[System], options) -> tuple[dict[Key, list[dict]], dict[str, dict[str, float]]]:
    """Every system, protocol and number of connections, in interleaved rounds; and what each weighs."""
    runs, memory = defaultdict(list), {}
    try:
        for server in servers:
            say(f"starting {server.name}")
            server.start()
            memory[server.name] = {"idle": server.pss_mib()}
            if not isinstance(server, Fixed):
                check_answers(server)
        for number in range(options.rounds):
            for connections in CONNECTIONS:
                for protocol in (JSON, BINARY, GRPC):
                    for server in servers:
                        if protocol in server.protocols:
                            result = load(server, "iris", IRIS, protocol, connections, options.seconds)
                            runs[server.name, protocol, connections].append(result)
                say(f"round {number + 1} of {options.rounds}, {connections} connections: done")
        for server in servers:
            memory[server.name]["loaded"] = server.pss_mib()
    finally:
        for server in servers:
            server.stop()
    return runs, memory


def check_answers(server: System) -> None:
    """Each protocol gives what onnxruntime gives: a quick server that is wrong wins nothing."""
    expected = cases.loaded(cache.models_dir() / "iris.onnx").run(["probabilities"], IRIS)[0]
    url = f"http://{server.http}{server.path}"
    headers = {**server.headers, "content-type": "application/json"}
    answer = requests.post(url, body_of(JSON, "iris", IRIS), headers=headers, timeout=30).json()
    got = next(output["data"] for output in answer["outputs"] if output["name"] == "probabilities")
    np.testing.assert_allclose(np.array(got, np.float32).reshape(1, 3), expected, rtol=1e-4, atol=1e-6)
    client = grpcclient.InferenceServerClient(server.grpc)
    tensor = grpcclient.InferInput("input", [1, 4], "FP32")
    tensor.set_data_from_numpy(IRIS["input"])
    result = client.infer("iris", [tensor], headers=server.headers)
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected, rtol=1e-4, atol=1e-6)
    client.close()


def body_of(protocol: str, model: str, arrays: dict[str, np.ndarray]) -> bytes:
    """One request: JSON, JSON with binary tensors both ways, or an encoded ModelInferRequest."""
    if protocol == GRPC:
        request = grpcclient.service_pb2.ModelInferRequest(model_name=model)
        for name, array in arrays.items():
            request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        return request.SerializeToString()
    inputs, tail = [], b""
    for name, array in arrays.items():
        tensor = {"name": name, "shape": array.shape, "datatype": np_to_triton_dtype(array.dtype)}
        if protocol == BINARY:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            tail += array.tobytes()
        else:
            # The shortest decimals that give the same 32-bit numbers, as a client would write them.
            tensor["data"] = [float(str(element)) for element in array.ravel()]
        inputs.append(tensor)
    parameters = {"parameters": {"binary_data_output": True}} if protocol == BINARY else {}
    return json.dumps({"inputs": inputs, **parameters}).encode() + tail


def load(server: System, model: str, arrays: dict, protocol: str, connections: int, seconds: float) -> dict:
    """One run of the load generator; any failed request makes the run worthless."""
    body = body_of(protocol, model, arrays)
    path = server.folder / f"{model}-{protocol}"
    path.write_bytes(body)
    command = [systems.load_generator(), "grpc" if protocol == GRPC else "http", "--body", path]
    headers = dict(server.headers)
    if protocol == GRPC:
        command += ["--address", server.grpc]
    else:
        command += ["--address", server.http, "--path", f"/v2/models/{model}/infer"]
        headers["content-type"] = "application/json" if protocol == JSON else "application/octet-stream"
    if protocol == BINARY:
        headers["inference-header-content-length"] = str(
            body.rindex(b"}", 0, len(body) - sum(a.nbytes for a in arrays.values())) + 1
        )
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    command += ["--connections", connections, "--seconds", seconds, "--warmup", seconds / 3]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, timeout=seconds * 2 + 60)
    result = json.loads(done.stdout)
    if result["failed"] or not result["requests"]:
        raise SystemExit(f"{server.name}, {protocol}, {connections} connections: {result['failures']}\n{server.folder}")
    return result


def measure_images(options) -> dict[Key, list[dict]]:
    """EfficientNet through the platform and through the runtime alone, against a loop in one process."""
    model = cache.models_dir() / "efficientnet-lite0.onnx"
    servers = [
        BerthRuntime(options.berth, {"efficientnet": model}),
        BerthPlatform(options.berth, {"efficientnet": model}),
    ]
    runs = defaultdict(list)
    try:
        for server in servers:
            server.start()
        for number in range(options.rounds):
            for connections in IMAGE_CONNECTIONS:
                for protocol in (BINARY, GRPC):
                    for server in servers:
                        result = load(
                            server, "efficientnet", {"image": image(1)}, protocol, connections, options.seconds
                        )
                        runs[server.name, protocol, connections].append(result)
                runs["onnxruntime in process", "", connections].append(
                    loop_in_process(model, connections, options.seconds)
                )
            say(f"images, round {number + 1} of {options.rounds}: done")
    finally:
        for server in servers:
            server.stop()
    return runs


def loop_in_process(model: Path, threads: int, seconds: float) -> dict:
    """The same model in a Python process of its own: `threads` loops on one session, with nothing between."""
    command = [sys.executable, Path(__file__).with_name("inprocess.py"), model, str(threads), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds * 2 + 60)
    return json.loads(done.stdout)


def report(servers, runs, memory, images, options) -> str:
    """The page, with the command, the machine and the date."""
    median = {key: middle(results) for key, results in runs.items()}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Serving: Berth, Triton and MLServer",
        "",
        f"Written by `make bench-serving` on {today}; {systems.machine()}. Client and servers share the cores.",
        f"Each number is the median of {options.rounds} interleaved rounds of {options.seconds:g} s. "
        "One iris row a request, the same ONNX file for all, every answer checked. "
        "Closed loop: each connection has one request under way.",
        "",
        *[f"- **{server.name}**: {server.about}" for server in servers],
        "",
    ]
    for protocol in (JSON, BINARY, GRPC):
        named = [server.name for server in servers if protocol in server.protocols]
        lines += [
            f"## {protocol}",
            "",
            "| connections | system | requests/s | p50 ms | p99 ms | Berth is |",
            "|---:|---|---:|---:|---:|---:|",
        ]
        for connections in CONNECTIONS:
            berth = median.get(("Berth", protocol, connections))
            for name in named:
                lines.append(row(connections, name, median[name, protocol, connections], berth))
        lines.append("")
    lines += ["## Memory", "", "Proportional set size of all processes of each system, MiB.", ""]
    lines += ["| system | idle, one model | after the load |", "|---|---:|---:|"]
    lines += [f"| {name} | {sizes['idle']:.0f} | {sizes['loaded']:.0f} |" for name, sizes in memory.items()]
    if images:
        lines += ["", *image_lines(images)]
    return "\n".join(lines) + "\n"


def row(connections: int, name: str, result: dict, berth: dict | None) -> str:
    ratio = f"{berth['requests_per_second'] / result['requests_per_second']:.2f}×" if berth and name != "Berth" else ""
    rate = f"{result['requests_per_second']:,.0f}"
    return (
        f"| {connections} | {name} | {rate} | {result['p50_us'] / 1000:.2f} | {result['p99_us'] / 1000:.2f} | {ratio} |"
    )


def image_lines(images: dict[Key, list[dict]]) -> list[str]:
    median = {key: middle(results) for key, results in images.items()}
    lines = ["## EfficientNet-Lite0, one picture of 224 by 224 a request", ""]
    lines += [
        "Against loops on one onnxruntime session inside one Python process, without any protocol; the quicker of",
        "onnxruntime's own number of threads and one thread a call.",
        "",
    ]
    lines += [
        "| connections or loops | system | protocol | pictures/s | p50 ms | p99 ms | of the loop |",
        "|---:|---|---|---:|---:|---:|---:|",
    ]
    for (name, protocol, connections), result in sorted(median.items(), key=lambda item: item[0][2]):
        loop = median["onnxruntime in process", "", connections]["requests_per_second"]
        rate, share = result["requests_per_second"], result["requests_per_second"] / loop
        lines.append(
            f"| {connections} | {name} | {protocol} | {rate:.1f} "
            f"| {result['p50_us'] / 1000:.1f} | {result['p99_us'] / 1000:.1f} | {share:.2f} |"
        )
    return lines


def middle(results: list[dict]) -> dict:
    fields = ("requests_per_second", "p50_us", "p99_us")
    return {field: statistics.median(result[field] for result in results) for field in fields}


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
