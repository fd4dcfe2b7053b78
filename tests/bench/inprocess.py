"""Loops on one onnxruntime session in one process: `inprocess.py MODEL THREADS SECONDS` prints a report as JSON."""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.efficientnet import image


def main() -> None:
    model, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    # Half of the time for each setting; the quicker one is the yardstick.
    results = [measure(model, threads, seconds / 2, intra) for intra in (0, 1)]
    print(json.dumps(max(results, key=lambda result: result["requests_per_second"])))


def measure(model: str, threads: int, seconds: float, intra: int) -> dict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    picture = {"image": image(1)}
    counts_from = time.perf_counter() + seconds / 3
    ends = counts_from + seconds
    latencies: list[float] = []

    def loop() -> None:
        while (started := time.perf_counter()) < ends:
            session.run(None, picture)
            done = time.perf_counter()
            if counts_from <= done <= ends:
                latencies.append(done - started)

    loops = [threading.Thread(target=loop) for _ in range(threads)]
    for one in loops:
        one.start()
    for one in loops:
        one.join()
    p50, p99 = np.percentile(latencies, [50, 99])
    return {"requests_per_second": len(latencies) / seconds, "p50_us": p50 * 1e6, "p99_us": p99 * 1e6, "intra": intra}


if __name__ == "__main__":
    main()
