"""What every kind of work is driven with, and how its runs are named."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlstead.artifacts.base import ArtifactStore
from mlstead.artifacts.code import CodeStore
from mlstead.engines.base import Engine, Facts
from mlstead.records.base import Store

ID_LENGTH = 52


class Secrets(Protocol):
    """Where secret values come from."""

    def get(self, name: str) -> str:
        """Give a value; NotFoundError if there is none."""

    def names(self) -> list[str]:
        """Name every secret."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Backends:
    """The engine, stores and folders that one context works with.

    Attributes:
        home: the state of mlstead; own: what this context alone keeps there.
        helper: where our own processes, such as the driver, run; None: where the work does.
    """

    home: Path
    engine: Engine
    facts: Facts
    store: Store
    artifacts: ArtifactStore
    code: CodeStore
    secrets: Secrets
    clock: Callable[[], float]
    tracking: str = ""
    own: Path | None = None
    helper: Engine | None = None

    @property
    def remote(self) -> bool:
        """True where the work runs on other machines than this one."""
        return self.helper is not None


def child_id(parent: str, key: str, generation: int = 1) -> str:
    """Derive a child's id from the decision that makes it, so that deciding twice makes one."""
    tail = key.replace("[", "-").replace("]", "")
    if generation > 1:
        tail += f"-r{generation}"
    whole = f"{parent}-{tail}"
    if len(whole) <= ID_LENGTH:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: ID_LENGTH - 9].rstrip('-')}-{digest}"
