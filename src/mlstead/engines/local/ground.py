"""Where one attempt works: its folders, what was asked, and whether somebody wants it stopped."""

import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from mlstead.engines.local import disk, ports, worker_env
from mlstead.engines.local.disk import Home


class Grant(NamedTuple):
    """What the keeper gives an attempt: GPU numbers, and where control groups may be made."""

    gpus: tuple[int, ...]
    groups: Path | None


class Ground:
    """The paths and the request of one attempt.

    Raises:
        FileNotFoundError: there is no such task.
    """

    def __init__(self, home: Home, task: Path, number: int) -> None:
        submission = disk.read_json(task / "task.json")
        if submission is None:
            raise FileNotFoundError(task / "task.json")
        self.request: dict[str, Any] = submission["request"]
        self.home = home
        self.task = task
        self.number = number
        self.folder = task / str(number)
        self.work = self.folder / "work"
        self.inputs = self.folder / "inputs"
        self.secrets = self.folder / "secrets"
        self.places = worker_env.places(self.request["workers"])

    @property
    def name(self) -> str:
        """Name the attempt; its control groups are called so."""
        return group_name(self.task.name, self.number)

    def log(self, rank: int = 0) -> Path:
        """Give the log of one rank."""
        return self.folder / (f"log.{rank}" if len(self.places) > 1 else "log")

    def asked_to_stop(self) -> float | None:
        """Give the grace in seconds when the task is to be cancelled, else None."""
        asked = disk.read_json(self.task / "cancel")
        return None if asked is None else float(asked["grace"])


def group_name(task_id: str, number: int) -> str:
    """Name the control groups of an attempt."""
    return f"{task_id}.{number}"


def temporary_folder(folder: Path) -> Path:
    """Name the folder for temporary files of an attempt: short, as sockets need it."""
    base = Path(os.environ.get("TMPDIR") or "/tmp")
    return ports.user_folder(base) / f"t{zlib.crc32(str(folder).encode()):08x}"
