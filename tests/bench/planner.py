"""`make bench-planner`: how long a plan takes by the number of services; writes docs/benchmarks/planner.md."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import systems
from harness import cache

REPORT = cache.ROOT / "docs" / "benchmarks" / "planner.md"
COMMAND = ["cargo", "bench", "--locked", "--quiet", "--package", "planner", "--bench", "plan"]


def main() -> None:
    done = subprocess.run(COMMAND, cwd=cache.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    text = report(rows)
    print(text)
    REPORT.write_text(text)


def report(rows: list[dict]) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    first = rows[0]
    lines = [
        "# Planner: time by the number of services",
        "",
        f"Written by `make bench-planner` (`{' '.join(COMMAND)}`) on {today}; {systems.machine()}.",
        "",
        "Every service has two replicas that are ready; a thousand services have a new revision at once, so that the plan starts",
        f"{first['starts']} replicas. The reconcile loop makes a plan and checks its invariants in each pass. Medians of 15 runs; *times* is",
        "how many times the first row's, beside how many times its services.",
        "",
        "| Services | Replicas | Plan, ms | Check, ms | Both, ms | Services, times | Both, times |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    base = first["plan_ms"] + first["check_ms"]
    for row in rows:
        both = row["plan_ms"] + row["check_ms"]
        lines.append(
            f"| {row['services']:,} | {row['replicas']:,} | {row['plan_ms']:.1f} | {row['check_ms']:.1f} | {both:.1f} "
            f"| {row['services'] / first['services']:.0f} | {both / base:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
