"""Triton's Python backend for MiniLM: a batch of requests becomes one call of onnxruntime. Runs inside Triton."""

import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class TritonPythonModel:
    """One instance: one session; how many there are and how many threads each has is in the configuration."""

    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        parts = {name: [pb.get_input_tensor_by_name(one, name).as_numpy() for one in requests] for name in INPUTS}
        joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        (states,) = self.session.run(["last_hidden_state"], joined)
        answers, start = [], 0
        for part in parts["input_ids"]:
            end = start + len(part)
            output = pb.Tensor("last_hidden_state", states[start:end])
            answers.append(pb.InferenceResponse(output_tensors=[output]))
            start = end
        return answers
