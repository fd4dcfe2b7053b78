"""What the documents say works: each block marked `sh berth-test` is run, in order, a platform for each page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import cache
from harness.platform import Platform, executable

FENCE = re.compile(r"^```sh berth-test\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = cache.ROOT / "examples" / "breast-cancer"
# Where the documents say that Berth listens.
DOCUMENTED = "127.0.0.1:8080"


def blocks(page: Path) -> list[str]:
    return FENCE.findall(page.read_text())


PAGES = sorted(page for page in [cache.ROOT / "README.md", *(cache.ROOT / "docs").rglob("*.md")] if blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(cache.ROOT)))
def test_the_commands_of_a_page_work(fresh: Platform, example: Path, page: Path) -> None:
    folder = fresh.data.parent / "work"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "berth").symlink_to(executable())
    shutil.copytree(example, folder / "breast-cancer")
    for name in ("row.json", "rows.csv", "service.yaml"):
        shutil.copy(EXAMPLE / name, folder)
    fresh.start()
    env = {**fresh.env, "PATH": f"{folder / 'bin'}:{fresh.env['PATH']}"}
    for number, block in enumerate(blocks(page), 1):
        script = block.replace(DOCUMENTED, fresh.address)
        command = ["bash", "-eu", "-o", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"block {number}:\n{block}\n{done.stdout}\n{done.stderr}"


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for page in [*cache.ROOT.glob("*.md"), *(cache.ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(cache.ROOT)}: {target}")
    assert not broken
