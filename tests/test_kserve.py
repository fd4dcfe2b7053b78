"""Manifests of KServe: applied, asked, explained, exported and applied again, with the real executable."""

import json
from pathlib import Path

import pytest
import requests
import yaml

from harness import cases
from harness.platform import ApiError, Platform

REFUSED = 5
FLOWER = [[5.1, 3.5, 1.4, 0.2]]


def manifest(name: str, **predictor: object) -> dict:
    """The new form, with what a cluster would add to it."""
    model = {
        "modelFormat": {"name": "onnx"},
        "protocolVersion": "v2",
        "runtime": "kserve-tritonserver",
        "storageUri": f"file://{cases.made('iris.onnx')()}",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": "models",
            "annotations": {"serving.kserve.io/deploymentMode": "Standard", "team": "flowers"},
        },
        "spec": {"predictor": {"minReplicas": 1, "timeout": 20, "model": model, **predictor}},
    }


def apply(platform: Platform, *documents: dict | str, check: bool = True, wait: bool = True):
    texts = [text if isinstance(text, str) else yaml.safe_dump(text) for text in documents]
    arguments = ["--wait"] if wait else []
    return platform.berth("apply", "-f", "-", *arguments, check=check, text_in="---\n".join(texts))


def predicted(platform: Platform, name: str) -> list:
    body = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": FLOWER}]}
    answer = requests.post(
        f"{platform.url}/v2/models/{name}/infer", json=body, headers=platform.headers, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return next(output["data"] for output in answer.json()["outputs"] if output["name"] == "label")


def compatible(platform: Platform, name: str) -> dict | None:
    conditions = platform.service(name)["status"]["conditions"]
    return next((one for one in conditions if one["type"] == "KServeCompatible"), None)


def test_a_service_moves_there_and_back(platform: Platform) -> None:
    asked = manifest("iris", nodeSelector={"disk": "ssd"}, serviceAccountName="reader")
    done = apply(platform, asked)
    lost = [
        "metadata.namespace",
        'metadata.annotations["serving.kserve.io/deploymentMode"]',
        "spec.predictor.model.runtime",
        "spec.predictor.serviceAccountName",
        "spec.predictor.nodeSelector",
    ]
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert [line.split(" is not honoured")[0] for line in warnings] == [f"warning: `iris`: `{path}`" for path in lost]
    assert predicted(platform, "iris") == [0]

    condition = compatible(platform, "iris")
    assert condition and (condition["status"], condition["reason"]) == ("False", "NotHonoured")
    assert all(f"`{path}`" in condition["message"] for path in lost)
    assert "KServeCompatible" in platform.berth("describe", "iris").stdout
    # Berth's own form stays Berth's own.
    own = yaml.safe_load(platform.berth("get", "iris", "-o", "yaml").stdout)
    assert own["apiVersion"] == "berth.dev/v1alpha1" and own["spec"]["predictor"]["timeout"] == 20

    exported = platform.berth("export", "kserve", "iris")
    written = yaml.safe_load(exported.stdout)
    assert written["apiVersion"] == "serving.kserve.io/v1beta1"
    assert written["metadata"]["annotations"]["team"] == "flowers"
    assert "runtime" not in written["spec"]["predictor"]["model"]
    for word in ("upload it", "spec.predictor.nodeSelector"):
        assert word in exported.stderr, exported.stderr
    assert json.loads(platform.berth("export", "kserve", "iris", "-o", "json").stdout) == written
    assert platform.berth("export", "kserve", "iris", "--quiet").stderr == ""

    before = platform.service("iris")
    again = apply(platform, exported.stdout)
    assert "iris unchanged" in again.stdout, again
    after = platform.service("iris")
    assert after["spec"] == before["spec"] and after["metadata"] == before["metadata"]
    assert compatible(platform, "iris") == condition

    # Without what was not honoured the condition goes, and no revision is made.
    plain = manifest("iris")
    del plain["metadata"]["namespace"], plain["spec"]["predictor"]["model"]["runtime"]
    plain["metadata"]["annotations"] = {"team": "flowers"}
    done = apply(platform, plain)
    assert "warning" not in done.stderr and "iris updated, revision 1" in done.stdout, done
    service = platform.service("iris")
    assert service["metadata"].get("annotations") == {"team": "flowers"}


def test_what_kserve_has_no_field_for_comes_back(platform: Platform) -> None:
    own = manifest("sticky")
    own["apiVersion"] = "berth.dev/v1alpha1"
    own["metadata"] = {"name": "sticky"}
    own["spec"]["traffic"] = {"sticky": {"header": "x-user"}}
    del own["spec"]["predictor"]["model"]["runtime"]
    apply(platform, own, wait=False)
    exported = platform.berth("export", "kserve", "sticky")
    assert "KServe has no `traffic`" in exported.stderr
    written = yaml.safe_load(exported.stdout)
    assert json.loads(written["metadata"]["annotations"]["berth.dev/traffic"]) == own["spec"]["traffic"]
    assert "sticky unchanged" in apply(platform, exported.stdout, wait=False).stdout
    assert platform.service("sticky")["spec"]["traffic"] == own["spec"]["traffic"]


def test_the_form_before_model(platform: Platform, tmp_path: Path) -> None:
    text = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: old}
spec:
  predictor:
    onnx:
      storageUri: file://./iris.onnx
"""
    (tmp_path / "iris.onnx").write_bytes(cases.made("iris.onnx")().read_bytes())
    (tmp_path / "service.yaml").write_text(text)
    done = platform.berth("apply", "-f", tmp_path / "service.yaml", "--wait")
    assert done.stdout.startswith("old created") and "warning" not in done.stderr
    assert predicted(platform, "old") == [0] and compatible(platform, "old") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": None, "sklearn": {"storageUri": "gs://b/m"}}, ["spec.predictor.sklearn", "from-scikit-learn.md"]),
        ({"model": None, "containers": [{"image": "a"}]}, ["spec.predictor.containers", "runs no containers"]),
        ({"model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://b/m"}}, ["storageUri", "aws s3 cp"]),
        ({"minReplica": 1}, ["did you mean `minReplicas`?"]),
    ],
    ids=["sklearn", "containers", "s3", "stranger"],
)
def test_what_is_refused(platform: Platform, change: dict, words: list[str]) -> None:
    done = apply(platform, manifest("refused", **change), check=False)
    assert done.returncode == REFUSED and not done.stdout, done
    assert all(word in done.stderr for word in words), done.stderr
    assert "refused" not in platform.berth("get").stdout


def test_other_kinds_refuse_the_whole_file(platform: Platform) -> None:
    graph = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "InferenceGraph", "metadata": {"name": "g"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    done = apply(platform, graph, secret, manifest("beside"), check=False)
    assert done.returncode == REFUSED
    assert "`g`: kind: `InferenceGraph` of KServe is not supported" in done.stderr
    assert "`s`: kind: `Secret` of `v1` is no kind of Berth's" in done.stderr
    assert "beside" not in platform.berth("get").stdout


def test_the_api_takes_its_own_kind_alone(platform: Platform) -> None:
    with pytest.raises(ApiError, match="`berth apply` converts such a manifest") as refused:
        platform.api("POST", "/inferenceservices", manifest("api"))
    assert refused.value.code == 422


def test_nobody_to_export(platform: Platform) -> None:
    done = platform.berth("export", "kserve", "nobody", check=False)
    assert done.returncode == 3 and "nobody" in done.stderr
