"""Models of XGBoost and LightGBM as the libraries save them: served without the libraries, equal to what those predict."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from harness.clients import http_client, http_inputs, http_outputs
from harness.platform import ApiError, Platform
from models import trees

TOLERANCE = 1e-6
PLATFORMS = {"json": "xgboost_json", "ubj": "xgboost_ubj", "txt": "lightgbm_text"}
# Every model as the smaller of its files, and some as the other.
FILES = (
    *(f"{name}.{'ubj' if name.startswith('xgboost') else 'txt'}" for name in trees.NAMES),
    *(f"xgboost-{name}.json" for name in ("binary", "multiclass", "dart", "labels", "quantiles", "categories-sets")),
)


@pytest.fixture(scope="module")
def fitted() -> dict[str, trees.Fitted]:
    models = {model.name: model for model in trees.every()}
    assert set(models) == set(trees.NAMES)
    return models


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("trees")


def saved(folder: Path, fitted: dict[str, trees.Fitted], file: str) -> tuple[trees.Fitted, Path]:
    """A model and the file that its library saved."""
    model, path = fitted[file.partition(".")[0]], folder / file
    model.save(path)
    return model, path


@pytest.fixture
def served(platform: Platform, folder: Path, fitted, request) -> Iterator[trees.Fitted]:
    """One model, deployed for one test under the name that `service` gives its file."""
    model, path = saved(folder, fitted, request.param)
    platform.deploy(service(request.param), path, model=stored(path, model.format))
    yield model
    platform.berth("delete", service(request.param))


def service(file: str) -> str:
    return file.replace(".", "-")


def stored(path: Path, format: str) -> dict:
    return {"modelFormat": {"name": format}, "storageUri": f"file://{path}"}


def asked(fitted: trees.Fitted) -> np.ndarray:
    return fitted.rows.astype(np.float64 if fitted.format == "lightgbm" else np.float32)


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        if name == "label":
            assert (found[name] == values).all()
        else:
            np.testing.assert_allclose(found[name], values, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("served", FILES, indirect=True)
def test_answers_are_the_librarys(platform: Platform, served: trees.Fitted, request) -> None:
    outputs = list(served.outputs)
    file = request.node.callspec.params["served"]
    name, ending = service(file), file.rpartition(".")[2]
    with http_client(platform) as client:
        assert client.get_model_metadata(name)["platform"] == PLATFORMS[ending]
        for binary in (True, False):
            result = client.infer(name, http_inputs({"input": asked(served)}), outputs=http_outputs(outputs, binary))
            check({name: result.as_numpy(name) for name in outputs}, served.outputs)
        first = client.infer(name, http_inputs({"input": asked(served)[:1]}))
        check({name: first.as_numpy(name) for name in outputs}, {name: values[:1] for name, values in served.outputs.items()})


@pytest.mark.parametrize("served", ["lightgbm-binary.txt"], indirect=True)
def test_a_request_that_does_not_fit_says_what_would(platform: Platform, served: trees.Fitted) -> None:
    with http_client(platform) as client:
        for rows, words in ((served.rows.astype(np.float32), "FP64"), (served.rows[:, 1:], "shape")):
            with pytest.raises(InferenceServerException, match=words):
                client.infer("lightgbm-binary-txt", http_inputs({"input": rows}))


@pytest.mark.parametrize("file", ["lightgbm-binary.txt", "xgboost-binary.json", "xgboost-binary.ubj"])
def test_the_command_line_knows_the_format(platform: Platform, folder: Path, fitted, file: str) -> None:
    model, path = saved(folder, fitted, file)
    name = f"by-content-{service(file)}"
    platform.berth("deploy", name, path)
    spec = platform.service(name)["spec"]
    assert spec["predictor"]["model"]["modelFormat"]["name"] == model.format
    platform.berth("delete", name)


def test_content_and_manifest_must_agree(platform: Platform, folder: Path, fitted) -> None:
    _, path = saved(folder, fitted, "lightgbm-binary.txt")
    with pytest.raises(ApiError) as refused:
        platform.create("wrong", path, model=stored(path, "xgboost"))
    assert refused.value.code == 422 and "`lightgbm`" in str(refused.value)


@pytest.mark.parametrize("file", ["lightgbm-binary.txt", "xgboost-binary.json", "xgboost-binary.ubj"])
def test_a_file_that_is_cut_off_is_refused(platform: Platform, folder: Path, fitted, file: str) -> None:
    model, path = saved(folder, fitted, file)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ApiError) as refused:
        platform.create("cut", path, model=stored(path, model.format))
    assert refused.value.code == 422 and "damaged model" in str(refused.value)
