"""Processes of the lab: told apart by number and start, begun in a cgroup, waited for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.machines.lab.errors import LabError

# Its arguments: files that take a process into a cgroup, "--", the program to become.
_JOIN = 'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done; shift; exec "$@"'
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
_POLL = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be taken for a later one with its number."""

    pid: int
    began: str

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """Find a process that runs; a zombie does not."""
        try:
            told = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = told.rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else cls(pid, fields[19])

    @classmethod
    def read(cls, file: Path) -> Process | None:
        """Find the process that a file names, if it still runs."""
        try:
            pid, began = file.read_text().split()
        except (OSError, ValueError):
            return None
        found = cls.find(int(pid))
        return found if found and found.began == began else None

    def write(self, file: Path) -> None:
        """Name the process in a file."""
        new = file.with_suffix(".new")
        new.write_text(self.told())
        new.replace(file)

    def told(self) -> str:
        """Give what a file says to name it."""
        return f"{self.pid} {self.began}\n"

    @property
    def folder(self) -> Path:
        return Path(f"/proc/{self.pid}")


def joining(entrances: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """Give the command that enters cgroups and then becomes a program."""
    return ["sh", "-c", _JOIN, "sh", *map(str, entrances), "--", *argv]


def run(argv: Sequence[str], text: str = "") -> str:
    """Run a program of this machine and give its output.

    Raises:
        LabError: it failed.
    """
    done = subprocess.run(
        list(argv), input=text, capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(argv)} ended with {done.returncode}: {said}")
    return done.stdout


def wait_for(what: str, is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds.

    Raises:
        LabError: it did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:.0f} s in vain for: {what}")
        time.sleep(_POLL)
