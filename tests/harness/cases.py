"""Models, inputs and what onnxruntime answers: the yardstick of the client tests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path

import ml_dtypes
import numpy as np
from sklearn.datasets import load_iris

from harness import cache
from models.efficientnet import image
from models.small import session

# Of "A man is eating food.", in BERT's uncased vocabulary.
FOOD = [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]
# Of "A man is eating a piece of bread."
BREAD = [101, 1037, 2158, 2003, 5983, 1037, 3538, 1997, 7852, 1012, 102]


@dataclass(frozen=True)
class Case:
    """One request to one model."""

    name: str
    service: str
    model: Callable[[], Path]
    inputs: Callable[[], dict[str, np.ndarray]]

    def expected(self) -> dict[str, np.ndarray]:
        """What onnxruntime answers on the same file."""
        engine = loaded(self.model())
        names = [output.name for output in engine.get_outputs()]
        return dict(zip(names, engine.run(names, self.inputs()), strict=True))

    def __str__(self) -> str:
        return self.name


@remember
def loaded(path: Path):
    return session(path)


def made(name: str) -> Callable[[], Path]:
    return lambda: cache.models_dir() / name


def packaged(name: str) -> Callable[[], Path]:
    return lambda: cache.packages_dir() / name


def sentence(*rows: list[int]) -> dict[str, np.ndarray]:
    """Token ids, padded to the longest row."""
    longest = max(map(len, rows))
    ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def picture(height: int, width: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(height).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)}


def irises(*rows: int) -> dict[str, np.ndarray]:
    return {"input": load_iris().data[list(rows)].astype(np.float32)}


REAL = (
    Case("iris-one-row", "iris", made("iris.onnx"), lambda: irises(0)),
    Case("iris-three-rows", "iris", made("iris.onnx"), lambda: irises(0, 70, 140)),
    Case("minilm-one-sentence", "minilm", packaged("minilm-int8.onnx"), lambda: sentence(FOOD)),
    Case("minilm-two-sentences", "minilm", packaged("minilm-int8.onnx"), lambda: sentence(FOOD, BREAD)),
    Case("efficientnet", "efficientnet", made("efficientnet-lite0.onnx"), lambda: {"image": image(1)}),
    Case("ocr-64-by-96", "ocr", packaged("ppocrv4-det.onnx"), lambda: picture(64, 96)),
    Case("ocr-128-by-32", "ocr", packaged("ppocrv4-det.onnx"), lambda: picture(128, 32)),
)

# Datatype → a tensor with the values where mistakes show: ends of the range, signs, what is not a number.
VALUES: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False, True]]),
    **{
        f"{kind}{bits}": np.array(
            [[np.iinfo(f"{kind.lower()}{bits}").min, 1, np.iinfo(f"{kind.lower()}{bits}").max]], f"{kind.lower()}{bits}"
        )
        for kind in ("INT", "UINT")
        for bits in (8, 16, 32, 64)
    },
    "FP16": np.array([[-65504, 0.1, 6e-8]], np.float16),
    "BF16": np.array([[-1.5, 0.0078125, 3.0e38]], ml_dtypes.bfloat16),
    "FP32": np.array([[-3.4028235e38, 0.1, 1e-45]], np.float32),
    "FP64": np.array([[-1.7976931348623157e308, 0.1, 5e-324]], np.float64),
    "BYTES": np.array([["", "grüße 🚢", 'quote " and \\ and \n']], np.object_),
}


def check(answer: dict[str, np.ndarray | None], expected: dict[str, np.ndarray]) -> None:
    """Every output is there, in type and shape and value."""
    for name, value in expected.items():
        got = answer[name]
        assert got is not None, f"output `{name}` is missing"
        assert got.shape == value.shape, name
        assert got.dtype == value.dtype, name
        if np.issubdtype(value.dtype, np.floating):
            np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            assert texts(got) == texts(value), name


def texts(array: np.ndarray) -> list:
    """Elements of a tensor; bytes read as the text that they are."""
    return [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
