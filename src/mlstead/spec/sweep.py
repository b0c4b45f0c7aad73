"""The sweep: many trials of one job, as one object."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mlstead.spec.base import (
    Count,
    FrozenDict,
    FrozenMap,
    List,
    Model,
    Name,
    Positive,
    Value,
    Variable,
)
from mlstead.spec.job import JobBody, Labelled


def _pair(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [lowest, highest]")
    return tuple(value)


_PAIR = BeforeValidator(_pair)


class Space(Model):
    """The values one parameter may take; exactly one of float, int, choice."""

    float_: Annotated[tuple[float, float], _PAIR] | None = Field(
        default=None,
        validation_alias="float",
        serialization_alias="float",
        description="The lowest and highest number.",
    )
    int_: Annotated[tuple[int, int], _PAIR] | None = Field(
        default=None,
        validation_alias="int",
        serialization_alias="int",
        description="The lowest and highest whole number.",
    )
    choice: List[Value] | None = Field(default=None, description="The values to choose from.")
    log: bool = Field(default=False, description="Whether to search by order of magnitude.")
    step: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The distance between values; a grid of floats needs it."
    )


class Search(Model):
    """How points are chosen: a method over a space, or a list of points."""

    method: Literal["grid", "random", "tpe", "cmaes"] = Field(
        default="tpe", description="How the next point is chosen."
    )
    seed: Count = Field(default=0, description="The same seed tries the same points.")
    space: FrozenMap[Variable, Space] = Field(
        default_factory=FrozenDict, description="What each parameter may be."
    )
    points: List[FrozenMap[Variable, Value]] = Field(
        default=(), description="The points to try, instead of a space."
    )


class Metric(Model):
    """The figure a sweep looks at."""

    name: str = Field(min_length=1, description="The metric's name, as the trial logs it.")
    goal: Literal["min", "max"] = Field(description="Whether less or more is better.")
    take: Literal["last", "best"] = Field(
        default="last", description="Which of a trial's figures counts."
    )


PruneRule = Literal["median", "asha", "hyperband"]


class Prune(Model):
    """When a trial that does badly is stopped early."""

    method: PruneRule = Field(description="The rule.")
    after: Count = Field(default=0, description="Steps a trial may always make.")


def _prune(value: object) -> object:
    return {"method": value} if isinstance(value, str) else value


class SweepBody(Labelled):
    """Many trials of one job."""

    trial: JobBody = Field(description="The job that is tried; it has no name.")
    search: Search = Field(description="Which points are tried.")
    metric: Metric | None = Field(default=None, description="The figure that decides.")
    trials: Positive | None = Field(default=None, description="How many, finished and pruned.")
    parallel: Positive = Field(default=1, description="How many at once.")
    max_failed: Count | None = Field(
        default=None, description="Stop after more failures than this."
    )
    prune: Annotated[
        Prune | None, BeforeValidator(_prune, json_schema_input_type=PruneRule | Prune | None)
    ] = Field(default=None, description="When a trial is stopped early.")


class Sweep(SweepBody):
    """One object over many trials: listed, followed, stopped, resumed as one."""

    mlstead: Literal[1] = Field(default=1, description="The version of this format.")
    kind: Literal["sweep"] = Field(default="sweep", description="sweep: many trials of one job.")
    name: Name = Field(description="What runs of it are called.")
