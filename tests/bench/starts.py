"""`make bench-starts`: from zero to the first answer, with and without a warm pool; writes docs/benchmarks/starts.md.

Each start is one request to a service that has no replica: services with `minReplicas: 0` that have been idle until they had
none, asked one after the other. `--from kill` measures the same way without waiting: the one replica of a service is killed
while the request is on its way. Needs the release build of `berth`.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import systems
from bench.serving import say
from harness import cache, cases, procs
from harness.platform import Platform
from models.efficientnet import image

REPORT = cache.ROOT / "docs" / "benchmarks" / "starts.md"
# Services that are made, become idle and are asked in one go.
BATCH = 10
# Scaling down waits for 30 s without requests, or a minute after a burst.
ZERO_SECONDS = 300
STEPS = ("decided and told", "process, ONNX Runtime, sandbox", "session and first run", "checks", "seen, routed, answered")
AIMS_MS = {"iris": 150, "efficientnet": 400}
POOLS = (0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=50, help="of each model, with and without the pool")
    parser.add_argument("--from", dest="way", choices=("zero", "kill"), default="zero")
    parser.add_argument("--berth", type=Path, default=systems.load_generator().with_name("berth"))
    parser.add_argument("--print", action="store_true", help="write nothing")
    options = parser.parse_args()
    os.environ["BERTH_BIN"] = str(options.berth)
    models = {
        "iris": (cache.models_dir() / "iris.onnx", {"input": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)}),
        "efficientnet": (cache.models_dir() / "efficientnet-lite0.onnx", {"image": image(1)}),
    }
    measured, memory, load = {}, {}, os.getloadavg()[0]
    for pool in POOLS:
        platform = Platform("--warm-pool", str(pool))
        try:
            platform.start()
            procs.wait_until(lambda: len(platform.waiting_pids()) == pool, "the warm pool")
            memory[pool] = idle_memory(platform)
            for name, (model, arrays) in models.items():
                say(f"{name}, {options.starts} starts, a warm pool of {pool}")
                measured[name, pool] = list(starts(platform, name, model, arrays, options))
        finally:
            platform.destroy()
    page = report(measured, memory, load, options)
    print(page)
    if not options.print:
        REPORT.write_text(page)


def idle_memory(platform: Platform) -> dict[str, float]:
    """MiB of every kind of process, shared pages counted in parts."""
    found = {"controller": [platform.pid_of("controller")], "gateway": [platform.pid_of("gateway")]}
    found["warm pool"] = platform.waiting_pids()
    return {role: procs.pss_kib(pids) / 1024 for role, pids in found.items()}


def starts(platform: Platform, name: str, model: Path, arrays: dict, options) -> Iterator[dict[str, float]]:
    """One start after the other, of services that have no replica."""
    head, body = request_of(arrays)
    wanted = expected(model, arrays)
    done = 0
    while done < options.starts:
        names = [f"{name}-{number}" for number in range(done, min(done + BATCH, options.starts))]
        for service in names:
            platform.deploy(service, model, minReplicas=0 if options.way == "zero" else 1)
        if options.way == "zero":
            for service in names:
                procs.wait_until(lambda: not replicas(platform, service), f"`{service}` to be at zero", ZERO_SECONDS)
        for service in names:
            yield one_start(platform, service, (head, body, wanted), options)
        for service in names:
            platform.api("DELETE", f"/inferenceservices/{service}")
        procs.wait_until(lambda: not platform.runtime_pids(), "the replicas to be gone", ZERO_SECONDS)
        done += len(names)


def one_start(platform: Platform, service: str, exchange: tuple, options) -> dict[str, float]:
    """Milliseconds from the request, or the kill, to its answer, and of each step."""
    head, body, wanted = exchange
    size = platform.status()["warmPool"]["size"]
    procs.wait_until(lambda: len(platform.waiting_pids()) == size, "the warm pool to be full")
    session = requests.Session()
    session.headers.update(platform.headers)
    # The connection is there, the replica is not.
    session.get(f"{platform.url}/v2", timeout=10)
    earlier = {replica["id"] for replica in replicas(platform, service)}
    begun = time.time()
    if options.way == "kill":
        for replica in replicas(platform, service):
            procs.kill(replica["pid"])
    answer = session.post(f"{platform.url}/v2/models/{service}/infer", data=body, headers=head, timeout=60)
    ended = time.time()
    assert answer.status_code == 200, answer.text
    check(answer, wanted)
    (replica,) = [found for found in replicas(platform, service) if found["id"] not in earlier]
    return {"total": (ended - begun) * 1000, **steps(platform, service, replica["id"], (begun, ended))}


def steps(platform: Platform, service: str, replica: str, ends: tuple[float, float]) -> dict[str, float]:
    """Where the time went, by the controller's event and the replica's log."""
    events = platform.api("GET", f"/events?service={service}&limit=100")["items"]
    told = [e for e in events if e["reason"] == "ReplicaStarted" and e["message"].startswith(f"{replica} ")]
    log = [json.loads(line) for line in (platform.data / "logs" / f"{replica}.log").read_text().splitlines()]
    messages = ("restricted, loading the model", "model measured", "model ready")
    said = [next(seconds(line["timestamp"]) for line in log if line["message"] == message) for message in messages]
    # A warm process may be at work before the controller has written down that it told it.
    marks = [ends[0], min(seconds(told[0]["time"]), said[0]), *said, ends[1]]
    return {step: (after - before) * 1000 for step, before, after in zip(STEPS, marks, marks[1:], strict=False)}


def seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def replicas(platform: Platform, service: str) -> list[dict]:
    return (platform.service(service).get("status") or {}).get("replicas", [])


def request_of(arrays: dict[str, np.ndarray]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request with binary tensors."""
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes}}
        for name, array in arrays.items()
    ]
    header = json.dumps({"inputs": inputs}).encode()
    body = header + b"".join(array.tobytes() for array in arrays.values())
    return {"inference-header-content-length": str(len(header))}, body


