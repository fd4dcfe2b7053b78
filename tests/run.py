#!/usr/bin/env python3
"""Runs the whole-platform tests with the built executable; arguments go to pytest. `make test` calls it.

BERTH_BIN names the executable (default: `debug/berth` of the cargo target directory), BERTH_KILLS how often the crash
test kills everything (default 200), BERTH_SEED its seed.
"""

import os
import subprocess
import sys

import setup_env
from harness import cache


def main() -> int:
    setup_env.main()
    python = cache.venv_dir() / "bin" / "python"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-m", "pytest", *sys.argv[1:]]
    return subprocess.run(command, cwd=cache.TESTS, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
