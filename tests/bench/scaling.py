"""`make bench-scaling`: Berth beside the KPA, the HPA and the DM rule under public loads; writes docs/benchmarks/scaling.md.

Service and start-up times are measured on this machine first, at a runtime with EfficientNet-Lite0. The loads are those of
the Dynamic Multi-level rule's own experiments and the arrivals of Azure's LLM service; none of them was looked at for
tuning, but the first half of Azure's arrivals, of which the second is reported.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http as httpclient

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import systems
from harness import cache
from models.efficientnet import image

REPORT = cache.ROOT / "docs" / "benchmarks" / "scaling.md"
REPLICAS_MAX = 12
# Replicas' worth of work at a load's peak: what the published experiments needed.
PEAK_REPLICAS = 5
OBJECTIVE_MS = 25
POLICIES = ("berth", "kpa", "hpa", "dm")
NAMES = {
    "berth": "Berth",
    "kpa": "Knative KPA",
    "hpa": "Kubernetes HPA",
    "dm": "DM, by the p99",
    "dm-mean": "DM, by the mean",
}


@dataclass
class Load:
    name: str
    about: str
    file: str
    peak_per_second: float
    arguments: tuple[str, ...] = ()


LOADS = (
    Load("slow", "slow rise and fall", "autoscaling/workload_exp1.csv", 1500 / 6),
    Load("drastic", "one drastic change", "autoscaling/workload_exp2.csv", 1500 / 6),
    Load("on-off", "on and off", "autoscaling/workload_exp3.csv", 1500 / 6),
    # The busiest minute has 632 requests; half of the hour is 1729 s.
    Load("azure", "Azure LLM arrivals, second half", "arrivals/azure_llm_code_2023.csv", 632 / 60, ("--from", "1729")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BERTH_BENCH_DATA", cache.cache_dir() / "bench-data"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000, help="whose service times are measured")
    parser.add_argument("--berth", type=Path, default=systems.load_generator().with_name("berth"))
    options = parser.parse_args()
    if missing := [load.file for load in LOADS if not (options.data / load.file).exists()]:
        raise SystemExit(f"`{options.data}` has no {', '.join(missing)}: name the folder in BERTH_BENCH_DATA")
    service, starts = measure(options)
    start = statistics.median(starts)
    with tempfile.TemporaryDirectory(prefix="berth-bench-", dir="/tmp") as folder:
        times = Path(folder) / "times"
        times.write_text("\n".join(f"{ms:.4f}" for ms in service))
        # Rounded as it is shown, so that the page says what was simulated.
        tables = {
            (seconds, interval): simulate_all(options, times, seconds, interval)
            for seconds, interval in [(round(start, 2), 10), (10, 10), (30, 10), (round(start, 2), 30)]
        }
        picture(options, times, round(start, 2))
    text = report(service, starts, tables, options)
    print(text)
    REPORT.write_text(text)


def measure(options) -> tuple[list[float], list[float]]:
    """Times of requests one after another, and of starts from the command to the first answer."""
    model = cache.models_dir() / "efficientnet-lite0.onnx"
    starts, service = [], []
    for number in range(7):
        runtime = systems.BerthRuntime(options.berth, {"efficientnet": model})
        began = time.perf_counter()
        try:
            runtime.start()
            tensor = httpclient.InferInput("image", [1, 3, 224, 224], "FP32")
            tensor.set_data_from_numpy(np.asarray(image(1), np.float32))
            client = httpclient.InferenceServerClient(runtime.http)
            client.infer("efficientnet", [tensor])
            starts.append(time.perf_counter() - began)
            for _ in range(options.requests // 7 + 1):
                began = time.perf_counter()
                client.infer("efficientnet", [tensor])
                service.append((time.perf_counter() - began) * 1000)
            client.close()
        finally:
            runtime.stop()
        say(f"start {number + 1} of 7 took {starts[-1]:.2f} s")
    return service, starts


def simulate_all(options, times: Path, start: float, interval: int) -> dict[tuple[str, str], dict]:
    """Means over the seeds, for every load and policy."""
    results = {}
    for load in LOADS:
        for policy in NAMES:
            runs = [simulate(options, times, load, policy, start, interval, seed) for seed in range(1, options.seeds + 1)]
            fields = ("intervalsOver", "intervalsOverInMean", "replicasMean", "changes", "lost")
            results[load.name, policy] = {field: statistics.mean(run[field] for run in runs) for field in fields}
        say(f"{load.name}, start of {start:g} s, intervals of {interval} s: done")
    return results


def simulate(options, times: Path, load: Load, policy: str, start: float, interval: int, seed: int) -> dict:
    arguments = command(options, times, load, start, interval, seed)
    name, _, response = policy.partition("-")
    arguments += ["--policy", name, "--dm-response", response or "p99", "-o", "json"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300)
    (result,) = json.loads(done.stdout)["policies"]
    result["lost"] = (result["refused"] + result["timedOut"]) / result["requests"]
    return result


def command(options, times: Path, load: Load, start: float, interval: int, seed: int) -> list[str]:
    mean = statistics.mean(float(line) for line in times.read_text().split())
    scale = PEAK_REPLICAS / (mean / 1000) / load.peak_per_second
    arguments = ["--load", options.data / load.file, "--scale", scale, "--service-times", times]
    arguments += ["--start-seconds", start, "--p99-ms", OBJECTIVE_MS, "--max-replicas", REPLICAS_MAX]
    arguments += ["--interval", interval, "--seed", seed, *load.arguments]
    return [str(options.berth), "simulate", *map(str, arguments)]


def picture(options, times: Path, start: float) -> None:
    arguments = command(options, times, LOADS[2], start, 10, 1)
    arguments += ["--policy", ",".join(POLICIES), "--plot", REPORT.with_suffix(".svg")]
    subprocess.run(list(map(str, arguments)), capture_output=True, check=True, timeout=300)


def report(service: list[float], starts: list[float], tables: dict, options) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    p50, p99 = np.percentile(service, [50, 99])
    lines = [
        "# Scaling: Berth, Knative's KPA, Kubernetes' HPA and the DM rule",
        "",
        f"Written by `make bench-scaling` on {today}; {systems.machine()}. Simulated by `berth simulate`, each number the mean of",
        f"{options.seeds} seeds. Measured on this machine and then simulated with: {len(service)} service times of EfficientNet-Lite0 at one",
        f"runtime (mean {statistics.mean(service):.2f} ms, p50 {p50:.2f}, p99 {p99:.2f}), and {len(starts)} starts from the command to the first answer",
        f"(median {statistics.median(starts):.2f} s, longest {max(starts):.2f} s).",
        "",
        f"- **Objective**: 99 of 100 requests of an interval answered within {OBJECTIVE_MS} ms. *Over* is the share of intervals that miss it;",
        "  a refused request is a late one. *Over in the mean* takes the mean response time, as the DM rule's authors did.",
        f"- **Loads**, scaled so that the peak is the work of {PEAK_REPLICAS} replicas, as in the published experiments; at most {REPLICAS_MAX} replicas, one",
        "  request at a time each, 1024 waiting requests: " + "; ".join(f"*{load.name}* ({load.about})" for load in LOADS) + ".",
        "  Azure's single arrivals are counted over 10 s first, and its peak is the busiest minute.",
        "- **Berth**: `--p99-ms`, and nothing else. **KPA**: concurrency at 70 %, windows of 60 s and 6 s, panic at 200 %, every 2 s.",
        "  **HPA**: CPU at 80 %, every 15 s, stabilization of 300 s. **DM**: CPU over 80 % and response time over 95 % of the objective,",
        "  every 30 s, by the p99 (the objective's own measure) or by the mean (as published). All see the same start-up time;",
        "  none pays for measuring. [Scaling](../guide/scaling.md) says what each does.",
        "- **Tuning**: Berth's constants were chosen on made-up loads (a sine, steps, a saw, spikes) and the first half of Azure's",
        "  arrivals. The loads below were only reported on.",
        "",
        "![The on-off load over time](scaling.svg)",
    ]
    for (start, interval), results in tables.items():
        lines += ["", f"## Replicas that start in {start:g} s, intervals of {interval} s", ""]
        lines += ["| load | policy | over | over in the mean | replicas | requests lost | changes |", "|---|---|---:|---:|---:|---:|---:|"]
        for load in LOADS:
            lines += [row(load.name, policy, results[load.name, policy]) for policy in NAMES]
        lines += ["", verdict(results)]
    return "\n".join(lines) + "\n"


def row(load: str, policy: str, result: dict) -> str:
    percent = [f"{result[field] * 100:.1f} %" for field in ("intervalsOver", "intervalsOverInMean", "lost")]
    replicas = f"{result['replicasMean']:.2f}"
    return f"| {load} | {NAMES[policy]} | {percent[0]} | {percent[1]} | {replicas} | {percent[2]} | {result['changes']:.0f} |"


def verdict(results: dict) -> str:
    """The aim, judged load by load against the DM rule by the p99."""
    parts = []
    for load in LOADS:
        berth, dm = results[load.name, "berth"], results[load.name, "dm"]
        share = berth["intervalsOver"] / dm["intervalsOver"] if dm["intervalsOver"] else float("inf")
        more = berth["replicasMean"] - dm["replicasMean"]
        met = "met" if share <= 0.5 and more <= 0 else "missed"
        parts.append(f"{load.name} {share:.2f} of DM's with {more:+.2f} replicas, {met}")
    return "At most half of DM's intervals over with no more replicas: " + "; ".join(parts) + "."


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