def expected(model: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    engine = cases.loaded(model)
    names = [output.name for output in engine.get_outputs()]
    return dict(zip(names, engine.run(names, arrays), strict=True))


def check(answer: requests.Response, wanted: dict[str, np.ndarray]) -> None:
    """A quick start that answers wrongly wins nothing."""
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    for name, array in wanted.items():
        np.testing.assert_allclose(np.ravel(outputs[name]), np.ravel(array), rtol=1e-3, atol=1e-4)


def quantile(numbers: list[float], percent: int) -> float:
    return statistics.quantiles(numbers, n=100, method="inclusive")[percent - 1]


def report(measured: dict, memory: dict, load: float, options) -> str:
    """The page, with the command, the machine and the date."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    of = {
        "zero": "Each service has `minReplicas: 0` and no replica when its request arrives; the gateway holds the request.",
        "kill": "The one replica of each service is killed while its request arrives; the gateway holds the request.",
    }
    lines = [
        "# Starts: from no replica to the first answer",
        "",
        f"Written by `make bench-starts` on {today}, `--from {options.way}`; {systems.machine()}. "
        f"Client and servers share the cores; the load average was {load:.1f} when it began.",
        f"{options.starts} starts of each model, one after the other, through the gateway with a key; every answer is checked. "
        f"{of[options.way]}",
        "Every bundle has been served before, so that its trials are remembered; its files are hashed at each start all the same.",
        "",
        "| model | warm pool | p50 ms | p99 ms | aim, p50 |",
        "|---|---:|---:|---:|---:|",
    ]
    for (name, pool), runs in measured.items():
        totals = [run["total"] for run in runs]
        lines.append(f"| {name} | {pool} | {quantile(totals, 50):.0f} | {quantile(totals, 99):.0f} | {AIMS_MS[name]} |")
    lines += ["", "## Where the time goes", "", "Median milliseconds of each step.", ""]
    lines += ["| step | " + " | ".join(f"{name}, pool {pool}" for name, pool in measured) + " |"]
    lines += ["|---|" + "---:|" * len(measured)]
    for step in STEPS:
        cells = [f"{statistics.median(run[step] for run in runs):.0f}" for runs in measured.values()]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    lines += [
        "",
        "- **decided and told**: the request waits; the controller learns of it, writes the replica down and starts its process or tells "
        "a warm one.",
        "- **process, ONNX Runtime, sandbox**: program and library are loaded, the library's digest checked, the process restricted. A "
        "warm process has only the last left to do.",
        "- **session and first run**: the bundle is hashed and read, the graph optimised, a request run.",
        "- **checks**: further sessions, golden cases, and the trials where none are remembered.",
        "- **seen, routed, answered**: the controller hears that the replica is ready, the gateway gets the new routes and hands the "
        "request on.",
        "",
        "## Memory of an idle platform",
        "",
        "Proportional set size, MiB, before any model is served.",
        "",
        "| warm pool | controller | gateway | processes that wait | together |",
        "|---:|---:|---:|---:|---:|",
    ]
    for pool, sizes in memory.items():
        cells = [f"{size:.0f}" for size in (*sizes.values(), sum(sizes.values()))]
        lines.append(f"| {pool} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
