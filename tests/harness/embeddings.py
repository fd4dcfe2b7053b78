"""Sentence embeddings as onnxruntime and `tokenizers` make them in Python: the yardstick of the tests."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from harness import cache, cases

MODEL = "minilm-int8.onnx"
# Name in a bundle → name in the cache of packages.
FILES = {
    "model.onnx": MODEL,
    "tokenizer.json": "minilm-tokenizer.json",
    "modules.json": "minilm-modules.json",
    "1_Pooling/config.json": "minilm-pooling.json",
    "sentence_bert_config.json": "minilm-length.json",
}


def make_bundle(into: Path, settings: dict | None = None) -> Path:
    """A bundle of MiniLM as Sentence Transformers keeps it; `settings` go to `embeddings.json`."""
    for name, kept in FILES.items():
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cache.packages_dir() / kept, target)
    if settings is not None:
        (into / "embeddings.json").write_text(json.dumps(settings))
    return into


def tokeniser() -> Tokenizer:
    """The model's tokeniser, which pads and cuts nothing."""
    made = Tokenizer.from_file(str(cache.packages_dir() / "minilm-tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    return made


def tokens(text: str) -> list[int]:
    return tokeniser().encode(text).ids


def hidden(ids: Sequence[int]) -> np.ndarray:
    """What the model makes of one input: a vector for each token."""
    engine = cases.loaded(cases.packaged(MODEL)())
    (states,) = engine.run(["last_hidden_state"], cases.sentence(list(ids)))
    return states[0]


def vector(text: str) -> np.ndarray:
    """The mean of a text's tokens, with length one."""
    mean = hidden(tokens(text)).astype(np.float64).mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)
