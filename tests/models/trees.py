"""Models trained with XGBoost and LightGBM, with rows and what the library predicts for them.

`python -m models.trees` writes tiny ones as fixtures of the evaluator's unit tests; the tests of the platform train larger ones.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris

FIXTURES = Path(__file__).parents[2] / "crates" / "pure" / "inference" / "src" / "trees" / "fixtures"


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    rounds: int
    depth: int
    leaves: int
    # Columns of the data that are kept: the fixtures stay small.
    columns: int


TINY = Size(rounds=3, depth=3, leaves=6, columns=8)
USUAL = Size(rounds=30, depth=4, leaves=12, columns=64)


@dataclass(frozen=True)
class Fitted:
    """A model, rows, and what the library predicts."""

    name: str
    # Extensions of the files that the model is saved under.
    endings: tuple[str, ...]
    save: Callable[[Path], object]
    rows: np.ndarray
    # Outputs of the endpoint by name.
    outputs: dict[str, np.ndarray]
    # Name of the library, which is the format's.
    format: str

    def __str__(self) -> str:
        return self.name


def holes(rows: np.ndarray, dtype: type) -> np.ndarray:
    """A copy in which every tenth value is missing."""
    rows = rows.astype(np.float32).astype(dtype)
    rows[np.random.default_rng(1).random(rows.shape) < 0.1] = np.nan
    return rows


def categories() -> tuple[np.ndarray, np.ndarray]:
    """Two columns of categories, one of numbers, and a target that depends on sets of categories."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(0, 60, 800), rng.integers(0, 5, 800), rng.normal(size=800)])
    target = ((rows[:, 0] % 7 < 3) ^ (rows[:, 1] == 2)).astype(float) + 0.1 * rows[:, 2]
    return rows, (target > 0.5).astype(int)


def strange(rows: np.ndarray) -> np.ndarray:
    """Rows of `categories` with categories that are missing, unknown, negative or no whole numbers."""
    rows = rows.copy()
    rows[0:8, 0] = np.nan
    rows[8:12, 0] = 59
    rows[12:16, 0] = 999
    rows[16:20, 0] = 3.7
    rows[20:24, 1] = np.nan
    return rows


