"""Every kind of file that is refused, made here and called `model.onnx`: known by content, with what to do instead."""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from harness import cache, procs
from harness.platform import ApiError, Platform
from models.small import IR_VERSION, model, value

EXPORT = "onnx"
REFUSED = 5
LIMIT_BYTES = 4 * 1024**3


class Evil:
    """A pickle that would run a command. It is only written here, and nobody may read it."""

    def __reduce__(self):
        return os.system, ("touch /tmp/berth-was-here",)


def good() -> bytes:
    return (cache.models_dir() / "simple.onnx").read_bytes()


def fitted() -> LogisticRegression:
    return LogisticRegression().fit(np.array([[0.0], [1.0]]), [0, 1])


def dumped(compress: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(fitted(), buffer, compress=compress)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("model.onnx")
        member.size = len(good())
        archive.addfile(member, io.BytesIO(good()))
    return buffer.getvalue()


def saved_model() -> bytes:
    """The head of TensorFlow's SavedModel: schema version 1, and one MetaGraphDef with a tag."""
    tags = b"\x22\x05serve" + b"\x2a\x062.16.1"
    meta = b"\x0a" + bytes([len(tags)]) + tags
    return b"\x08\x01\x12" + bytes([len(meta)]) + meta


def with_domain(domain: str) -> bytes:
    nodes = [helper.make_node("Shout", ["x"], ["y"], domain=domain)]
    graph = helper.make_graph(
        nodes, "custom", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])]
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def external(location: str) -> bytes:
    """A model whose weights are said to be at `location`."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=location)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    shape = [4]
    return model(
        "external", nodes, [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)], [weights]
    ).SerializeToString()


# What it is → (its bytes, words of the answer).
FILES: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    **{f"pickle protocol {p}": (lambda p=p: pickle.dumps(Evil(), p), ("pickle", EXPORT)) for p in range(6)},
    **{
        f"pickle of a model, protocol {p}": (lambda p=p: pickle.dumps(fitted(), p), ("pickle", EXPORT))
        for p in range(6)
    },
    "pickle of a dictionary": (lambda: pickle.dumps({"a": [1, 2]}, 0), ("pickle", EXPORT)),
    "joblib": (lambda: dumped(0), ("pickle", EXPORT)),
    "joblib with zlib": (lambda: dumped(("zlib", 3)), ("joblib", EXPORT)),
    "joblib with gzip": (lambda: dumped(("gzip", 3)), ("joblib", EXPORT)),
    "joblib with bz2": (lambda: dumped(("bz2", 3)), ("joblib", EXPORT)),
    "joblib with xz": (lambda: dumped(("xz", 3)), ("joblib", EXPORT)),
    "torch.save": (
        lambda: zipped({"archive/data.pkl": pickle.dumps(Evil(), 2), "archive/version": b"3\n"}),
        ("PyTorch", EXPORT),
    ),
    "TorchScript": (
        lambda: zipped({"m/code/__torch__.py": b"", "m/constants.pkl": b"\x80\x02).", "m/data.pkl": b"\x80\x02)."}),
        ("TorchScript", EXPORT),
    ),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(512), ("Keras", EXPORT)),
    "Keras 3": (
        lambda: zipped(
            {
                "metadata.json": b'{"keras_version": "3.5.0"}',
                "config.json": b"{}",
                "model.weights.h5": b"\x89HDF\r\n\x1a\n",
            }
        ),
        ("Keras", EXPORT),
    ),
    "Keras 3, deflated": (
        lambda: zipped({"config.json": b"{}", "model.weights.h5": bytes(5000)}, zipfile.ZIP_DEFLATED),
        ("Keras", EXPORT),
    ),
    "SavedModel": (saved_model, (EXPORT,)),
    "plain zip": (lambda: zipped({"model.onnx": good()}), ("zip", "unpack")),
    "tar": (tarred, ("tar", "unpack")),
    "gzip": (lambda: gzip.compress(good()), ("compressed", "unpack")),
    "zlib": (lambda: zlib.compress(good()), ("compressed", "unpack")),
    "NumPy array": (lambda: b"\x93NUMPY\x01\x00" + bytes(120), ("NumPy",)),
    "GGUF": (lambda: b"GGUF\x03\0\0\0" + bytes(64), ("GGUF", EXPORT)),
    "safetensors": (lambda: struct.pack("<Q", 2) + b"{}", ("safetensors", EXPORT)),
    "TFLite": (lambda: b"\x1c\0\0\0TFL3" + bytes(64), ("TensorFlow Lite", EXPORT)),
    "program": (lambda: Path("/bin/true").read_bytes(), ("program",)),
    "script": (lambda: b"#!/bin/sh\nrm -rf /\n", ("program",)),
    "JSON": (lambda: b'{"model": 1}', ("JSON", EXPORT)),
    "empty": (lambda: b"", ("empty",)),
    "zeros": (lambda: bytes(4096), ()),
    "noise": (lambda: np.random.default_rng(1).bytes(4096), ()),
    "text": (lambda: b"hello, this is a model\n", ()),
    "ONNX cut short": (lambda: good()[: len(good()) // 2], ()),
    "ONNX with a tail": (lambda: good() + b"\xff\xff\xff", ()),
    "custom operators": (lambda: with_domain("com.evil"), ("com.evil",)),
    "a graph without a model": (lambda: onnx.ModelProto(ir_version=IR_VERSION).SerializeToString(), ()),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def nothing_happened(platform: Platform):
    """After each refusal the platform is as it was: the same processes, no service, nothing left half done."""
    before = platform.processes()
    yield
    procs.wait_until(lambda: platform.processes() == before, "the processes of before")
    procs.wait_until(lambda: not platform.api("GET", "/inferenceservices")["items"], "nothing to be served")
    assert not [path for path in (platform.data / "store" / "tmp").rglob("*") if path.is_file()]
    assert not Path("/tmp/berth-was-here").exists()


def refuse(platform: Platform, source: Path, words: tuple[str, ...], codes: tuple[int, ...] = (REFUSED,)) -> str:
    """Deploys what must be refused: an exit code that is an error, and a text that a person can use."""
    refused = platform.berth("deploy", "bad", source, check=False)
    assert refused.returncode in codes and not refused.stdout.strip(), refused
    text = refused.stderr
    assert text.startswith("error: ") and len(text) < 1000, text
    for word in words:
        assert word.lower() in text.lower(), f"`{word}` is not in: {text}"
    for never in ("panicked", "Error {", "RUST_BACKTRACE"):
        assert never not in text, text
    return text


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_known_by_its_content(platform: Platform, folder: Path, kind: str) -> None:
    make, words = FILES[kind]
    path = folder / "model.onnx"
    path.write_bytes(make())
    refuse(platform, path, words)


def test_a_model_that_no_engine_loads_is_never_ready(platform: Platform, models: Path) -> None:
    """It is ONNX, so the store takes it; what the engine says is in the status, and the rest goes on."""
    failed = platform.berth("deploy", "bad", models / "unloadable.onnx", check=False)
    assert failed.returncode != 0 and "Add" in failed.stderr + failed.stdout
    try:
        conditions = platform.service("bad")["status"]["conditions"]
        ready = next(one for one in conditions if one["type"] == "Ready")
        assert ready["status"] == "False" and ready["message"]
        platform.api("DELETE", "/inferenceservices/bad")
    except ApiError as error:
        assert error.code == 404


def test_a_golden_answer_that_is_wrong(platform: Platform, folder: Path, example: Path) -> None:
    bundle = copy(example, folder / "wrong-golden")
    golden = json.loads((bundle / "golden.json").read_text())
    for output in golden["cases"][0]["response"]["outputs"]:
        output["data"] = [1 - number for number in output["data"]]
    (bundle / "golden.json").write_text(json.dumps(golden))
    failed = platform.berth("deploy", "bad", bundle, check=False)
    assert failed.returncode != 0 and "golden" in (failed.stderr + failed.stdout).lower()
    try:
        platform.api("DELETE", "/inferenceservices/bad")
    except ApiError as error:
        assert error.code == 404


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)


def with_link(bundle: Path) -> None:
    (bundle / "weights.bin").rename(bundle.parent / "outside.bin")
    (bundle / "weights.bin").symlink_to(bundle.parent / "outside.bin")


def with_hard_link(bundle: Path) -> None:
    (bundle.parent / "twin.bin").unlink(missing_ok=True)
    os.link(bundle / "weights.bin", bundle.parent / "twin.bin")


def with_pipe(bundle: Path) -> None:
    (bundle / "weights.bin").unlink()
    os.mkfifo(bundle / "weights.bin")


def at(location: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        (bundle / "model.onnx").write_bytes(external(location))
        (bundle / "weights.bin").unlink()

    return change


def many(bundle: Path) -> None:
    for number in range(80):
        (bundle / f"{number}.bin").write_bytes(b"1234")


# What is wrong with a bundle → (how to make it so, words of the answer).
BUNDLES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a symbolic link": (with_link, ("weights.bin", "link")),
    "a hard link": (with_hard_link, ("weights.bin", "link")),
    "a pipe": (with_pipe, ("weights.bin",)),
    "a path that climbs out": (at("../outside.bin"), ("../outside.bin",)),
    "a path that climbs out from below": (at("a/../../outside.bin"), ("outside.bin",)),
    "an absolute path": (at("/etc/passwd"), ("/etc/passwd",)),
    "weights that are missing": (at("gone.bin"), ("gone.bin",)),
    "a file that is nobody's": (lambda bundle: (bundle / "notes.txt").write_text("hello"), ("notes.txt",)),
    "a pickle beside the model": (
        lambda bundle: (bundle / "scaler.pkl").write_bytes(pickle.dumps(Evil())),
        ("scaler.pkl",),
    ),
    "no model": (lambda bundle: (bundle / "model.onnx").unlink(), ("model.onnx",)),
    "too many files": (many, ()),
    "a description that is no YAML": (lambda bundle: (bundle / "bundle.yaml").write_text("a: [1"), ("bundle.yaml",)),
    "a description with an unknown field": (
        lambda bundle: (bundle / "bundle.yaml").write_text("licence: MIT\n"),
        ("licence", "license"),
    ),
    "golden cases that are no JSON": (lambda bundle: (bundle / "golden.json").write_text("{"), ("golden.json",)),
}


@pytest.mark.parametrize("wrong", BUNDLES)
def test_a_bundle_that_reaches_outside_or_holds_too_much(
    platform: Platform, folder: Path, models: Path, wrong: str
) -> None:
    change, words = BUNDLES[wrong]
    (folder / "outside.bin").write_bytes(bytes(16))
    bundle = copy(models / "external", folder / "bundle")
    change(bundle)
    refuse(platform, bundle, words)


def test_a_file_over_the_limit(platform: Platform, folder: Path) -> None:
    path = folder / "huge.onnx"
    path.write_bytes(good())
    os.truncate(path, LIMIT_BYTES + 1)  # sparse: it takes no room
    refuse(platform, path, ("4",))
    path.unlink()


@pytest.mark.parametrize("source", ["/nowhere/model.onnx", "/dev/zero", "/dev/null"])
def test_what_is_no_file_at_all(platform: Platform, source: str) -> None:
    refuse(platform, Path(source), (source,), codes=(1, 2, 3, REFUSED))
