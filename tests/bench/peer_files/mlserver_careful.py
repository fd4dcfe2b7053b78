"""A runtime for MLServer as a careful person writes it: it looks inputs and outputs up by their names. Runs inside MLServer."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxModel(MLModel):
    """Says 400 to names that the model does not have; all else is MLServer's own."""

    async def load(self) -> bool:
        path = await get_model_uri(self._settings)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        known = {spec.name for spec in self.session.get_inputs()}
        if {tensor.name for tensor in payload.inputs} != known:
            raise InferenceError(f"the inputs of this model are {sorted(known)}")
        wanted = [output.name for output in payload.outputs or []] or self.names
        if unknown := set(wanted) - set(self.names):
            raise InferenceError(f"this model has no outputs {sorted(unknown)}")
        feeds = {tensor.name: NumpyCodec.decode_input(tensor).astype(np.float32) for tensor in payload.inputs}
        answers = zip(wanted, self.session.run(wanted, feeds), strict=True)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in answers]
        return InferenceResponse(model_name=self.name, model_version=self.version, id=payload.id, outputs=outputs)
