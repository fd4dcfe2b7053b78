"""Fixtures: one shared platform for tests that only ask, one for each module that changes or kills things."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cache, cases
from harness.example import example_bundle
from harness.platform import Platform, executable
from models.small import DATATYPES

SERVED = {
    "simple": cases.made("simple.onnx"),
    "simple-string": cases.made("simple_string.onnx"),
    "simple-int8": cases.made("simple_int8.onnx"),
    "simple-identity": cases.made("simple_identity.onnx"),
    "mixed": cases.made("mixed.onnx"),
    "scalar": cases.made("scalar.onnx"),
    "busy": cases.made("busy.onnx"),
    "division": cases.made("division.onnx"),
    "external": cases.made("external"),
    **{f"identity-{name.lower()}": cases.made(f"identity-{name.lower()}.onnx") for name in DATATYPES},
    **{case.service: case.model for case in cases.REAL},
}


def pytest_configure(config: pytest.Config) -> None:
    if not executable().exists():
        pytest.exit(f"`{executable()}` is not there: build it with `cargo build`, or set BERTH_BIN", 3)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """A failed test shows the logs of the platforms that it used."""
    report = (yield).get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Platform):
                report.sections.append((f"logs of {name}", value.logs()))


@pytest.fixture(scope="session")
def models() -> Path:
    return cache.models_dir()


@pytest.fixture(scope="session")
def example() -> Path:
    """The bundle of the example that `make up` serves."""
    return example_bundle()


@pytest.fixture(scope="session")
def serving(example: Path) -> Iterator[Platform]:
    """A platform that serves every model. Tests that use it change nothing that others would see."""
    platform = Platform()
    try:
        platform.start()
        sources = {name: source() for name, source in SERVED.items()} | {"breast-cancer": example}
        for name, source in sources.items():
            platform.create(name, source)
        for name in sources:
            platform.wait_ready_at_first(name)
        yield platform
    finally:
        platform.destroy()


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """An empty platform for one module."""
    platform = Platform()
    try:
        yield platform.start()
    finally:
        platform.destroy()


@pytest.fixture
def fresh() -> Iterator[Platform]:
    """A platform that is not started yet, for one test."""
    platform = Platform()
    try:
        yield platform
    finally:
        platform.destroy()
