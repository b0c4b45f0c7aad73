"""What the files of one task say about it; reads only, and never guesses by process number.

``task.json`` is what was asked. Each attempt has a folder: ``alive`` is locked by its supervisor
for as long as that lives, and its lines say what it reached; ``end.json`` says how it ended.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from mlstead.engines.local.disk import is_locked, read_json, write_all

FAILED = "failed"
LOST = "lost"
CANCELLED = "cancelled"
SUCCEEDED = "succeeded"


def numbers(task: Path) -> list[int]:
    """Give the numbers of the attempts whose folders are kept, lowest first."""
    try:
        return sorted(int(path.name) for path in task.iterdir() if path.name.isdigit())
    except FileNotFoundError:
        return []


class Progress:
    """What a supervisor wrote into ``alive``: when it started, and when its program did."""

    def __init__(self, folder: Path) -> None:
        self.started: dict[str, Any] | None = None
        self.running: float | None = None
        try:
            lines = (folder / "alive").read_bytes().split(b"\n")[:-1]
        except (FileNotFoundError, NotADirectoryError):
            return
        with contextlib.suppress(ValueError, KeyError):
            if lines:
                self.started = json.loads(lines[0])
            if len(lines) > 1:
                self.running = json.loads(lines[1])["time"]

    @property
    def hosts(self) -> list[str]:
        """The machine it runs on; none before it starts."""
        return [self.started["host"]] if self.started else []


def write_progress(alive: int, line: dict[str, Any]) -> None:
    """Add a line to ``alive``, in one write so that it is never seen half.

    Raises:
        OSError: the disk is full.
    """
    write_all(alive, json.dumps(line).encode() + b"\n")


def will_retry(request: dict[str, Any], attempt: int, reason: str | None) -> bool:
    """Say whether an attempt that ended for this reason is followed by another one."""
    retry = request["retry"]
    return reason in retry["reasons"] and attempt <= retry["max"]


def status(task: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Say how far a task is, as the fields of ``Status`` with plain values."""
    found = numbers(task)
    if not found:
        return queued(task, request, 1)
    attempt = found[-1]
    folder = task / str(attempt)
    end = read_json(folder / "end.json")
    if end is None:
        if is_locked(folder / "alive"):
            return under_way(task, request, attempt)
        # it may have ended between the two looks
        end = read_json(folder / "end.json")
    if end is not None:
        if end["retried"]:
            return queued(task, request, attempt + 1)
        return ended(task, request, attempt, end)
    if Progress(folder).started is None:
        return queued(task, request, attempt)
    if will_retry(request, attempt, LOST):
        return queued(task, request, attempt + 1)
    return ended(task, request, attempt, lost(request, attempt))


def queued(task: Path, request: dict[str, Any], attempt: int) -> dict[str, Any]:
    """Describe an attempt that waits for its place."""
    return _common(task, request, "queued", attempt)


def under_way(task: Path, request: dict[str, Any], attempt: int) -> dict[str, Any]:
    """Describe an attempt whose supervisor lives."""
    progress = Progress(task / str(attempt))
    phase = "starting" if progress.running is None else "running"
    fields = _common(task, request, phase, attempt)
    fields["started"] = progress.running
    fields["hosts"] = progress.hosts
    return fields


def ended(task: Path, request: dict[str, Any], attempt: int, end: dict[str, Any]) -> dict[str, Any]:
    """Describe an attempt that has ended."""
    return _common(task, request, end["phase"], attempt) | {
        "reason": end["reason"],
        "exit_code": end["code"],
        "signal": end["signal"],
        "peak_memory": end["peak"],
        "rank": end["rank"],
        "started": end["started"],
        "ended": end["time"],
        "hosts": Progress(task / str(attempt)).hosts,
        "detail": end["detail"],
    }


def ending(phase: str, reason: str | None, detail: str, time: float | None) -> dict[str, Any]:
    """Make what ``end.json`` holds; the caller fills in what else it knows."""
    return {
        "phase": phase, "reason": reason, "detail": detail, "time": time, "code": None,
        "signal": None, "rank": None, "peak": None, "started": None, "retried": False,
    }  # fmt: skip


def lost(request: dict[str, Any], attempt: int, time: float | None = None) -> dict[str, Any]:
    """Make the end of an attempt whose supervisor is gone without a word."""
    end = ending(LOST, LOST, "the process that supervised it was killed or the machine went", time)
    end["retried"] = will_retry(request, attempt, LOST)
    return end


def _common(task: Path, request: dict[str, Any], phase: str, attempt: int) -> dict[str, Any]:
    return {
        "phase": phase,
        "attempt": attempt,
        "memory_limit": request["resources"]["memory"],
        "submitted": submitted(task),
    }


def submitted(task: Path) -> float:
    """Give when the task was submitted, in seconds since the epoch."""
    return (task / "task.json").stat().st_mtime
