"""The notebook: a server for people, with data mounted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlstead.spec.base import FrozenDict, FrozenMap, Model, Name, Seconds, Slot
from mlstead.spec.job import DataField, Resources


class Notebook(Model):
    """A notebook server with data mounted."""

    mlstead: Literal[1] = Field(default=1, description="The version of this format.")
    kind: Literal["notebook"] = Field(
        default="notebook", description="notebook: a server for people."
    )
    name: Name = Field(description="What runs of it are called.")
    image: str = Field(default="", description="The container image.")
    data: FrozenMap[Slot, DataField] = Field(
        default_factory=FrozenDict, description="Data that is mounted."
    )
    resources: Resources = Field(default_factory=Resources, description="What it needs.")
    idle: Seconds | None = Field(default=None, description="It stops after this long without use.")
