"""Tensors of the Open Inference Protocol and the arrays they stand for."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from mlstead.serving.problem import AnswerError, one_line, quoted

Array = npt.NDArray[Any]
Json = dict[str, Any]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_LARGEST = 2**31
_FLAT_STEP = 65_536
_NESTED_STEP = 64


@dataclass(frozen=True, slots=True)
class Tensor:
    """The name, datatype and shape (-1: any size) of one input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_json(self) -> Json:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def decode(name: str, datatype: object, shape: object, data: object) -> Array:
    """Make an array of a request's tensor; data may be flat or nested like its shape.

    Raises:
        AnswerError: 400, the datatype, the shape or a value of it is wrong.
    """
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise AnswerError(400, f"input {quoted(name)}: unknown datatype {quoted(datatype)}")
    wanted = _shape(name, shape)
    if not isinstance(data, list):
        raise AnswerError(400, f"input {quoted(name)}: data must be a list")
    try:
        array = _array(data, dtype)
    except (ValueError, OverflowError, TypeError) as error:
        raise AnswerError(
            400, f"input {quoted(name)}: not {datatype} data: {one_line(error)}"
        ) from error
    if array.shape != wanted and (array.ndim > 1 or array.size != prod(wanted)):
        raise AnswerError(
            400, f"input {quoted(name)}: shape is {list(wanted)}, data is {list(array.shape)}"
        )
    return array.reshape(wanted)


def _shape(name: str, shape: object) -> tuple[int, ...]:
    right = isinstance(shape, list) and 1 <= len(shape) <= 16
    if not isinstance(shape, list) or not right or any(type(n) is not int or n < 1 for n in shape):
        raise AnswerError(
            400, f"input {quoted(name)}: shape must be a list of 1 to 16 sizes above 0"
        )
    if prod(shape) > _LARGEST:
        raise AnswerError(400, f"input {quoted(name)}: shape is too large")
    return tuple(shape)


def _array(data: list[Any], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "O":
        texts = np.array(data, dtype=object)
        if not all(isinstance(value, str) for value in texts.flat):
            raise ValueError("values must be strings")
        return texts
    array = _numbers(data)
    kind = array.dtype.kind
    if dtype.kind in "iu" and kind in "fO":
        return _wide(data, dtype)
    if kind not in {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]:
        raise ValueError("a value is of another kind")
    if array.dtype == dtype:
        return array
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise ValueError("a value is out of range")
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _numbers(data: list[Any]) -> Array:
    # In pieces, since numpy holds the interpreter while it reads a list, and health checks wait.
    step = _NESTED_STEP if data and isinstance(data[0], list) else _FLAT_STEP
    if len(data) <= step:
        return np.array(data)
    return np.concatenate(
        [np.array(data[start : start + step]) for start in range(0, len(data), step)]
    )


def _wide(data: list[Any], dtype: np.dtype[Any]) -> Array:
    # numpy turns a list that mixes small and very large integers into floats; keep them exact.
    exact = np.array(data, dtype=object)
    if not all(type(value) is int for value in exact.flat):
        raise ValueError("values must be whole numbers")
    return exact.astype(dtype)


def can_cast(given: Array, dtype: np.dtype[Any]) -> bool:
    """Tell whether values may become another datatype without changing what they mean."""
    if given.dtype == dtype:
        return True
    if dtype.kind == "f":
        return given.dtype.kind in "iuf"
    return dtype.kind != "O" and given.dtype.kind != "O" and np.can_cast(given.dtype, dtype)


def datatype_of(array: Array) -> str:
    """Name the protocol's datatype of an array; text is BYTES.

    Raises:
        ValueError: the protocol has no such datatype.
    """
    if array.dtype.kind in "US":
        return "BYTES"
    name = _NAMES.get(array.dtype.newbyteorder("="))
    if name is None:
        raise ValueError(f"no datatype for {array.dtype}")
    return name


def encode(name: str, array: Array) -> Json:
    """Make a response's tensor of an array, its data flat in row-major order.

    Raises:
        ValueError: the protocol has no such datatype.
    """
    datatype = datatype_of(array)
    flat = np.ascontiguousarray(array).ravel()
    data: Any = flat
    if datatype == "BYTES":
        data = [_text(value) for value in flat.tolist()]
    elif not flat.dtype.isnative:
        data = flat.astype(DATATYPES[datatype])
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"no datatype for {type(value).__name__}")
    return value
