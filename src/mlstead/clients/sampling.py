"""Chooses the points of a sweep: a list, a grid or at random here; Optuna is asked for the rest.

A study keeps nothing: it is made again from the trials of the records. What trial 17 gets depends
on the seed, on 17 and on the trials before it, so a sweep that was killed goes on as it would have.
"""

import hashlib
import importlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol, cast

from mlstead.errors import UserError

Outcome = Literal["succeeded", "failed", "running"]
METHODS = ("grid", "random", "tpe", "cmaes")


@dataclass(frozen=True, slots=True)
class Axis:
    """The values one parameter may take.

    Attributes:
        low, high: both included; 0 for a choice.
        step: distance of two values, 0 for any; 1 for an int that says nothing.
    """

    name: str
    kind: Literal["float", "int", "choice"]
    low: float = 0
    high: float = 0
    step: float = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def size(self) -> int | None:
        """How many values there are; None if there is no end of them."""
        if self.kind == "choice":
            return len(self.choices)
        if self.low == self.high:
            return 1
        if not self.step:
            return None
        return int((Decimal(str(self.high)) - Decimal(str(self.low))) / Decimal(str(self.step))) + 1

    def at(self, place: int) -> Any:
        """Give the value at a place, from 0, without the dust of binary fractions."""
        if self.kind == "choice":
            return self.choices[place]
        value = Decimal(str(self.low)) + place * Decimal(str(self.step))
        return int(value) if self.kind == "int" else float(value)


@dataclass(frozen=True, slots=True)
class Asked:
    """The point of the next trial, with what must be recorded beside it, as JSON data.

    ``distributions`` and ``attrs`` are the sampler's own; they come back in ``Trial``.
    """

    params: Mapping[str, Any]
    distributions: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of the records; ``value`` counts only when it succeeded and is finite."""

    number: int
    params: Mapping[str, Any]
    state: Outcome
    value: float | None = None
    distributions: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Study(Protocol):
    """Gives points and learns from trials."""

    @property
    def size(self) -> int | None:
        """How many points there are, None if there is no end of them."""

    def ask(self, number: int) -> Asked:
        """Give the point of trial ``number``, from 0; every trial before it was added or asked."""

    def add(self, trial: Trial) -> None:
        """Take in a trial of the records, or what became of one that was asked."""


def open_study(search: Mapping[str, Any], goal: Literal["min", "max"] = "min") -> Study:
    """Make an empty study from the ``search:`` of a sweep, as JSON data.

    Raises:
        UserError: the space is empty or wrong, or the method cannot search it.
    """
    points: Sequence[Mapping[str, Any]] = search.get("points") or ()
    if points:
        return _Fixed(tuple(dict(point) for point in points))
    axes = parse(search.get("space") or {})
    method, seed = search.get("method") or "tpe", int(search.get("seed") or 0)
    if not axes:
        raise UserError("search: the space is empty", hint="give search.space or search.points")
    if method == "grid":
        return _Grid(axes)
    if method == "random":
        return _Random(axes, seed)
    if method not in METHODS:
        raise UserError(f"search.method: no {method!r}", hint="known: " + ", ".join(METHODS))
    # By name: Optuna takes 0.4 s to import, and a grid or chance do not need it.
    library = importlib.import_module("mlstead.clients.optuna")
    return cast("Study", library.Study(axes, method, seed, goal))


def seed_of(seed: int, number: int) -> int:
    """Give the seed of one trial, 32 bits, the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4])


