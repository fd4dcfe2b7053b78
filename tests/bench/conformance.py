"""`make conformance-peers`: `berth conformance` against Berth, Triton and MLServer with one model; writes docs/conformance.md.

The servers are installed and started as for the benchmarks; `systems.py` says how.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import systems
from bench.systems import BerthPlatform, MlServer, System, Triton
from harness import cache

REPORT = cache.ROOT / "docs" / "conformance.md"
LEVELS = ("required", "optional", "extension")
MARKS = {"pass": "pass", "fail": "**fail**", "skip": "–"}
RUN_SECONDS = 300
DETAIL_CHARS_MAX = 240


class CarefulMlServer(MlServer):
    """With metadata, which the suite makes its requests of, and a runtime that looks at names."""

    about = "MLServer 1.7.1, a custom runtime calling onnxruntime that looks inputs and outputs up by name; metadata from its settings"
    script = "mlserver_careful.py"
    described = {
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="systems whose name contains this text; nothing is written")
    parser.add_argument("--berth", type=Path, default=systems.load_generator().with_name("berth"))
    options = parser.parse_args()
    iris = cache.models_dir() / "iris.onnx"
    servers = [BerthPlatform(options.berth, {"iris": iris}), Triton(iris), CarefulMlServer(iris)]
    servers = [server for server in servers if not options.only or options.only.lower() in server.name.lower()]
    results = {server.name: examine(server, options.berth) for server in servers}
    text = report(servers, results)
    print(text)
    if not options.only:
        REPORT.write_text(text)


def examine(server: System, berth: Path) -> dict:
    """Starts a server, runs the suite and gives its report, with what the server says of itself."""
    print(f"conformance: {server.name}", file=sys.stderr, flush=True)
    try:
        server.start()
        key = {"BERTH_API_KEY": server.headers["authorization"].removeprefix("Bearer ")} if server.headers else {}
        command = [berth, "conformance", f"http://{server.http}", "--grpc", server.grpc, "--model", "iris", "-o", "json"]
        environment = {name: value for name, value in os.environ.items() if name != "BERTH_API_KEY"} | key
        metadata = requests.get(f"http://{server.http}/v2", headers=server.headers, timeout=30).json()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"`berth conformance` ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout) | {"server": metadata}
    finally:
        server.stop()


def report(servers: list[System], results: dict[str, dict]) -> str:
    names = list(results)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Conformance of Berth, Triton and MLServer",
        "",
        f"Written by `make conformance-peers` on {today}. The suite is [`berth conformance`](reference/conformance.md), which knows no server;",
        "the model is the iris classifier in ONNX, the same file for all.",
        "",
        "| System | Says of itself | Extensions that it names |",
        "|---|---|---|",
    ]
    for server in servers:
        metadata = results[server.name]["server"]
        extensions = ", ".join(f"`{name}`" for name in metadata.get("extensions", [])) or "none"
        lines.append(f"| {server.name}: {server.about} | `{metadata.get('name')}` {metadata.get('version')} | {extensions} |")
    lines += ["", "## In numbers", "", "Passed of those that apply.", "", "| Level | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for level in LEVELS:
        lines.append(f"| {level} | " + " | ".join(score(results[name], level) for name in names) + " |")
    lines += ["", "A check of an extension that a server does not name, or that the model gives no occasion for, does not apply."]
    for level in LEVELS:
        lines += ["", f"## {level.capitalize()}", "", "| Check | What must hold | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
        for check_id, title in checks(results, level).items():
            lines.append(f"| `{check_id}` | {title} | " + " | ".join(mark(results[name], check_id) for name in names) + " |")
    lines += ["", "## What was seen where a check failed", ""]
    lines += ["An error is answered as the protocol has it by a status from 400 on and the body `{\"error\": …}`.", ""]
    for name in names:
        for check in results[name]["checks"]:
            if check["outcome"] == "fail":
                lines.append(f"- {name}, `{check['id']}` ({check['clause']}): {shortened(check['detail'])}")
    return "\n".join(lines).rstrip() + "\n"


def score(result: dict, level: str) -> str:
    outcomes = [check["outcome"] for check in result["checks"] if check["level"] == level and check["outcome"] != "skip"]
    return f"{outcomes.count('pass')} of {len(outcomes)}"


def checks(results: dict[str, dict], level: str) -> dict[str, str]:
    """Every check of a level that applied anywhere, in the order of the suite."""
    every = [check for result in results.values() for check in result["checks"]]
    return {check["id"]: check["title"] for check in every if check["level"] == level and check["outcome"] != "skip"}


def mark(result: dict, check_id: str) -> str:
    outcome = next((check["outcome"] for check in result["checks"] if check["id"] == check_id), "skip")
    return MARKS[outcome]


def shortened(detail: str) -> str:
    text = " ".join(detail.split()).replace("|", "\\|")
    return text if len(text) <= DETAIL_CHARS_MAX else text[:DETAIL_CHARS_MAX] + " …"


if __name__ == "__main__":
    main()
