"""`berth simulate`: policies side by side, from the executable, without a running platform."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.platform import executable

LOAD = "seconds,rate\n0,30\n60,150\n180,20\n240,20\n"
MANIFEST = """\
apiVersion: berth.dev/v1alpha1
kind: InferenceService
metadata: {name: spam}
spec:
  predictor:
    minReplicas: 2
    containerConcurrency: 4
    timeout: 5
    model:
      modelFormat: {name: onnx}
      storageUri: file:///models/spam.onnx
"""


@pytest.fixture
def load(tmp_path: Path) -> Path:
    path = tmp_path / "load.csv"
    path.write_text(LOAD)
    return path


def run(*arguments: Any, code: int = 0) -> subprocess.CompletedProcess:
    command = [executable(), "simulate", *map(str, arguments)]
    env = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_table_has_a_row_for_each_policy(load: Path) -> None:
    lines = run("--load", load, "--max-replicas", 8).stdout.splitlines()
    assert lines[0].split()[:4] == ["POLICY", "OVER", "REPLICAS", "MOST"]
    assert [line.split()[0] for line in lines[1:]] == ["berth", "kpa", "hpa", "dm"]


def test_a_run_is_repeatable_and_a_seed_changes_it(load: Path) -> None:
    arguments = ["--load", load, "--max-replicas", 8, "--service-ms", "20:40", "-o", "json"]
    first = run(*arguments).stdout
    assert first == run(*arguments).stdout
    assert first != run(*arguments, "--seed", 2).stdout
    report = json.loads(first)
    assert report["seconds"] == 300
    for policy in report["policies"]:
        assert policy["requests"] == policy["answered"] + policy["refused"] + policy["timedOut"]
        assert 0 <= policy["intervalsOver"] <= 1 and len(policy["intervals"]) == 30
        assert abs(policy["replicasMean"] * 300 / 3600 - policy["replicaHours"]) < 1e-6
        assert policy["decisions"] == []


def test_the_manifest_holds_where_no_option_says_otherwise(load: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "service.yaml"
    manifest.write_text(MANIFEST)

    def replicas(*arguments: Any) -> float:
        done = run("--load", load, "--until", 60, "--manifest", manifest, "--policy", "berth", *arguments, "-o", "json")
        return json.loads(done.stdout)["policies"][0]["replicasMean"]

    # 30 requests of 20 ms each second keep one of eight places busy.
    assert replicas() == 2
    assert replicas("--min-replicas", 1) == 1
    manifest.write_text(MANIFEST.replace("minReplicas", "minimumReplicas"))
    assert "minimumReplicas" in run("--load", load, "--manifest", manifest, code=5).stderr


def test_plot_and_reasons(load: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    done = run("--load", load, "--policy", "berth,kpa", "--max-replicas", 8, "--plot", plot, "--explain")
    assert "keep 99 of 100 within 100 ms" in done.stdout and "panic window" in done.stdout
    root = ElementTree.parse(plot).getroot()
    assert root.tag.endswith("svg")
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 7


def test_single_arrivals_and_measured_times(tmp_path: Path) -> None:
    arrivals = tmp_path / "arrivals.csv"
    rows = [f"2026-01-01 00:{at // 60:02}:{at % 60:02}.5,7,1" for at in range(0, 600, 2)]
    arrivals.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    times = tmp_path / "times.txt"
    times.write_text("12\n15.5\n40\n")
    arguments = ["--load", arrivals, "--service-times", times, "--policy", "kpa", "-o", "json"]
    exact = json.loads(run(*arguments).stdout)["policies"][0]
    assert exact["requests"] == exact["answered"] == 300
    scaled = json.loads(run(*arguments, "--scale", 20, "--max-replicas", 4).stdout)["policies"][0]
    assert 5500 < scaled["requests"] < 6500


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "there are no rows"), ("0,1\n5,x\n", "line 2: `x`"), ("5,1\n0,1\n", "line 2: it is before the row above")],
)
def test_what_is_no_load_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    load = tmp_path / "wrong.csv"
    load.write_text(text)
    assert says in run("--load", load, code=5).stderr


def test_wrong_usage_is_said(load: Path) -> None:
    assert "is no number above 0" in run("--load", load, "--service-ms", "quick", code=2).stderr
    assert "more than the most" in run("--load", load, "--min-replicas", 9, "--max-replicas", 2, code=2).stderr
    assert "no such file" in run("--load", load.with_name("none.csv"), code=1).stderr