def same(left: object, right: object) -> bool:
    """Compare two JSON values; 1, 1.0 and true are three."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def parse(space: Mapping[str, Mapping[str, Any]]) -> tuple[Axis, ...]:
    """Read a space, by name: a database may give the names in another order.

    Raises:
        UserError: an axis is wrong; the message says which and why.
    """
    return tuple(_axis(name, space[name]) for name in sorted(space))


def _axis(name: str, given: Mapping[str, Any]) -> Axis:
    said = [kind for kind in ("float", "int", "choice") if given.get(kind) is not None]
    log, step = bool(given.get("log")), given.get("step")
    where = f"search.space.{name}"
    if len(said) != 1:
        raise UserError(f"{where}: give exactly one of float, int, choice")
    if said == ["choice"]:
        if not given["choice"] or log or step is not None:
            raise UserError(f"{where}: a choice needs values, and takes no log or step")
        return Axis(name, "choice", choices=tuple(given["choice"]))
    low, high = given[said[0]]
    step = step if step is not None else (1 if said == ["int"] else 0)
    if wrong := _wrong(said[0], low, high, float(step), log, given.get("step") is not None):
        raise UserError(f"{where}: {wrong}")
    if said == ["int"]:
        low, high, step = int(low), int(high), int(step)
    return Axis(name, cast("Any", said[0]), low, high, step, log)


def _wrong(kind: str, low: float, high: float, step: float, log: bool, stepped: bool) -> str:
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(step)):
        return "the bounds must be finite"
    if low > high:
        return f"{low} is above {high}"
    if log and low <= 0:
        return f"log needs bounds above 0, not {low}"
    if log and stepped:
        return "log and step exclude each other"
    if stepped and step <= 0:
        return "step must be above 0"
    if kind == "int" and not all(float(value).is_integer() for value in (low, high, step)):
        return "an int needs whole bounds and a whole step"
    return ""


class _Fixed:
    """An explicit list of points."""

    def __init__(self, points: tuple[Mapping[str, Any], ...]) -> None:
        self._points = points
        self.size: int | None = len(points)

    def ask(self, number: int) -> Asked:
        if number >= len(self._points):
            raise _beyond(number, len(self._points))
        return Asked(self._points[number])

    def add(self, trial: Trial) -> None:
        """A list learns nothing."""


class _Grid:
    """Every combination, the last name changing fastest."""

    def __init__(self, axes: tuple[Axis, ...]) -> None:
        for axis in axes:
            if axis.size is None or axis.log:
                raise UserError(
                    f"search.space.{axis.name}: a grid cannot count a float without step, or log",
                    hint="give step, or choice: [...]",
                )
        self._axes = axes
        self._size = math.prod(axis.size or 1 for axis in axes)

    @property
    def size(self) -> int | None:
        return self._size

    def ask(self, number: int) -> Asked:
        if number >= self._size:
            raise _beyond(number, self._size)
        params = {}
        for axis in reversed(self._axes):
            number, place = divmod(number, axis.size or 1)
            params[axis.name] = axis.at(place)
        return Asked(dict(reversed(params.items())))

    def add(self, trial: Trial) -> None:
        """A grid learns nothing."""


class _Random:
    """Independent points; the distributions are those of Optuna's RandomSampler."""

    def __init__(self, axes: tuple[Axis, ...], seed: int) -> None:
        self._axes = axes
        self._seed = seed
        self.size: int | None = None

    def ask(self, number: int) -> Asked:
        chance = random.Random(seed_of(self._seed, number))
        return Asked({axis.name: _drawn(axis, chance) for axis in self._axes})

    def add(self, trial: Trial) -> None:
        """Chance learns nothing."""


def _drawn(axis: Axis, chance: random.Random) -> Any:
    if axis.log and axis.kind == "int":
        # Every whole number gets the share of the log scale from half below it to half above.
        exact = math.exp(chance.uniform(math.log(axis.low - 0.5), math.log(axis.high + 0.5)))
        return int(min(max(round(exact), axis.low), axis.high))
    if axis.size is not None:
        return axis.at(chance.randrange(axis.size))
    if axis.log:
        value = math.exp(chance.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        value = chance.uniform(axis.low, axis.high)
    return min(max(value, float(axis.low)), float(axis.high))


def _beyond(number: int, size: int) -> UserError:
    return UserError(f"trial {number}: there are only {size} points")
