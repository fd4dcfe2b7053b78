"""Makes every model into the cache and checks each against Python's onnxruntime: `python -m models.make`."""

import shutil

from harness import cache
from models import efficientnet, fitted, small


def main() -> None:
    into = cache.models_dir()
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    small.make_all(into)
    fitted.make_iris(into / "iris.onnx")
    efficientnet.make(cache.packages_dir() / "efficientnet-lite0.pth", into / "efficientnet-lite0.onnx")
    (into / "complete").touch()


if __name__ == "__main__":
    main()
