"""Small graphs written by hand: Triton's example models, an identity for every datatype, and models that misbehave."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10

# Datatype of the protocol → element type of ONNX.
DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def make_all(into: Path) -> None:
    """Writes every small model."""
    save(add_sub(), into / "simple.onnx")
    save(add_sub_strings(), into / "simple_string.onnx")
    save(add_sub_bytes(), into / "simple_int8.onnx")
    save(identity("simple_identity", TensorProto.STRING, ["batch", "n"]), into / "simple_identity.onnx")
    for name, element in DATATYPES.items():
        save(identity(name.lower(), element, ["rows", "columns"]), into / f"identity-{name.lower()}.onnx")
    save(mixed(), into / "mixed.onnx")
    save(scalar(), into / "scalar.onnx")
    save(busy(), into / "busy.onnx")
    save(division(), into / "division.onnx")
    save(unloadable(), into / "unloadable.onnx", runs=False)
    external_data(into / "external")
    check_small(into)


def add_sub() -> onnx.ModelProto:
    """Triton's `simple`: INPUT0 and INPUT1, INT32 [1,16], to their sum and difference."""
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    return model("simple", nodes, pair("INPUT", TensorProto.INT32), pair("OUTPUT", TensorProto.INT32))


def add_sub_strings() -> onnx.ModelProto:
    """Triton's `simple_string`: the same on numbers written as text."""
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["a"], to=TensorProto.INT32),
        helper.make_node("Cast", ["INPUT1"], ["b"], to=TensorProto.INT32),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=TensorProto.STRING),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=TensorProto.STRING),
    ]
    return model("simple_string", nodes, pair("INPUT", TensorProto.STRING), pair("OUTPUT", TensorProto.STRING))


def add_sub_bytes() -> onnx.ModelProto:
    """Triton's `simple_int8`: the same on INT8, by way of INT32, for which the engine has an addition."""
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["a"], to=TensorProto.INT32),
        helper.make_node("Cast", ["INPUT1"], ["b"], to=TensorProto.INT32),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=TensorProto.INT8),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=TensorProto.INT8),
    ]
    return model("simple_int8", nodes, pair("INPUT", TensorProto.INT8), pair("OUTPUT", TensorProto.INT8))


def identity(name: str, element: int, shape: list) -> onnx.ModelProto:
    """INPUT0 to OUTPUT0, unchanged."""
    nodes = [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
    return model(name, nodes, [value("INPUT0", element, shape)], [value("OUTPUT0", element, shape)])


def mixed() -> onnx.ModelProto:
    """Two inputs and two outputs of different types: halves of the numbers, and the tags with a mark."""
    half = numpy_helper.from_array(np.array(0.5, np.float64), "half")
    mark = helper.make_tensor("mark", TensorProto.STRING, [1], [b"!"])
    nodes = [
        helper.make_node("Cast", ["numbers"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "half"], ["halves"]),
        helper.make_node("StringConcat", ["tags", "mark"], ["marked"]),
    ]
    inputs = [value("numbers", TensorProto.INT64, ["n", 3]), value("tags", TensorProto.STRING, ["m"])]
    outputs = [value("halves", TensorProto.DOUBLE, ["n", 3]), value("marked", TensorProto.STRING, ["m"])]
    return model("mixed", nodes, inputs, outputs, [half, mark])


def scalar() -> onnx.ModelProto:
    """A tensor without dimensions, doubled."""
    two = numpy_helper.from_array(np.array(2.0, np.float32), "two")
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"])]
    return model("scalar", nodes, [value("x", TensorProto.FLOAT, [])], [value("y", TensorProto.FLOAT, [])], [two])


def busy() -> onnx.ModelProto:
    """Multiplies matrices `rounds` times: the caller chooses how long a request takes."""
    side = 192
    matrix = numpy_helper.from_array(np.eye(side, dtype=np.float32), "matrix")
    true = numpy_helper.from_array(np.array(True), "true")
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "matrix"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "round",
        [
            value("i", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, [side, side]),
        ],
        [value("still", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [side, side])],
    )
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    nodes = [
        helper.make_node("Squeeze", ["rounds", "axes"], ["count"]),
        helper.make_node("Loop", ["count", "true", "matrix"], ["last"], body=body),
        helper.make_node("ReduceSum", ["last"], ["trace"], keepdims=0),
    ]
    inputs, outputs = [value("rounds", TensorProto.INT64, [1])], [value("trace", TensorProto.FLOAT, [])]
    return model("busy", nodes, inputs, outputs, [matrix, true, axes])


def division() -> onnx.ModelProto:
    """Fails at run time for an input whose size is not 6: a reshape that cannot be."""
    shape = numpy_helper.from_array(np.array([2, 3], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return model(
        "division", nodes, [value("x", TensorProto.FLOAT, ["n"])], [value("y", TensorProto.FLOAT, [2, 3])], [shape]
    )


def unloadable() -> onnx.ModelProto:
    """Well formed, but no engine can load it: an addition of text and numbers."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return model("unloadable", nodes, [value("x", TensorProto.STRING, ["n"])], [value("y", TensorProto.STRING, ["n"])])


def external_data(folder: Path) -> None:
    """A bundle whose weights are in a file beside the model."""
    folder.mkdir()
    weights = numpy_helper.from_array(np.arange(4096, dtype=np.float32).reshape(64, 64) / 4096, "weights")
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["y"])]
    shape = ["n", 64]
    made = model(
        "external", nodes, [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)], [weights]
    )
    onnx.save(made, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").stat().st_size == 4096 * 4


def value(name: str, element: int, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def pair(stem: str, element: int) -> list[onnx.ValueInfoProto]:
    return [value(f"{stem}{i}", element, [1, 16]) for i in range(2)]


def model(name: str, nodes: list, inputs: list, outputs: list, initializers: list | None = None) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers or [])
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="berth-tests")


def save(made: onnx.ModelProto, path: Path, runs: bool = True) -> None:
    """Saves a model, checked by onnx, and by onnxruntime when it should run."""
    if runs:
        onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)
    if runs:
        session(path)


def session(path: Path) -> onnxruntime.InferenceSession:
    """onnxruntime on the same file: what Berth's answers are compared with."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def check_small(into: Path) -> None:
    """A few known answers, so that a wrong maker is found here and not in a test of the platform."""
    a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), np.int32)
    total, difference = session(into / "simple.onnx").run(None, {"INPUT0": a, "INPUT1": b})
    assert (total == a + b).all() and (difference == a - b).all()
    texts = {"INPUT0": a.astype(str).astype(object), "INPUT1": b.astype(str).astype(object)}
    total, _ = session(into / "simple_string.onnx").run(None, texts)
    assert total[0][15] == "16"
    tags = np.array(["a", "ü"], object)
    halves, marked = session(into / "mixed.onnx").run(None, {"numbers": np.array([[1, 2, 3]]), "tags": tags})
    assert halves.tolist() == [[0.5, 1.0, 1.5]] and marked.tolist() == ["a!", "ü!"]
    assert session(into / "busy.onnx").run(None, {"rounds": np.array([3])})[0] == 192.0
    try:
        session(into / "unloadable.onnx")
    except Exception:
        return
    raise AssertionError("the unloadable model loads")
