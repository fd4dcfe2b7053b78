"""What `make up` runs: the answer in words, lines that work as printed, Ctrl-C, and a second time that finds everything."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cache, procs
from harness.platform import Platform, executable

SCRIPT = cache.ROOT / "examples" / "up.py"


class Up:
    """One run of the script in the foreground of nothing: as a terminal would, it gets SIGINT and its output is read."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.log = folder / "up.log"
        self.log.write_text("")
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        env |= {"BERTH_DATA_DIR": str(folder / "d"), "BERTH_LISTEN": "127.0.0.1:0"}
        env |= {name: os.environ[name] for name in ("BERTH_ONNXRUNTIME",) if name in os.environ}
        self.env = env
        with self.log.open("ab") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen([sys.executable, SCRIPT, executable(), bundle], env=env, **streams)

    def said(self) -> str:
        """Everything up to how to stop."""

        def whole() -> str | None:
            text = self.log.read_text()
            assert self.process.poll() is None, text
            return text if "Stop:" in text else None

        return procs.wait_until(whole, "the example to answer", 120)

    def run(self, line: str) -> dict:
        """Runs a line as printed."""
        done = subprocess.run(["sh", "-c", line], env=self.env, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    def berth(self, *arguments: str) -> str:
        return subprocess.run([executable(), *arguments], env=self.env, capture_output=True, text=True, check=True, timeout=60).stdout

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def folder() -> Iterator[Path]:
    # A short path: a Unix socket's may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="berth-", dir="/tmp"))
    yield folder
    left = Platform(data_dir=folder / "d")
    left.kill_all()
    shutil.rmtree(folder, ignore_errors=True)


def test_up_twice(folder: Path, example: Path):
    first = Up(folder, example)
    text = first.said()
    assert re.search(r"is malignant: malignant \d+\.\d%, benign \d+\.\d%", text), text
    key = (folder / "d" / "local.key").read_text().strip()
    assert key in text and str(folder / "d") in text and "Ctrl-C" in text
    (curl,) = re.findall(r"^  (curl .*)$", text, re.MULTILINE)
    (python,) = re.findall(r"^  (python3 .*)$", text, re.MULTILINE)
    by_curl, by_python = first.run(curl), first.run(python)
    assert by_curl["outputs"] == by_python["outputs"]
    before = json.loads(first.berth("get", "breast-cancer", "-o", "json"))
    assert first.interrupt() == 0, first.log.read_text()
    procs.wait_until(lambda: not procs.processes_naming(str(folder / "d")), "nothing to be left running", 30)

    second = Up(folder, example)
    again = second.said()
    assert key in again
    after = json.loads(second.berth("get", "breast-cancer", "-o", "json"))
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["latestCreatedRevision"] == before["status"]["latestCreatedRevision"]
    assert second.interrupt() == 0, second.log.read_text()
