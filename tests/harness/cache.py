"""Where the tests keep what they install and make. Standard library only: the environment is made with it."""

import hashlib
import os
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
REQUIREMENTS = TESTS / "requirements.txt"
# Its pytest and its hypothesis are of other versions than those of the tests may be one day.
SCHEMATHESIS = TESTS / "requirements-schemathesis.txt"


def cache_dir() -> Path:
    """The cache of the project on this machine: `BERTH_CACHE`, else `~/.cache/berth`."""
    return Path(os.environ.get("BERTH_CACHE") or Path.home() / ".cache" / "berth")


def digest_of(*paths: Path, also: str = "") -> str:
    """A short digest over files, names and contents; what is kept is keyed by it."""
    digest = hashlib.sha256(also.encode())
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def venv_dir(requirements: Path = REQUIREMENTS) -> Path:
    """The virtual environment of the tests, one for each list of requirements and Python."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cache_dir() / f"venv-tests-{digest_of(requirements, also=python)}"


def models_dir() -> Path:
    """Models made by `tests/models`, one folder for each state of the makers."""
    makers = [*(TESTS / "models").glob("*.py"), TESTS / "requirements.txt"]
    return cache_dir() / f"models-tests-{digest_of(*makers)}"


def packages_dir() -> Path:
    """Model files taken out of packages."""
    return cache_dir() / "packages"
