"""Holds a request's arrays against what a model takes, and prepares them for it."""

from typing import Any

import numpy as np

from mlstead.errors import UserError
from mlstead.serving.card import Card
from mlstead.serving.problem import AnswerError, quoted
from mlstead.serving.request import Request
from mlstead.serving.tensors import DATATYPES, Array, Tensor, can_cast


class Intake:
    """What clients have to send, by the model's card, else by what the runtime knows.

    A model with one input takes the one tensor sent, whatever its name. Datatypes named by the
    card must match; where only the runtime names them, numbers may be widened to them.
    """

    def __init__(self, card: Card, native: tuple[Tensor, ...]) -> None:
        stated = tuple(Tensor(one.name, one.datatype, one.shape) for one in card.inputs)
        if stated and native and len(stated) != len(native):
            raise UserError(f"the card has {len(stated)} inputs, the model has {len(native)}")
        self.declared = stated or native
        self._strict = bool(stated)
        self._card = card
        self._native = {tensor.name: tensor for tensor in native}
        self._names = self._targets(stated, native)

    @staticmethod
    def _targets(stated: tuple[Tensor, ...], native: tuple[Tensor, ...]) -> dict[str, str]:
        if len(stated) == 1 and len(native) == 1:
            return {stated[0].name: native[0].name}
        missing = {tensor.name for tensor in native} - {tensor.name for tensor in stated}
        if stated and missing:
            raise UserError(f"the card lacks the model's input {sorted(missing)[0]!r}")
        return {tensor.name: tensor.name for tensor in stated or native}

    def accept(self, request: Request) -> dict[str, Array]:
        """Give the arrays as the model takes them.

        Raises:
            AnswerError: 400, an input is missing, unknown, misshapen, mistyped, or not finite.
        """
        given = self._match(request.inputs)
        for tensor in self.declared:
            self._check(tensor, given[tensor.name])
        prepared = {
            self._names.get(name, name): self._prepare(self._names.get(name, name), array)
            for name, array in given.items()
        }
        if not self._card.allow_nan:
            for name, array in prepared.items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise AnswerError(400, f"input {quoted(name)}: a value is NaN or too large")
        return prepared

    def _match(self, given: dict[str, Array]) -> dict[str, Array]:
        if not self.declared:
            return given
        if len(self.declared) == 1 and len(given) == 1:
            return {self.declared[0].name: next(iter(given.values()))}
        wanted = {tensor.name for tensor in self.declared}
        if wanted != set(given):
            raise AnswerError(400, f"the model's inputs are {', '.join(sorted(wanted))}")
        return given

    def _check(self, tensor: Tensor, array: Array) -> None:
        dtype = DATATYPES[tensor.datatype]
        right = array.dtype == dtype if self._strict else can_cast(array, dtype)
        if not right:
            raise AnswerError(
                400, f"input {quoted(tensor.name)}: datatype must be {tensor.datatype}"
            )
        fits = len(array.shape) == len(tensor.shape) and all(
            want in (-1, size) for want, size in zip(tensor.shape, array.shape, strict=True)
        )
        if not fits:
            raise AnswerError(
                400,
                f"input {quoted(tensor.name)}: shape must be {list(tensor.shape)}, "
                f"not {list(array.shape)}",
            )

    def _prepare(self, name: str, array: Array) -> Array:
        native = self._native.get(name)
        target: np.dtype[Any] = DATATYPES[native.datatype] if native else array.dtype
        steps = self._card.preprocess
        if steps is None:
            return _cast(array, target)
        if steps.reshape:
            array = _reshape(array, steps.reshape)
        if steps.scale == 1.0 and steps.offset == 0.0:
            return _cast(array, target)
        work = target if target.kind == "f" else np.dtype(np.float32)
        scaled = _cast(array, work) * work.type(steps.scale) + work.type(steps.offset)
        return _cast(scaled, target if native else work)

    def sample(self) -> dict[str, Array]:
        """Give zeros of the declared shapes, prepared; empty where that cannot be made."""
        if any(tensor.datatype == "BYTES" for tensor in self.declared):
            return {}
        zeros = {
            tensor.name: np.zeros(
                [1 if size == -1 else size for size in tensor.shape],
                DATATYPES[tensor.datatype],
            )
            for tensor in self.declared
        }
        return self.accept(Request("", zeros, ())) if zeros else {}


def _cast(array: Array, target: np.dtype[Any]) -> Array:
    if array.dtype == target:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(target)


def _reshape(array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise AnswerError(400, f"data cannot be given the shape {list(shape)}") from error
