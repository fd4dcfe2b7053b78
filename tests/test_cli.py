"""The command line as a person and a script use it."""

import json
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import requests
import yaml

from harness import cache, cases, procs
from harness.platform import Platform, executable, manifest

EXAMPLE = cache.ROOT / "examples" / "breast-cancer"
COMMANDS = (
    "up",
    "down",
    "status",
    "deploy",
    "apply",
    "export",
    "get",
    "describe",
    "logs",
    "events",
    "infer",
    "delete",
    "key",
    "completions",
    "doctor",
)
USAGE, NOT_FOUND, NOT_RUNNING, REFUSED = 2, 3, 4, 5


@pytest.fixture(scope="module")
def platform(example: Path):
    platform = Platform()
    try:
        platform.start()
        platform.berth("deploy", "breast-cancer", example)
        yield platform
    finally:
        platform.destroy()


def as_json(platform: Platform, *arguments: object) -> dict:
    return json.loads(platform.berth(*arguments, "-o", "json").stdout)


# Reading


def test_get_and_describe(platform: Platform) -> None:
    table = platform.berth("get").stdout
    assert "breast-cancer" in table and "True" in table or "Ready" in table
    one = as_json(platform, "get", "breast-cancer")
    assert one["metadata"]["name"] == "breast-cancer" and one["kind"] == "InferenceService"
    all_of_them = as_json(platform, "get")
    assert [item["metadata"]["name"] for item in all_of_them["items"]] == ["breast-cancer"]
    written = yaml.safe_load(platform.berth("get", "breast-cancer", "-o", "yaml").stdout)
    assert written["metadata"]["uid"] == one["metadata"]["uid"]
    told = platform.berth("describe", "breast-cancer").stdout
    for word in ("breast-cancer", "Ready", "GoldenVerified", "sha256:", "Enforced"):
        assert word in told, word


def test_logs_and_events(platform: Platform) -> None:
    lines = platform.berth("logs", "breast-cancer", "--tail", "3").stdout.splitlines()
    assert 0 < len(lines) <= 3
    told = platform.berth("events").stdout
    for reason in ("Created", "ReplicaReady", "RevisionReady"):
        assert reason in told, reason
    events = as_json(platform, "events")["items"]
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)


def test_status(platform: Platform) -> None:
    status = as_json(platform, "status")
    assert status["listen"] == platform.address and status["dataDir"] == str(platform.data)
    assert status["services"] == 1 and status["gateway"]["ready"]
    assert platform.address in platform.berth("status").stdout


def test_what_is_not_there(platform: Platform) -> None:
    for arguments in (
        ("get", "nobody"),
        ("describe", "nobody"),
        ("logs", "nobody"),
        ("delete", "nobody"),
        ("infer", "nobody", "--input", EXAMPLE / "row.json"),
    ):
        done = platform.berth(*arguments, check=False)
        assert done.returncode == NOT_FOUND and "nobody" in done.stderr, (arguments, done)
        assert done.stderr.startswith("error: ") and not done.stdout


# Asking


def test_infer_from_json_csv_and_npy(platform: Platform, tmp_path: Path) -> None:
    rows = np.loadtxt(EXAMPLE / "rows.csv", delimiter=",", skiprows=1, dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    told = platform.berth("infer", "breast-cancer", "--input", EXAMPLE / "row.json").stdout
    assert "malignant" in told
    many = {}
    for path in (EXAMPLE / "rows.csv", tmp_path / "rows.npy"):
        assert "benign" in platform.berth("infer", "breast-cancer", "--input", path).stdout
        many[path.suffix] = as_json(platform, "infer", "breast-cancer", "--input", path)
    one = as_json(platform, "infer", "breast-cancer", "--input", EXAMPLE / "row.json")
    assert outputs(one)["label"] == [0]
    assert len(outputs(many[".csv"])["label"]) == len(rows)
    assert outputs(many[".csv"]) == outputs(many[".npy"])


def test_infer_with_wrong_input(platform: Platform, tmp_path: Path) -> None:
    wrong = {
        "rows.json": "{",
        "short.csv": "1,2,3\n",
        "words.csv": "a,b\nx,y\n",
        "none.npy": "hello",
        "empty.csv": "",
    }
    for name, content in wrong.items():
        (tmp_path / name).write_text(content)
        done = platform.berth("infer", "breast-cancer", "--input", tmp_path / name, check=False)
        assert done.returncode not in (0, 101) and done.stderr.startswith("error: "), (name, done)
    done = platform.berth("infer", "breast-cancer", "--input", tmp_path / "nowhere.json", check=False)
    assert done.returncode != 0 and "nowhere.json" in done.stderr


def outputs(answer: dict) -> dict[str, list]:
    return {output["name"]: output["data"] for output in answer["outputs"]}


# Changing


def test_a_service_from_deploy_to_delete(platform: Platform) -> None:
    iris = cases.made("iris.onnx")()
    first = platform.berth("deploy", "iris", iris)
    assert "iris" in first.stdout
    created = as_json(platform, "get", "iris")
    platform.berth("deploy", "iris", iris)
    same = as_json(platform, "get", "iris")
    assert same["status"]["latestCreatedRevision"] == created["status"]["latestCreatedRevision"] == 1
    platform.berth("deploy", "iris", cases.made("simple.onnx")())
    changed = as_json(platform, "get", "iris")
    assert changed["status"]["latestReadyRevision"] == 2
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]
    assert "iris" in platform.berth("delete", "iris").stdout
    procs.wait_until(
        lambda: [i["metadata"]["name"] for i in as_json(platform, "get")["items"]] == ["breast-cancer"],
        "iris to be gone",
    )


