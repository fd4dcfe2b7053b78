"""Triton's Python backend: a batch of requests becomes one call of onnxruntime. Runs inside Triton."""

import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb


class TritonPythonModel:
    """One instance: one session with one thread, which is the quickest for a model this small."""

    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        rows = [pb.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        label, probabilities = self.session.run(["label", "probabilities"], {"input": np.concatenate(rows)})
        answers, start = [], 0
        for part in rows:
            end = start + len(part)
            outputs = [
                pb.Tensor("label", label[start:end].reshape(-1, 1)),
                pb.Tensor("probabilities", probabilities[start:end]),
            ]
            answers.append(pb.InferenceResponse(output_tensors=outputs))
            start = end
        return answers
