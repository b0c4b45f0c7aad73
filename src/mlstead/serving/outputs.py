"""Makes a model's raw arrays the tensors of an answer, and counts the classes among them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlstead.serving.card import Card
from mlstead.serving.problem import AnswerError, quoted
from mlstead.serving.tensors import Array, Json, encode

CLASS = "class"
CLASS_NAME = "class_name"
_FEW = 32


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tensors of an answer, and how often each class was predicted."""

    tensors: list[Json]
    classes: Mapping[str, int]


def finish(card: Card, arrays: dict[str, Array], wanted: tuple[str, ...]) -> Outcome:
    """Pick the outputs to answer: the wanted ones, else class numbers, else all there are.

    Raises:
        AnswerError: 400, a wanted output does not exist; 500, the scores are NaN or not a table.
    """
    labels = _labels(card, arrays)
    usual = [CLASS] if card.output == "argmax" else list(arrays)
    if card.output == "argmax" and labels is not None:
        arrays = {CLASS: labels, **arrays}
    if wanted and card.classes and labels is not None:
        arrays = {CLASS_NAME: _names(card, labels), **arrays}
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise AnswerError(400, f"no output {quoted(missing[0])}; there are {', '.join(arrays)}")
    tensors = [encode(name, arrays[name]) for name in wanted or usual]
    return Outcome(tensors, _count(labels, card.classes))


def _labels(card: Card, arrays: dict[str, Array]) -> Array | None:
    """Give the predicted classes, one per row; None where the model does not classify."""
    first = next(iter(arrays.values()), None)
    if first is None:
        raise AnswerError(500, "the model gave no output")
    if card.output == "argmax":
        if first.ndim < 2 or first.dtype.kind not in "fiu":
            raise AnswerError(500, "the model's first output is not a table of scores")
        if first.dtype.kind == "f" and np.isnan(first).any():
            raise AnswerError(500, "the model's scores are NaN")
        return np.asarray(np.argmax(first, axis=-1))
    if first.dtype.kind in "iuSUO" and (first.ndim == 1 or first.shape[1:] == (1,)):
        return first
    return None


def _names(card: Card, labels: Array) -> Array:
    return np.array([_name(card.classes, value) for value in labels.ravel().tolist()], dtype=object)


def _name(classes: tuple[str, ...], value: object) -> str:
    if isinstance(value, int) and 0 <= value < len(classes):
        return classes[value]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _count(labels: Array | None, classes: tuple[str, ...]) -> Mapping[str, int]:
    if labels is None:
        return {}
    counts: dict[str, int] = {}
    values, amounts = labels.ravel().tolist(), None
    if labels.size > _FEW and labels.dtype.kind != "O":
        unique, times = np.unique(labels, return_counts=True)
        values, amounts = unique.tolist(), times.tolist()
    for value, amount in zip(values, amounts or [1] * len(values), strict=True):
        name = _name(classes, value)
        counts[name] = counts.get(name, 0) + amount
    return counts
