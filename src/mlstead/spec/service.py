"""The service: a named thing that answers predictions until it is stopped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from mlstead.spec.base import (
    FrozenDict,
    FrozenMap,
    List,
    Model,
    Name,
    Positive,
    Slot,
    Value,
    Variable,
    by_shape,
)
from mlstead.spec.job import CodeField, DataMap, Labelled, Python, Resources, SecretField

ModelField = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[DataMap, Tag("<map>")],
    by_shape("name@version, or a map with version, step or path"),
]
"""A model: ``name@3``, or where it comes from."""


class ServiceVersion(Model):
    """One model version behind a service."""

    model: ModelField = Field(description="The model: name@3, or where it comes from.")
    runtime: str = Field(
        default="", description="What serves it; empty: found by the model's files."
    )


class Gate(Model):
    """A figure that must hold for a rollout to go on."""

    metric: str = Field(description="The figure.")
    at_least: float | None = Field(default=None, description="It must not be lower.")
    at_most: float | None = Field(default=None, description="It must not be higher.")


class Rollout(Model):
    """The shares of traffic a new version gets, in order."""

    steps: List[Annotated[int, Field(ge=1, le=100)]] = Field(
        default=(100,), description="Per cent of the traffic, rising, 100 last."
    )
    gate: Gate | None = Field(default=None, description="What must hold before each next step.")


class Replicas(Model):
    """How many processes serve."""

    min: Positive = Field(default=1, description="At least.")
    max: Positive = Field(default=1, description="At most.")


class ServiceBody(Labelled):
    """A model behind an address."""

    model: ModelField = Field(default="", description="The model, where there is one version.")
    versions: FrozenMap[Slot, ServiceVersion] = Field(
        default_factory=FrozenDict, description="Several versions, by name."
    )
    runtime: str = Field(
        default="", description="What serves it; empty: found by the model's files."
    )
    code: CodeField = Field(default=None, description="The folder with code of the runtime.")
    python: Python | None = Field(default=None, description="The Python environment.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=0, description="0: a free one.")
    replicas: Replicas = Field(default_factory=Replicas, description="How many processes.")
    traffic: FrozenMap[Slot, Annotated[int, Field(ge=0, le=100)]] = Field(
        default_factory=FrozenDict, description="Per cent of the requests, by version."
    )
    rollout: Rollout | None = Field(default=None, description="How a new version takes over.")
    resources: Resources = Field(default_factory=Resources, description="What a replica needs.")
    env: FrozenMap[Variable, str] = Field(
        default_factory=FrozenDict, description="Environment variables."
    )
    secrets: FrozenMap[Variable, SecretField] = Field(
        default_factory=FrozenDict, description="Variables that hold a secret, or its file's path."
    )
    native: FrozenMap[str, Value] = Field(
        default_factory=FrozenDict, description="A merge patch for one engine's own request."
    )


class Service(ServiceBody):
    """A named thing of a project that answers predictions until it is stopped."""

    mlstead: Literal[1] = Field(default=1, description="The version of this format.")
    kind: Literal["service"] = Field(
        default="service", description="service: a model behind an address."
    )
    name: Name = Field(description="What it is called in its project.")
