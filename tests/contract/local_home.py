"""What the tests of the local engine share: a machine of known size, and a look inside."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstead.engines.local import disk
from mlstead.engines.local.attempt import Progress
from mlstead.engines.local.disk import Home
from mlstead.engines.local.engine import LocalEngine
from mlstead.testing.engine_values import wait_until

CAPACITY = "cpu=4,memory=8Gi,gpu=0"


@contextlib.contextmanager
def open_engine(
    home: Path, monkeypatch: pytest.MonkeyPatch, capacity: str = CAPACITY
) -> Iterator[LocalEngine]:
    """Give an engine whose machine has a known size; end it after the test."""
    monkeypatch.setenv("MLSTEAD_CAPACITY", capacity)
    engine = LocalEngine(home)
    try:
        yield engine
    finally:
        engine.shutdown()


def keeper_pid(home: Path) -> int:
    """Give the process of the keeper; 0 when there is none."""
    place = Home(home).lock
    return int(place.read_text() or 0) if disk.is_locked(place) else 0


def kill_keeper(home: Path) -> None:
    """Kill the keeper as the kernel would."""
    kill(keeper_pid(home))


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    assert pid > 0
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), f"process {pid} to go")


def shim_pid(home: Path, task_id: str, attempt: int = 1) -> int:
    """Give the supervisor of an attempt."""
    started = Progress(Home(home).task(task_id) / str(attempt)).started
    assert started is not None
    return int(started["pid"])


def is_alive(pid: int) -> bool:
    """Say whether a process runs, zombies not counted."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def number_in(path: Path) -> int:
    """Read a number that a task writes; 0 until it has."""
    try:
        return int(path.read_text() or "0")
    except FileNotFoundError:
        return 0
