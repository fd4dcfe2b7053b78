#!/usr/bin/env python3
"""Makes all that the whole-platform tests need, once; a second run finds it and needs no network.

Virtual environments with the pinned requirements, the model files of public packages, and the models made from them,
all under `BERTH_CACHE` (default `~/.cache/berth`). Prints the environment's Python as its last line.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness import cache
from models import packages


def main() -> None:
    if sys.version_info < (3, 11):
        raise SystemExit("the tests need Python 3.11 or newer")
    python = environment(cache.venv_dir(), cache.REQUIREMENTS)
    environment(cache.venv_dir(cache.SCHEMATHESIS), cache.SCHEMATHESIS)
    packages.fetch(python, cache.packages_dir())
    if not (cache.models_dir() / "complete").exists():
        print("tests: making the models", flush=True)
        subprocess.run([python, "-m", "models.make"], check=True, cwd=cache.TESTS)
    print(python)


def environment(venv: Path, requirements: Path) -> Path:
    """A virtual environment; one that was not finished is made anew."""
    python = venv / "bin" / "python"
    if (venv / "complete").exists():
        return python
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    print(f"tests: making a Python environment in {venv}", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", venv])
    if made.returncode != 0:
        raise SystemExit(
            "python's venv module is missing or incomplete: install it (Debian: apt-get install python3-venv)"
        )
    # Wheels only and no resolving: the list is whole, so what is installed is what it says.
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--progress-bar", progress_bar()]
    subprocess.run([python, "-m", "pip", "install", *options, "-r", requirements], check=True)
    (venv / "complete").touch()
    return python


def progress_bar() -> str:
    """pip's bar for people, its lines alone for logs."""
    return "on" if sys.stdout.isatty() and not os.environ.get("CI") else "off"


if __name__ == "__main__":
    main()
