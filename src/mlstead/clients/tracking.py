"""What is copied to a tracking store, as frozen data, and the door to it; imports no library."""

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast


def default_uri(home: Path) -> str:
    """Give the address of the store under MLSTEAD_HOME, as MLFLOW_TRACKING_URI wants it."""
    return f"sqlite:///{home.resolve()}/mlflow.db"


class Measured(Protocol):
    """One value of one metric; a Point of the records is one. ``time`` is in Unix seconds."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def step(self) -> int: ...
    @property
    def time(self) -> float: ...
    @property
    def rank(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Read:
    """One value that a script logged to MLflow itself; ``time`` is in Unix seconds."""

    key: str
    value: float
    step: int
    time: float
    rank: int = 0


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What a script logged to MLflow itself."""

    points: tuple[Read, ...]
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be copied.

    Attributes:
        project: becomes the experiment.
        run_id: ours; MLflow has its own.
        parent: MLflow's id of the parent, or "".
        started: Unix seconds, None for now.
    """

    project: str
    name: str
    run_id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    started: float | None = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A model version to be copied.

    Attributes:
        number: ours, from 1.
        source: the address of its files.
        run: MLflow's id of the run that made it, or "".
        tags: its lineage: code tree, data, digest.
    """

    name: str
    number: int
    source: str
    run: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


class Tracking(Protocol):
    """A tracking store that is open; ``clients.mlflow.Tracking`` says what each word does."""

    def open_run(self, run: NewRun) -> str:
        """Make the copy of a run, or find it, and give the store's id of it."""

    def log_points(self, mlflow_id: str, points: Sequence[Measured]) -> None:
        """Copy points, in order."""

    def log_params(self, mlflow_id: str, params: Mapping[str, Any]) -> None:
        """Copy parameters; the first value of each stays."""

    def set_tags(self, mlflow_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run's copy."""

    def close_run(self, mlflow_id: str, state: str, ended: float) -> None:
        """Say how a run ended, and when, in Unix seconds."""

    def read_back(self, mlflow_id: str, known: Collection[str] = ()) -> ReadBack:
        """Read what a script logged itself, less the ``known`` keys."""

    def register_model(self, version: NewVersion) -> str:
        """Copy a model version and give the store's number of it."""

    def set_alias(self, name: str, alias: str, number: int) -> bool:
        """Let an alias point at our version ``number``; 0 removes it."""


def open_tracking(uri: str) -> Tracking:
    """Open a store; this imports MLflow, 4 s of one core, so do it in a thread beside the work.

    Raises:
        UnavailableError: the store does not answer.
    """
    library = importlib.import_module("mlstead.clients.mlflow")
    return cast("Tracking", library.Tracking(uri))