def classes(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a classifier: of one probability, or of one for each class."""
    if probabilities.ndim == 1:
        probabilities = np.column_stack([1 - probabilities, probabilities])
    return {"label": probabilities.argmax(axis=1).astype(np.int64), "probabilities": probabilities}


def predictions(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"prediction": values}


def xgboost_models(size: Size) -> Iterator[Fitted]:
    cancer, iris, diabetes, digits = (
        load(return_X_y=True) for load in (load_breast_cancer, load_iris, load_diabetes, load_digits)
    )
    binary, several = ({"objective": "binary:logistic"}, {"objective": "multi:softprob", "num_class": 3})
    quantiles = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}
    for name, (rows, target), parameters, outputs in (
        ("binary", cancer, binary, classes),
        ("multiclass", iris, several, classes),
        ("digits", digits, {"objective": "multi:softprob", "num_class": 10}, classes),
        ("softmax", iris, {**several, "objective": "multi:softmax"}, None),
        ("hinge", cancer, {"objective": "binary:hinge"}, classes),
        ("dart", cancer, {**binary, "booster": "dart", "rate_drop": 0.2}, classes),
        ("forest", cancer, {**binary, "num_parallel_tree": 5, "subsample": 0.6}, classes),
        ("squared", diabetes, {"objective": "reg:squarederror"}, predictions),
        ("absolute", diabetes, {"objective": "reg:absoluteerror"}, predictions),
        ("logistic", cancer, {"objective": "reg:logistic"}, predictions),
        ("logits", cancer, {"objective": "binary:logitraw"}, predictions),
        ("poisson", diabetes, {"objective": "count:poisson"}, predictions),
        ("gamma", diabetes, {"objective": "reg:gamma"}, predictions),
        ("tweedie", diabetes, {"objective": "reg:tweedie"}, predictions),
        ("quantiles", diabetes, quantiles, predictions),
    ):
        rows = holes(rows[:, : size.columns], np.float32)
        data = xgboost.DMatrix(rows, target)
        booster = xgboost.train({**parameters, "max_depth": size.depth, "seed": 1, "nthread": 1}, data, size.rounds)
        predicted = booster.predict(data)
        # softmax gives the classes alone.
        expected = outputs(predicted) if outputs else {"label": predicted.astype(np.int64)}
        yield Fitted(f"xgboost-{name}", ("json", "ubj"), booster.save_model, rows, expected, "xgboost")
    yield from xgboost_targets(size)
    yield from xgboost_categories(size)


def xgboost_targets(size: Size) -> Iterator[Fitted]:
    rows, target = load_diabetes(return_X_y=True)
    rows = rows.astype(np.float32)
    data = xgboost.DMatrix(rows, np.column_stack([target, target * 2]))
    booster = xgboost.train({"max_depth": size.depth, "nthread": 1}, data, size.rounds)
    yield Fitted("xgboost-targets", ("json", "ubj"), booster.save_model, rows, predictions(booster.predict(data)), "xgboost")
    data = xgboost.DMatrix(rows, np.column_stack([target > 100, target > 200]))
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": size.depth, "nthread": 1}, data, size.rounds)
    yield Fitted("xgboost-labels", ("json", "ubj"), booster.save_model, rows, predictions(booster.predict(data)), "xgboost")


def xgboost_categories(size: Size) -> Iterator[Fitted]:
    rows, target = categories()
    kinds = {"feature_types": ["c", "c", "q"], "enable_categorical": True}
    # XGBoost refuses codes that are no whole numbers in range, and so are not asked here.
    asked = strange(rows).astype(np.float32)
    asked[12:20, 0] = 7
    for name, one_hot in (("categories-one-hot", 100), ("categories-sets", 1)):
        parameters = {"objective": "binary:logistic", "max_cat_to_onehot": one_hot, "max_depth": size.depth + 1, "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(rows.astype(np.float32), target, **kinds), size.rounds)
        predicted = booster.predict(xgboost.DMatrix(asked, **kinds))
        yield Fitted(f"xgboost-{name}", ("json", "ubj"), booster.save_model, asked, classes(predicted), "xgboost")


def lightgbm_models(size: Size) -> Iterator[Fitted]:
    cancer, iris, diabetes = (load(return_X_y=True) for load in (load_breast_cancer, load_iris, load_diabetes))
    forest = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
    for name, (rows, target), parameters, outputs in (
        ("binary", cancer, {"objective": "binary"}, classes),
        ("slope", cancer, {"objective": "binary", "sigmoid": 2.0}, classes),
        ("multiclass", iris, {"objective": "multiclass", "num_class": 3}, classes),
        ("one-versus-all", iris, {"objective": "multiclassova", "num_class": 3}, classes),
        ("dart", cancer, {"objective": "binary", "boosting": "dart"}, classes),
        ("forest", cancer, {"objective": "binary", **forest}, classes),
        ("squared", diabetes, {"objective": "regression"}, predictions),
        ("absolute", diabetes, {"objective": "regression_l1"}, predictions),
        ("root", diabetes, {"objective": "regression", "reg_sqrt": True}, predictions),
        ("poisson", diabetes, {"objective": "poisson"}, predictions),
        ("linear", diabetes, {"objective": "regression", "linear_tree": True}, predictions),
        ("zero-missing", diabetes, {"objective": "regression", "zero_as_missing": True}, predictions),
        ("none-missing", diabetes, {"objective": "regression", "use_missing": False}, predictions),
        ("entropy", cancer, {"objective": "cross_entropy"}, predictions),
        ("entropy-lambda", cancer, {"objective": "cross_entropy_lambda"}, predictions),
    ):
        rows = holes(rows[:, : size.columns], np.float64)
        if name == "zero-missing":
            rows[np.random.default_rng(2).random(rows.shape) < 0.2] = 0
        parameters = {**parameters, "num_leaves": size.leaves, "seed": 3, "verbose": -1, "num_threads": 1}
        booster = lightgbm.train(parameters, lightgbm.Dataset(rows, target), size.rounds)
        yield Fitted(f"lightgbm-{name}", ("txt",), booster.save_model, rows, outputs(booster.predict(rows)), "lightgbm")
    rows, target = categories()
    parameters = {"objective": "binary", "min_data_per_group": 5, "cat_smooth": 1, "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(rows, target, categorical_feature=[0, 1])
    booster = lightgbm.train({**parameters, "num_leaves": size.leaves}, data, size.rounds)
    asked = strange(rows)
    asked[24:28, 0] = -1
    yield Fitted("lightgbm-categories", ("txt",), booster.save_model, asked, classes(booster.predict(asked)), "lightgbm")


def every(size: Size = USUAL) -> Iterator[Fitted]:
    """Every model, trained alike at each call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from xgboost_models(size)
        yield from lightgbm_models(size)


# Names of every model, so that tests have names before anything is trained.
NAMES = (
    *(
        f"xgboost-{name}"
        for name in (
            "binary multiclass digits softmax hinge dart forest squared absolute logistic logits poisson gamma tweedie quantiles "
            "targets labels categories-one-hot categories-sets"
        ).split()
    ),
    *(
        f"lightgbm-{name}"
        for name in (
            "binary slope multiclass one-versus-all dart forest squared absolute root poisson linear zero-missing none-missing "
            "entropy entropy-lambda categories"
        ).split()
    ),
)

# Fixture → extension that it is kept under.
KEPT = {
    "xgboost-binary": "json",
    "xgboost-multiclass": "ubj",
    "xgboost-dart": "ubj",
    "xgboost-poisson": "json",
    "xgboost-labels": "ubj",
    "xgboost-categories-sets": "ubj",
    "lightgbm-binary": "txt",
    "lightgbm-multiclass": "txt",
    "lightgbm-linear": "txt",
    "lightgbm-zero-missing": "txt",
    "lightgbm-categories": "txt",
}
# Rows of a fixture.
ROWS = 30


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for fitted in every(TINY):
        if (ending := KEPT.get(fitted.name)) is None:
            continue
        fitted.save(FIXTURES / f"{fitted.name}.{ending}")
        (values,) = [values for name, values in fitted.outputs.items() if name != "label"]
        rows = [[None if np.isnan(value) else float(value) for value in row] for row in fitted.rows[:ROWS]]
        expected = np.atleast_2d(values[:ROWS].T).T.astype(float).tolist()
        (FIXTURES / f"{fitted.name}.rows.json").write_text(json.dumps({"rows": rows, "expected": expected}) + "\n")


if __name__ == "__main__":
    main()
