"""`make bench-batching`: MiniLM with 32 clients on Berth and on Triton; writes docs/benchmarks/batching.md.

The rounds are interleaved, system after system, and each number is the median of its rounds. Needs the build
for installation of `berth` and `berth-load`.
"""

import argparse
import datetime
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import np_to_triton_dtype

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import serving, systems
from bench.systems import BINARY, GRPC, BerthPlatform, System, TritonMiniLm
from harness import cache, cases

REPORT = cache.ROOT / "docs" / "benchmarks" / "batching.md"
CLIENTS = 32
TOKENS = (16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of each measurement, after a third of that to warm up"
    )
    parser.add_argument("--berth", type=Path, default=systems.load_generator().with_name("berth"))
    options = parser.parse_args()
    model = cache.packages_dir() / "minilm-int8.onnx"
    cores = os.cpu_count() or 1
    servers = [BerthPlatform(options.berth, {"minilm": model}), TritonMiniLm(model, 1), TritonMiniLm(model, cores)]
    runs = defaultdict(list)
    try:
        for server in servers:
            serving.say(f"starting {server.name}")
            server.start()
            check_answers(server, model)
        for number in range(options.rounds):
            for tokens in TOKENS:
                for protocol in (BINARY, GRPC):
                    for server in servers:
                        result = serving.load(server, "minilm", text(tokens), protocol, CLIENTS, options.seconds)
                        runs[server.name, protocol, tokens].append(result)
            serving.say(f"round {number + 1} of {options.rounds}: done")
    finally:
        for server in servers:
            server.stop()
    page = report(servers, {key: serving.middle(results) for key, results in runs.items()}, options)
    print(page)
    REPORT.write_text(page)


def text(tokens: int) -> dict[str, np.ndarray]:
    """One text of so many tokens."""
    ids = np.random.default_rng(tokens).integers(1000, 20000, (1, tokens))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def check_answers(server: System, model: Path) -> None:
    """A quick server that is wrong wins nothing."""
    client = grpcclient.InferenceServerClient(server.grpc)
    for tokens in TOKENS:
        arrays = text(tokens)
        (expected,) = cases.loaded(model).run(["last_hidden_state"], arrays)
        tensors = []
        for name, array in arrays.items():
            tensors.append(grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
            tensors[-1].set_data_from_numpy(array)
        result = client.infer("minilm", tensors, headers=server.headers)
        np.testing.assert_allclose(result.as_numpy("last_hidden_state"), expected, rtol=1e-3, atol=1e-4)
    client.close()


def report(servers: list[System], median: dict, options) -> str:
    """The page, with the command, the machine and the date."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Batching: MiniLM on Berth and Triton",
        "",
        f"Written by `make bench-batching` on {today}; {systems.machine()}. Client and servers share the cores.",
        f"Each number is the median of {options.rounds} interleaved rounds of {options.seconds:g} s. {CLIENTS} clients, "
        "one text a request, each with one request under way; the same ONNX file (int8 weights) and onnxruntime for all, "
        "the answers of each checked before.",
        "",
        *[f"- **{server.name}**: {server.about}" for server in servers],
        "",
        "| tokens | protocol | system | texts/s | p50 ms | p99 ms | Berth is |",
        "|---:|---|---|---:|---:|---:|---:|",
    ]
    for tokens in TOKENS:
        for protocol in (BINARY, GRPC):
            ours = median[servers[0].name, protocol, tokens]["requests_per_second"]
            for server in servers:
                result = median[server.name, protocol, tokens]
                rate = result["requests_per_second"]
                ratio = "" if server is servers[0] else f"{ours / rate:.2f}×"
                lines.append(
                    f"| {tokens} | {protocol} | {server.name} | {rate:,.1f} | {result['p50_us'] / 1000:.1f} "
                    f"| {result['p99_us'] / 1000:.1f} | {ratio} |"
                )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