def test_apply_a_manifest(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    wanted = manifest("applied", cases.made("iris.onnx")(), minReplicas=1, containerConcurrency=4)
    path.write_text(yaml.safe_dump(wanted))
    platform.berth("apply", "-f", path)
    platform.wait_ready("applied")
    assert as_json(platform, "get", "applied")["spec"]["predictor"]["containerConcurrency"] == 4
    generation = as_json(platform, "get", "applied")["metadata"]["generation"]
    platform.berth("apply", "-f", path)
    assert as_json(platform, "get", "applied")["metadata"]["generation"] == generation
    wanted["spec"]["predictor"]["minReplicas"] = 2
    path.write_text(yaml.safe_dump(wanted))
    platform.berth("apply", "-f", path)
    procs.wait_until(lambda: len(platform.service("applied")["status"]["replicas"]) == 2, "two replicas")
    # The path of a manifest is read from where the manifest is.
    (tmp_path / "model.onnx").write_bytes(cases.made("iris.onnx")().read_bytes())
    wanted["spec"]["predictor"]["model"]["storageUri"] = "file://./model.onnx"
    path.write_text(yaml.safe_dump(wanted))
    platform.berth("apply", "-f", path)
    platform.berth("delete", "applied")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m["spec"]["predictor"].update(minReplica=2), ("minReplica", "minReplicas")),
        (lambda m: m["spec"]["predictor"]["model"].update(storageURI="x"), ("storageURI", "storageUri")),
        (lambda m: m["spec"].update(transformer={}), ("transformer",)),
        (lambda m: m["spec"]["predictor"].update(minReplicas=65), ("minReplicas", "64")),
        (lambda m: m["spec"]["predictor"].update(minReplicas=2, maxReplicas=1), ("maxReplicas", "2 to 64")),
        (lambda m: m["spec"]["predictor"].update(scaleMetric="cpu"), ("scaleMetric", "concurrency", "rps")),
        (lambda m: m["spec"]["predictor"].update(minReplicas="two"), ("minReplicas",)),
        (lambda m: m["spec"]["predictor"].update(timeout=99999), ("timeout",)),
        (lambda m: m["spec"]["predictor"]["model"]["modelFormat"].update(name="sklearn"), ("sklearn", "onnx")),
        (
            lambda m: m["spec"]["predictor"]["model"].update(storageUri="s3://bucket/model"),
            ("s3://bucket/model", "file://"),
        ),
        (lambda m: m["metadata"].update(name="Not A Label"), ("Not A Label",)),
        (lambda m: m.update(kind="InferenceServices"), ("InferenceService",)),
        (lambda m: m.update(apiVersion="v1"), ("berth.dev/v1alpha1",)),
        (lambda m: m["spec"]["predictor"]["model"].update(resources={"limits": {"cpu": "many"}}), ("many",)),
    ],
)
def test_a_manifest_with_a_mistake_is_told_which(
    platform: Platform, tmp_path: Path, change, named: tuple[str, ...]
) -> None:
    wrong = manifest("wrong", cases.made("iris.onnx")())
    change(wrong)
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(wrong))
    done = platform.berth("apply", "-f", tmp_path / "service.yaml", check=False)
    assert done.returncode == REFUSED and done.stderr.startswith("error: "), done
    for word in named:
        assert word in done.stderr, done.stderr
    assert "wrong" not in {item["metadata"]["name"] for item in as_json(platform, "get")["items"]}


