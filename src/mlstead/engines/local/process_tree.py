"""The processes below another one: who they are, what memory they hold, and how they are ended."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


class Process(NamedTuple):
    """One process: its parent, its session, resident memory in bytes, start time in ticks."""

    pid: int
    parent: int
    session: int
    resident: int
    started: int


def look(pid: int) -> Process | None:
    """Read one process; None when it is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # the name, in brackets, may hold anything: count from its end
    fields = text[text.rindex(b")") + 2 :].split()
    numbers = [int(fields[index]) for index in (1, 3, 21, 19)]
    return Process(pid, numbers[0], numbers[1], numbers[2] * _PAGE, numbers[3])


def every_process() -> list[Process]:
    """Read all processes of the machine that can be seen."""
    pids = (int(path.name) for path in _PROC.iterdir() if path.name.isdigit())
    return [process for pid in pids if (process := look(pid)) is not None]


def below(pid: int) -> list[Process]:
    """Give all descendants of a process; with a subreaper nothing escapes by forking twice."""
    if (_PROC / str(pid) / "task" / str(pid) / "children").exists():
        return _below_by_children(pid)
    children: dict[int, list[Process]] = {}
    for process in every_process():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        for process in children.get(waiting.pop(), []):
            found.append(process)
            waiting.append(process.pid)
    return found


def _below_by_children(pid: int) -> list[Process]:
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        for child in children(waiting.pop()):
            process = look(child)
            if process is not None:
                found.append(process)
                waiting.append(child)
    return found


def children(pid: int) -> list[int]:
    """Give the children of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found


def proportional(pids: Iterable[int]) -> int:
    """Add up memory in bytes, pages that several processes share counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total


def with_variable(assignment: str) -> list[int]:
    """Find the processes that were started with ``NAME=value`` in their environment."""
    wanted = b"\0" + assignment.encode() + b"\0"
    found = []
    for path in _PROC.iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in b"\0" + (path / "environ").read_bytes() + b"\0":
                    found.append(int(path.name))
    return found


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_all(pids: Iterable[int], seconds: float = 10.0) -> bool:
    """Kill processes and all below them, again and again until none is left; False if some stay."""
    roots = set(pids)
    end = time.monotonic() + seconds
    while True:
        alive = {process.pid for root in roots for process in below(root)}
        alive |= {pid for pid in roots if _runs(pid)}
        if not alive:
            return True
        send(alive, signal.SIGKILL)
        roots |= alive
        if time.monotonic() > end:
            return False
        time.sleep(0.002)


def _runs(pid: int) -> bool:
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return False
    return text[text.rindex(b")") + 2 : text.rindex(b")") + 3] not in b"ZX"
