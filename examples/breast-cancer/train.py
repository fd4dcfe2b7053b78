#!/usr/bin/env python3
"""Fits a classifier on scikit-learn's breast-cancer data and writes it as a bundle that Berth takes.

    python3 train.py --out BUNDLE          model.onnx, bundle.yaml and golden.json
    python3 train.py --rows FOLDER         row.json and rows.csv, rows to ask about, which are checked in

The golden cases are rows that the model was not fitted on, with the answers of Python's onnxruntime. Berth asks them of
itself whenever it loads the model, and refuses one that answers otherwise.

Needs what requirements.txt pins. The same versions on the same machine write the same bytes.
"""

import argparse
import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 7
# As scikit-learn's data has them: 0 is malignant.
CLASSES = ["malignant", "benign"]
GOLDEN_ROWS = 6
BUNDLE = """\
name: breast-cancer
description: Malignant or benign, from 30 measurements of cell nuclei in an image of a breast mass. An example, no medical device.
license: CC-BY-4.0
source: Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository, doi:10.24432/C5DW2B, as shipped by scikit-learn
classes:
  label: [malignant, benign]
  probabilities: [malignant, benign]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="BUNDLE", help="folder of the bundle; replaced when it exists")
    parser.add_argument("--rows", type=Path, metavar="FOLDER", help="folder for row.json and rows.csv")
    options = parser.parse_args()
    if not options.out and not options.rows:
        parser.error("say where to write: --out BUNDLE or --rows FOLDER")
    if options.out:
        write_bundle(options.out)
    if options.rows:
        write_rows(options.rows)


def split() -> list[np.ndarray]:
    """Rows to fit on, rows to test with, and the classes of both; always the same."""
    features, classes = load_breast_cancer(return_X_y=True)
    # The service takes 32-bit numbers, so the model is fitted on what it will see.
    return train_test_split(features.astype(np.float32), classes, test_size=0.25, stratify=classes, random_state=SEED)


def write_bundle(out: Path) -> None:
    """Fits, exports, checks and writes; the folder appears whole or not at all."""
    fit_on, test_with, classes, test_classes = split()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000)).fit(fit_on, classes)
    signature = [("features", FloatTensorType([None, fit_on.shape[1]]))]
    options = {"zipmap": False}  # one tensor [rows, classes] instead of a list of maps
    exported = to_onnx(pipeline, initial_types=signature, options=options, target_opset={"": 21, "ai.onnx.ml": 3}, name="breast-cancer")
    model = exported.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["label", "probabilities"], {"features": test_with})
    difference = np.abs(probabilities - pipeline.predict_proba(test_with)).max()
    if difference > 1e-5 or (labels != pipeline.predict(test_with)).any():
        raise SystemExit(f"the exported model differs from the fitted one by {difference}")
    right = (labels == test_classes).mean()
    print(f"fitted on {len(fit_on)} rows; right on {right:.1%} of {len(test_with)} others")

    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / "model.onnx").write_bytes(model)
    (part / "bundle.yaml").write_text(BUNDLE)
    (part / "golden.json").write_text(json.dumps({"cases": golden(session, test_with)}, indent=1) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    print(f"wrote {out}")


def golden(session: onnxruntime.InferenceSession, rows: np.ndarray) -> list[dict]:
    """The first rows, each alone, with the answers of Python's onnxruntime."""
    cases = []
    for index, row in enumerate(rows[:GOLDEN_ROWS, None, :]):
        labels, probabilities = session.run(["label", "probabilities"], {"features": row})
        outputs = [tensor("label", "INT64", labels), tensor("probabilities", "FP32", probabilities)]
        cases.append({"name": f"held out row {index}", "request": request(row), "response": {"outputs": outputs}})
    return cases


def request(rows: np.ndarray) -> dict:
    return {"inputs": [tensor("features", "FP32", rows)]}


def tensor(name: str, datatype: str, values: np.ndarray) -> dict:
    data = [shortest(value) for value in values.ravel()]
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": data}


def shortest(value: np.generic) -> int | float:
    """The number with the fewest digits that is read back as the same 32-bit number."""
    return int(value) if isinstance(value, np.integer) else float(str(value))


def write_rows(folder: Path) -> None:
    """One row as a request of the protocol, and ten as people keep them."""
    _, test_with, _, test_classes = split()
    # The second malignant one, of which the model is not quite sure.
    one = test_with[np.flatnonzero(test_classes == CLASSES.index("malignant"))[1:2]]
    (folder / "row.json").write_text(json.dumps(request(one)) + "\n")
    with (folder / "rows.csv").open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(str(name) for name in load_breast_cancer().feature_names)
        lines.writerows([[shortest(value) for value in row] for row in test_with[:10]])


if __name__ == "__main__":
    main()