def test_keys(platform: Platform) -> None:
    told = platform.berth("key", "create", "reader", "--allow", "infer:breast-cancer", "--allow", "metrics").stdout
    (key,) = re.findall(r"berth_[A-Za-z0-9]+_[A-Za-z0-9]+", told)
    listed = platform.berth("key", "list").stdout
    assert "reader" in listed and "infer:breast-cancer" in listed and key not in listed
    machine = as_json(platform, "key", "create", "machine", "--allow", "infer:*")
    assert machine["key"].startswith("berth_") and machine["name"] == "machine"
    names = {item["name"] for item in as_json(platform, "key", "list")["items"]}
    assert {"reader", "machine"} <= names
    twice = platform.berth("key", "create", "reader", "--allow", "metrics", check=False)
    assert twice.returncode != 0 and "reader" in twice.stderr
    bad = platform.berth("key", "create", "bad", "--allow", "everything", check=False)
    assert bad.returncode != 0 and "everything" in bad.stderr and "infer:" in bad.stderr
    assert "reader" in platform.berth("key", "revoke", "reader").stdout
    platform.berth("key", "revoke", machine["id"])
    assert not {"reader", "machine"} & {item["name"] for item in as_json(platform, "key", "list")["items"]}
    again = platform.berth("key", "revoke", "reader", check=False)
    assert again.returncode != 0 and "reader" in again.stderr


# Around


def test_help_has_examples(platform: Platform) -> None:
    general = platform.berth("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\b", general, re.MULTILINE), command
        told = platform.berth(command, "--help").stdout
        assert "berth " + command in told and ("Example" in told or "example" in told), command
    assert re.fullmatch(r"berth \d+\.\d+\.\d+.*\n", platform.berth("--version").stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(platform: Platform, shell: str, tmp_path: Path) -> None:
    script = platform.berth("completions", shell).stdout
    assert "deploy" in script and "berth" in script
    if shell == "bash":
        (tmp_path / "berth.bash").write_text(script)
        words = 'COMP_WORDS=(berth dep); COMP_CWORD=1; _berth berth dep berth; echo "${COMPREPLY[@]}"'
        ask = f"source {tmp_path}/berth.bash; {words}"
        assert "deploy" in subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout


def test_usage_errors(platform: Platform) -> None:
    for arguments in (
        ("frobnicate",),
        ("deploy",),
        ("get", "-o", "xml"),
        ("key", "create", "x"),
        ("deploy", "a", "b", "c"),
    ):
        done = platform.berth(*arguments, check=False)
        assert done.returncode == USAGE and done.stderr.startswith("error: "), (arguments, done)


def test_a_closed_pipe_is_no_crash(platform: Platform) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{executable()}' events | true; exit ${{PIPESTATUS[0]}}"],
        env=platform.env,
        capture_output=True,
        text=True,
    )
    assert "panicked" not in done.stderr and done.returncode != 101


def test_json_goes_to_a_pipe_without_colours(platform: Platform) -> None:
    for arguments in (("get",), ("describe", "breast-cancer"), ("events",), ("status",), ("key", "list")):
        assert "\x1b[" not in platform.berth(*arguments).stdout


def test_without_a_platform(fresh: Platform) -> None:
    for arguments in (("get",), ("status",), ("deploy", "x", cases.made("iris.onnx")()), ("down",)):
        done = fresh.berth(*arguments, check=False)
        assert done.returncode == NOT_RUNNING and "berth up" in done.stderr, (arguments, done)


def test_only_one_platform_for_each_data_directory(platform: Platform) -> None:
    before = platform.processes().keys()
    second = platform.berth("up", "--listen", "127.0.0.1:0", check=False)
    assert second.returncode == 0 and "already" in second.stderr
    assert platform.processes().keys() == before
    assert as_json(platform, "status")["listen"] == platform.address


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_a_second_start_finds_everything(fresh: Platform, number: int) -> None:
    fresh.start()
    fresh.berth("deploy", "iris", cases.made("iris.onnx")())
    before, key = as_json(fresh, "get", "iris"), fresh.key()
    fresh.up.send_signal(number)
    assert fresh.up.wait(60) == 0, fresh.logs()
    fresh.up = None
    assert not fresh.processes()
    fresh.start()
    after = fresh.wait_ready("iris")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["latestCreatedRevision"] == before["status"]["latestCreatedRevision"]
    headers = {"authorization": f"Bearer {key}"}
    assert requests.get(f"{fresh.url}/v2/models/iris", headers=headers, timeout=30).status_code == 200


def test_down(fresh: Platform) -> None:
    fresh.start()
    fresh.berth("deploy", "iris", cases.made("iris.onnx")())
    fresh.berth("down")
    assert fresh.up.wait(60) == 0
    fresh.up = None
    assert not fresh.processes()
