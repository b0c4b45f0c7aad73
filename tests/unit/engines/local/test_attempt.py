"""The state of a task is read from its files alone, at every moment of its life."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlstead.engines.local import attempt, disk

REQUEST: dict[str, Any] = {
    "resources": {"memory": 100},
    "retry": {"max": 1, "reasons": ["error", "lost"], "backoff": 0.0},
}
STARTED = {"host": "me", "time": 5.0, "pid": 1, "gpus": []}


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "task.json").write_text("{}")
    return tmp_path


def make(
    task: Path, number: int, *lines: dict[str, Any], end: dict[str, Any] | None = None
) -> Path:
    folder = task / str(number)
    folder.mkdir()
    (folder / "alive").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if end is not None:
        (folder / "end.json").write_bytes(disk.dump(end))
    return folder


def phase(task: Path) -> tuple[str, int]:
    status = attempt.status(task, REQUEST)
    return (status["phase"], status["attempt"])


def ended(phase: str, retried: bool = False) -> dict[str, Any]:
    return attempt.ending(phase, None, "", 9.0) | {"retried": retried}


def test_without_an_attempt_it_is_queued(task: Path) -> None:
    assert phase(task) == ("queued", 1)


def test_an_attempt_that_nobody_began_is_queued(task: Path) -> None:
    make(task, 1)
    assert phase(task) == ("queued", 1)


def test_a_living_supervisor_means_starting_then_running(task: Path) -> None:
    folder = make(task, 1, STARTED)
    lock = disk.try_lock(folder / "alive")
    assert lock is not None and phase(task) == ("starting", 1)
    with (folder / "alive").open("a") as file:
        file.write(json.dumps({"time": 6.0}) + "\n")
    status = attempt.status(task, REQUEST)
    assert (status["phase"], status["started"], status["hosts"]) == ("running", 6.0, ["me"])
    os.close(lock)


def test_a_line_that_is_not_whole_says_nothing_yet(task: Path) -> None:
    folder = make(task, 1, STARTED)
    with (folder / "alive").open("a") as file:
        file.write('{"ti')
    assert attempt.Progress(folder).running is None


def test_a_dead_supervisor_without_an_end_means_lost_or_another_try(task: Path) -> None:
    make(task, 1, STARTED)
    assert phase(task) == ("queued", 2)
    make(task, 2, STARTED)
    assert phase(task) == ("lost", 2)


def test_an_end_is_final_unless_it_is_tried_again(task: Path) -> None:
    make(task, 1, STARTED, end=ended("failed", retried=True))
    assert phase(task) == ("queued", 2)
    make(task, 2, STARTED, end=ended("succeeded"))
    assert phase(task) == ("succeeded", 2)


@pytest.mark.parametrize(
    ("number", "reason", "again"),
    [(1, "error", True), (2, "error", False), (1, "oom", False), (1, None, False)],
)
def test_another_try_depends_on_the_reason_and_the_number(
    number: int, reason: str | None, again: bool
) -> None:
    assert attempt.will_retry(REQUEST, number, reason) is again
