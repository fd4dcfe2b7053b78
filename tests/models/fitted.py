"""Models fitted with scikit-learn and exported by skl2onnx."""

from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.small import session


def make_iris(path: Path) -> None:
    """A scaler and a logistic regression: operators of `ai.onnx.ml`, outputs `label` and `probabilities`."""
    features, labels = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    signature = [("input", FloatTensorType([None, 4]))]
    made = to_onnx(pipeline, initial_types=signature, options={"zipmap": False}, target_opset={"": 21, "ai.onnx.ml": 3})
    path.write_bytes(made.SerializeToString())
    label, probabilities = session(path).run(["label", "probabilities"], {"input": features.astype(np.float32)})
    assert (label == pipeline.predict(features)).all()
    assert np.abs(probabilities - pipeline.predict_proba(features)).max() < 1e-5
