"""The job: one command, with its code, environment, inputs, outputs and needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, Tag

from mlstead.spec.address import shown
from mlstead.spec.base import (
    Bytes,
    Count,
    FrozenDict,
    FrozenMap,
    List,
    Model,
    Name,
    Positive,
    Seconds,
    Slot,
    Value,
    Variable,
    by_shape,
)

RetryReason = Literal["error", "oom", "lost", "timeout", "evicted", "preempted"]


class Code(Model):
    """The folder that travels with the work."""

    path: str = Field(default=".", description="The folder, relative to the work file.")
    include: List[str] = Field(
        default=(), description="Files that look like secrets and are to travel all the same."
    )


class Python(Model):
    """The Python environment: a lock file, or requirements resolved at submission."""

    version: str = Field(default="", description="The Python version, such as 3.12; empty: any.")
    lock: str = Field(default="", description="A lock file (uv.lock, or requirements with hashes).")
    requirements: str = Field(
        default="", description="A requirements file, resolved at submission."
    )


class Pick(Model):
    """Of a foreach step's outputs, the one whose value is best."""

    by: str = Field(description="The value or metric that decides.")
    step: str = Field(default="", description="The step, where it is not given beside pick.")
    goal: Literal["min", "max"] = Field(
        default="max", description="Whether less or more is better."
    )


def _data(value: object) -> object:
    if isinstance(value, str):
        return {"version": value}
    if not isinstance(value, Mapping):
        return value
    pick = value.get("pick")
    if isinstance(pick, Mapping) and "step" in pick and "step" not in value:
        return {**value, "step": pick["step"]}
    return value


def _code(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


Url = Annotated[str, PlainSerializer(shown, return_type=str, when_used="json")]
"""An address; JSON, and so every record, has it without password and values of its query."""


class Data(Model):
    """Where one input comes from: exactly one of version, step, path, url."""

    version: str = Field(default="", description="A version: name@3, or name@alias.")
    step: str = Field(default="", description="The step whose output this is.")
    output: str = Field(default="", description="Which output of that step.")
    path: str = Field(default="", description="A file or folder, relative to the work file.")
    url: Url = Field(default="", description="An http or https address; needs sha256.")
    sha256: str = Field(default="", description="The SHA-256 the fetched file must have.")
    mode: Literal["copy", "link", "mount"] = Field(
        default="link", description="How the program sees it; link and mount are read-only."
    )
    pick: Pick | None = Field(default=None, description="Of a foreach step's outputs, which one.")


DataField = Annotated[Data, BeforeValidator(_data, json_schema_input_type=str | Data)]
"""One input; the short form is ``name@3``."""
DataMap = Annotated[Data, BeforeValidator(_data)]
"""One input without the short form."""


class Output(Model):
    """Something the work leaves behind under ``$MLSTEAD_OUTPUTS``."""

    kind: Literal["data", "model", "value", "files"] = Field(
        default="data",
        description="What it becomes: a data or model version, a value, or plain files.",
    )
    name: str = Field(default="", description="The name of the data or model it is a version of.")
    ranks: Literal["first", "all"] = Field(default="first", description="Whose output is kept.")
    alias: List[str] = Field(default=(), description="Aliases the new version gets.")


class Gpu(Model):
    """Which graphics processors, and how many."""

    count: Positive = Field(default=1, description="How many.")
    kind: List[str] = Field(default=(), description="Kinds that will do, best first.")
    memory: str = Field(default="", description="Memory each must have, such as '>=40Gi'.")
    slice: str = Field(default="", description="A part of one, such as 1g.10gb.")


GpuField = Annotated[
    Annotated[Count, Tag("<number>")] | Annotated[Gpu, Tag("<map>")],
    by_shape("a number, or a map with count, kind, memory, slice"),
]


class Resources(Model):
    """What one worker needs: cores, bytes, GPUs."""

    cpu: Annotated[float, Field(ge=0)] = Field(default=1, description="Cores asked for.")
    memory: Bytes = Field(
        default=2 << 30,
        description="Memory asked for, and the limit.",
        json_schema_extra={"default": "2Gi"},
    )
    gpu: GpuField = Field(default=0, description="GPUs: a number, or which kind.")
    shm: Bytes | None = Field(
        default=None, description="Shared memory; half of memory if not given, and counted in it."
    )
    disk: Bytes | None = Field(default=None, description="Scratch space.")


class Workers(Model):
    """Several processes that work on one thing and start together."""

    count: Positive = Field(default=1, description="How many workers; resources are per worker.")
    processes: Annotated[
        Annotated[Positive, Tag("<number>")] | Annotated[Literal["gpu"], Tag("<text>")],
        by_shape("a number, or gpu"),
    ] = Field(default=1, description="Processes per worker; gpu: one per GPU.")
    framework: Literal["torch", "tensorflow", "ray", "none"] = Field(
        default="none", description="Whose environment variables are set."
    )
    launcher: Literal["mlstead", "own"] = Field(
        default="mlstead",
        description="own: the command starts its processes itself, as torchrun does.",
    )
    min: Positive | None = Field(
        default=None, description="Go on with as few as this many workers."
    )
    via: str = Field(default="", description="An operator of the cluster that starts the workers.")


class Retries(Model):
    """How often, and for which reasons, to try again."""

    max: Count = Field(default=0, description="How many times.")
    for_: List[RetryReason] = Field(
        default=("error", "oom", "lost"),
        validation_alias="for",
        serialization_alias="for",
        description="After which ends to try again.",
    )


class SecretFile(Model):
    """A secret given as a file in a 0700 folder."""

    name: str = Field(description="The secret.")
    file: Slot = Field(description="The file's name; the variable holds its path.")


SecretField = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[SecretFile, Tag("<map>")],
    by_shape("the name of a secret, or a map with name and file"),
]


