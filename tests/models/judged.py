"""A small classifier in versions that are good, fail, are slow, or answer something else, for rollouts that are judged."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.small import model, save, value

SIDE = 192
# Inputs whose last value is above this one are the hard ones: one in twenty.
HARD = 0.95
# Elements that no machine has room for.
TOO_MANY = 1 << 42


def classifier(path: Path, rounds: int = 20, fails: bool = False, flipped: bool = False) -> Path:
    """The place of the greatest of three values. Hard inputs cost `rounds` products of matrices; they `fail` for want of memory."""
    constants = {
        "weights": np.eye(4, 3, dtype=np.float32) * (-1 if flipped else 1),
        "last_of_four": np.array([[0], [0], [0], [1]], np.float32),
        "hard_from": np.array(HARD, np.float32),
        "rounds_hard": np.array(rounds, np.int64),
        "none": np.array(0, np.int64),
        "scalar": np.array([], np.int64),
        "one_long": np.array([1], np.int64),
        "size_hard": np.array(TOO_MANY if fails else 1, np.int64),
        "one": np.array(1, np.int64),
        "nothing": np.array(0, np.float32),
        "matrix": np.eye(SIDE, dtype=np.float32),
        "true": np.array(True),
    }
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["greatest"], axis=1, keepdims=0),
        helper.make_node("MatMul", ["x", "last_of_four"], ["last"]),
        helper.make_node("Reshape", ["last", "scalar"], ["difficulty"]),
        helper.make_node("Greater", ["difficulty", "hard_from"], ["hard"]),
        helper.make_node("Where", ["hard", "rounds_hard", "none"], ["count"]),
        helper.make_node("Loop", ["count", "true", "matrix"], ["worked"], body=body()),
        helper.make_node("ReduceSum", ["worked"], ["trace"], keepdims=0),
        helper.make_node("Mul", ["trace", "nothing"], ["no_trace"]),
        helper.make_node("Cast", ["no_trace"], ["work_done"], to=TensorProto.INT64),
        helper.make_node("Where", ["hard", "size_hard", "one"], ["size"]),
        helper.make_node("Reshape", ["size", "one_long"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["room"], value=zero),
        helper.make_node("Gather", ["room", "none"], ["room_had"]),
        helper.make_node("Add", ["greatest", "work_done"], ["labelled"]),
        helper.make_node("Add", ["labelled", "room_had"], ["label"]),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    inputs, outputs = [value("x", TensorProto.FLOAT, [1, 4])], [value("label", TensorProto.INT64, [1])]
    save(model(path.stem, nodes, inputs, outputs, tensors), path)
    return path


def body() -> onnx.GraphProto:
    """One round of work."""
    nodes = [
        helper.make_node("MatMul", ["state", "matrix"], ["next"]),
        helper.make_node("Identity", ["going"], ["still"]),
    ]
    state, following = (value(name, TensorProto.FLOAT, [SIDE, SIDE]) for name in ("state", "next"))
    inputs = [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), state]
    return helper.make_graph(nodes, "round", inputs, [value("still", TensorProto.BOOL, []), following])
