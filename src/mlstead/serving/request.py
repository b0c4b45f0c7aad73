"""One inference request, read from the bytes of its body."""

from dataclasses import dataclass
from typing import Any

import orjson

from mlstead.serving.problem import AnswerError, one_line, quoted
from mlstead.serving.tensors import Array, decode

_MOST_TENSORS = 64


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks: named arrays, and which outputs it wants (empty: the usual ones)."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[str, ...]


def parse(body: bytes) -> Request:
    """Read an inference request.

    Raises:
        AnswerError: 400, the body is not JSON or not an inference request.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise AnswerError(400, f"the body is not JSON: {one_line(error)}") from error
    if not isinstance(request, dict):
        raise AnswerError(400, "the body must be a JSON object")
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= _MOST_TENSORS:
        raise AnswerError(400, f"inputs must be a list of 1 to {_MOST_TENSORS} tensors")
    arrays: dict[str, Array] = {}
    for tensor in inputs:
        name = _name(tensor, "inputs")
        if name in arrays:
            raise AnswerError(400, f"input {quoted(name)} is there twice")
        if "data" not in tensor:
            raise AnswerError(400, f"input {quoted(name)} has no data")
        arrays[name] = decode(name, tensor.get("datatype"), tensor.get("shape"), tensor["data"])
    return Request(_id(request), arrays, _outputs(request.get("outputs")))


def _name(tensor: Any, where: str) -> str:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    if not isinstance(name, str):
        raise AnswerError(400, f"{where}: every tensor is an object with a name")
    return name


def _id(request: dict[str, Any]) -> str:
    identity = request.get("id", "")
    if not isinstance(identity, str):
        raise AnswerError(400, "id must be a string")
    return identity


def _outputs(outputs: Any) -> tuple[str, ...]:
    if outputs is None:
        return ()
    if not isinstance(outputs, list) or len(outputs) > _MOST_TENSORS:
        raise AnswerError(400, f"outputs must be a list of at most {_MOST_TENSORS} tensors")
    return tuple(_name(tensor, "outputs") for tensor in outputs)
