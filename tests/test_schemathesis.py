"""Schemathesis, seeded and bounded, against the gateway: by the protocol's document, MLServer's, and Berth's own."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from harness import cache, cases, oip
from harness.platform import Platform

# Datatypes, fixed and free dimensions, text, and several inputs and outputs.
MODELS = {"iris": "iris.onnx", "mixed": "mixed.onnx", "simple": "simple.onnx", "scalar": "scalar.onnx"}
SEED = 20_240_611
EXAMPLES = 20
SECONDS = 300
# What a document says is met by requests that no model takes: that data fill a shape, and have a datatype's range, is no
# matter of JSON Schema. Wrong ones are refused (`negative_data_rejection`), and good ones are the matter of other tests.
NOT_SAID = "positive_data_acceptance"


@pytest.fixture(scope="module")
def platform():
    platform = Platform()
    try:
        platform.start()
        for name, file in MODELS.items():
            platform.create(name, cases.made(file)())
        for name in MODELS:
            platform.wait_ready_at_first(name)
        yield platform
    finally:
        platform.destroy()


def protocol(_: Platform) -> dict:
    return oip.document(list(MODELS))


def mlserver(_: Platform) -> dict:
    """MLServer's, corrected: it has no error answers for readiness, a type that there is not, and calls of its own."""
    document = json.loads((cache.packages_dir() / "mlserver-dataplane.json").read_text())
    own = ("generate", "generate_stream", "infer_stream")
    document["paths"] = {path: item for path, item in document["paths"].items() if not path.endswith(own)}
    error = {"description": "error", "content": document_json("InferenceErrorResponse")}
    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "post"}:
            statuses = ("400", "401", "404", "413", "503")
            item[method]["responses"] |= {status: error for status in statuses}
        for parameter in item.get("parameters", []):
            known = [*MODELS, "nobody"] if parameter["name"] == "model_name" else ["1", "7"]
            parameter["schema"] = {"type": "string", "enum": known}
    document["components"]["schemas"]["TensorData"] = {"type": "array", "items": {}}
    return document


def document_json(schema: str) -> dict:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def own(platform: Platform) -> dict:
    """Berth's own, for JSON: how tensors are laid out behind it no document can say."""
    document = json.loads(fetch(platform))
    for item in document["paths"].values():
        for operation in item.values():
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                part.get("content", {}).pop("application/octet-stream", None)
    return without_prefixes(document)


def without_prefixes(part):
    """Without `prefixItems`, which schemathesis turns into a form that its validator then does not know."""
    if isinstance(part, list):
        return [without_prefixes(member) for member in part]
    if not isinstance(part, dict):
        return part
    return {name: without_prefixes(member) for name, member in part.items() if name != "prefixItems"}


def fetch(platform: Platform) -> str:
    return requests.get(platform.url + "/openapi.json", headers=platform.headers, timeout=30).text


@pytest.mark.parametrize("make", [protocol, mlserver, own])
def test_nothing_is_found(platform: Platform, make: Callable[[Platform], dict], tmp_path: Path) -> None:
    document = tmp_path / "document.json"
    document.write_text(json.dumps(make(platform)))
    done = run(platform, document)
    assert done.returncode == 0, done.stdout[-12_000:]
    assert "Failures" not in done.stdout and "Errors:" not in done.stdout


def test_what_is_wrong_is_found(platform: Platform, tmp_path: Path) -> None:
    """A document that the server breaks fails the run: an answer without its status and a field that there is not."""
    broken = oip.document(["iris"])
    broken["paths"] = {"/v2": broken["paths"]["/v2"]}
    broken["components"]["schemas"]["server"]["required"].append("licence")
    document = tmp_path / "document.json"
    document.write_text(json.dumps(broken))
    done = run(platform, document)
    assert done.returncode == 1 and "licence" in done.stdout, done.stdout[-4000:]


# Numbers that make more elements than a request may have are refused as too many.
CONFIG = """
[checks]
negative_data_rejection.expected-statuses = ["400", "401", "404", "405", "413"]
"""


def run(platform: Platform, document: Path) -> subprocess.CompletedProcess:
    tool = cache.venv_dir(cache.SCHEMATHESIS) / "bin" / "st"
    config = document.with_name("schemathesis.toml")
    config.write_text(CONFIG)
    command = [tool, "--config-file", config, "run", document, "--url", platform.url, "--header", f"Authorization: {platform.headers['authorization']}"]
    command += ["--checks", "all", "--exclude-checks", NOT_SAID, "--phases", "examples,coverage,fuzzing"]
    command += ["--seed", str(SEED), "--max-examples", str(EXAMPLES), "--no-shrink", "--continue-on-failure"]
    # A slow machine is no finding.
    command += ["--suppress-health-check", "all", "--request-timeout", "60", "--warnings", "off"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(list(map(str, command)), cwd=document.parent, timeout=SECONDS, **streams)