class Message(Model):
    """Whom to tell, and when."""

    to: str = Field(description="The name of the secret that holds the address.")
    when: List[Literal["started", "succeeded", "failed", "cancelled"]] = Field(
        default=("failed",), description="After which events."
    )


class CacheRule(Model):
    """When the outputs of an earlier equal step may stand for this one's."""

    key_extra: str = Field(default="", description="Text that is part of the key.")
    ttl: Seconds | None = Field(default=None, description="How old the earlier step may be.")


Command = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[List[str], Tag("<list>")],
    by_shape("a text (run by sh), or a list of texts (no shell)"),
]
CodeField = Annotated[Code | None, BeforeValidator(_code, json_schema_input_type=str | Code | None)]
"""The code folder; the short form is its path, and null is none."""


class Labelled(Model):
    """What every kind has for people to read and sort by."""

    description: str = Field(default="", description="What it is for, in a sentence.")
    labels: FrozenMap[str, str] = Field(
        default_factory=FrozenDict, description="Words to find it by."
    )
    params: FrozenMap[Variable, Value] = Field(
        default_factory=FrozenDict,
        description="Parameters: a JSON file, variables, and ${{ params.X }} in the command.",
    )
    notify: List[Message] = Field(default=(), description="Whom to tell, and when.")


class JobBody(Labelled):
    """What a job is, wherever it stands."""

    command: Command = Field(description="A text run by sh -ec, or a list without a shell.")
    code: CodeField = Field(
        default_factory=Code, description="The folder that travels along; null: none."
    )
    working_dir: str = Field(default="", description="Where the command starts, inside the code.")
    python: Python | None = Field(default=None, description="The Python environment.")
    image: str = Field(default="", description="The container image.")
    setup: str = Field(default="", description="A command run once per environment.")
    data: FrozenMap[Slot, DataField] = Field(
        default_factory=FrozenDict, description="Inputs, readable at $MLSTEAD_INPUTS/<name>."
    )
    mounts: FrozenMap[str, str] = Field(
        default_factory=FrozenDict, description="Volumes of the context that are not copied."
    )
    outputs: FrozenMap[Slot, Output] = Field(
        default_factory=FrozenDict, description="What it leaves in $MLSTEAD_OUTPUTS/<name>."
    )
    resources: Resources = Field(default_factory=Resources, description="What one worker needs.")
    workers: Workers | None = Field(
        default=None, description="Several workers that start together."
    )
    retries: Retries = Field(default_factory=Retries, description="When to try again.")
    timeout: Seconds | None = Field(default=None, description="The longest an attempt may run.")
    max_queue_time: Seconds | None = Field(default=None, description="The longest it may wait.")
    grace: Seconds = Field(
        default=10.0,
        description="Time between TERM and KILL when it is stopped.",
        json_schema_extra={"default": "10s"},
    )
    queue: str = Field(default="", description="The queue it waits in.")
    priority: str = Field(default="normal", description="Its place in the queue.")
    env: FrozenMap[Variable, str] = Field(
        default_factory=FrozenDict, description="Environment variables."
    )
    secrets: FrozenMap[Variable, SecretField] = Field(
        default_factory=FrozenDict, description="Variables that hold a secret, or its file's path."
    )
    ports: FrozenMap[str, Annotated[int, Field(ge=1, le=65535)]] = Field(
        default_factory=FrozenDict, description="Ports the program listens on, by name."
    )
    seed: Count | None = Field(default=None, description="Given to the program as MLSTEAD_SEED.")
    native: FrozenMap[str, Value] = Field(
        default_factory=FrozenDict, description="A merge patch for one engine's own request."
    )


class Job(JobBody):
    """One command to run to its end, on one or several workers."""

    mlstead: Literal[1] = Field(default=1, description="The version of this format.")
    kind: Literal["job"] = Field(default="job", description="job: one command.")
    name: Name = Field(description="What runs of it are called.")
