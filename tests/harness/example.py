"""The example that `make up` serves, trained by the project's own script."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from harness import cache

FOLDER = cache.ROOT / "examples" / "breast-cancer"


def example_bundle() -> Path:
    """Trains the example into the cache, once for each state of its script."""
    script = FOLDER / "train.py"
    bundle = cache.cache_dir() / f"example-tests-{cache.digest_of(script)}"
    if not (bundle / "model.onnx").exists():
        subprocess.run([sys.executable, script, "--out", bundle], check=True)
    return bundle


def golden_case(bundle: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and outputs of the first golden case."""
    case = json.loads((bundle / "golden.json").read_text())["cases"][0]
    return tensors(case["request"]["inputs"]), tensors(case["response"]["outputs"])


def tensors(described: list[dict]) -> dict[str, np.ndarray]:
    kinds = {"FP32": np.float32, "INT64": np.int64, "BYTES": np.object_}
    return {one["name"]: np.array(one["data"], kinds[one["datatype"]]).reshape(one["shape"]) for one in described}
