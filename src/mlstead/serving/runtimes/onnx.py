"""The runtime ``onnx``: a model file run by ONNX Runtime on one thread."""

from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from mlstead.errors import NotFoundError, UserError
from mlstead.serving.problem import AnswerError, one_line
from mlstead.serving.runtimes.base import Loader, Source
from mlstead.serving.tensors import Array, Tensor

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxPredictor:
    """One ONNX Runtime session; outputs that are not tensors are left out."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_tensor(node) for node in session.get_inputs())
        known = [node for node in session.get_outputs() if node.type in _DATATYPES]
        if not known:
            raise UserError("the model has no output that is a tensor")
        self.outputs = tuple(_tensor(node) for node in known)
        self._names = [tensor.name for tensor in self.outputs]

    def predict(self, arrays: dict[str, Array]) -> dict[str, Array]:
        try:
            results = self._session.run(self._names, arrays)
        except states.InvalidArgument as error:
            raise AnswerError(400, f"the model refuses this input: {one_line(error)}") from error
        return {name: np.asarray(value) for name, value in zip(self._names, results, strict=True)}


def _tensor(node: Any) -> Tensor:
    if node.type not in _DATATYPES:
        raise UserError(f"input {node.name!r} is {node.type}, which the protocol cannot carry")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(node.name, _DATATYPES[node.type], shape)


def load(source: Source) -> OnnxPredictor:
    """Load the model file that the card names.

    Raises:
        NotFoundError: the folder has no such file.
        UserError: the file is not an ONNX model that can be run.
    """
    path = source.folder / source.card.file
    if not path.is_file():
        raise NotFoundError(
            f"no {source.card.file} in the model folder", hint="name it: file in mlstead-model.json"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # errors come back as exceptions; do not print them twice
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise UserError(f"{path.name} is not a model that ONNX Runtime can run: {error}") from error
    return OnnxPredictor(session)


PART: Loader = load
