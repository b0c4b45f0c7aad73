"""Holds each worker to its memory: a control group where one can be made, else by watching."""

import contextlib
import os
import resource
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mlstead.engines.local import process_tree
from mlstead.engines.local.capacity import own_folder

VARIABLE = "MLSTEAD_MEMORY_BY"  # "watching" leaves control groups alone


class Guard(Protocol):
    """What the supervisor of an attempt asks about memory."""

    pause: float
    """Seconds between two looks."""

    def enter(self, worker: int) -> None:
        """From here on, what this process starts counts for a worker."""

    def leave(self) -> None:
        """From here on, what this process starts counts for nobody."""

    def started(self, worker: int, pid: int) -> None:
        """A session of a worker began."""

    def over(self) -> int | None:
        """Give the worker that went over its limit; None when all are below."""

    def peak(self) -> int | None:
        """Give the most bytes any worker held."""

    def close(self) -> None:
        """Give back what was taken."""


class Group:
    """A kind of control group: its files' names in version 1 or 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._first = (folder / "memory.limit_in_bytes").exists()

    def limit(self, memory: int) -> None:
        """Set the limit in bytes; swap does not add to it."""
        if self._first:
            self._write("memory.limit_in_bytes", memory)
            with contextlib.suppress(OSError):
                self._write("memory.memsw.limit_in_bytes", memory)
            return
        self._write("memory.max", memory)
        for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
            with contextlib.suppress(OSError):
                self._write(name, value)

    def join(self) -> None:
        """Move this process, which has one thread, in.

        In version 1 a thread moves itself without a lock (0.2 ms); a process waits for one that
        the kernel gives after some 10 ms.
        """
        self._write("tasks" if self._first else "cgroup.procs", 0)

    def killed(self) -> bool:
        """Say whether the kernel killed something here because the limit was reached."""
        name = "memory.oom_control" if self._first else "memory.events"
        with contextlib.suppress(OSError):
            for line in (self.folder / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1]) > 0
        return False

    def peak(self) -> int | None:
        """Give the most bytes it ever held; None where the kernel does not say."""
        name = "memory.max_usage_in_bytes" if self._first else "memory.peak"
        try:
            return int((self.folder / name).read_text())
        except OSError:
            return None

    def _write(self, name: str, value: int) -> None:
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)


class GroupGuard:
    """The kernel holds each worker to its limit."""

    pause = 0.5

    def __init__(self, base: Path, name: str, workers: int, memory: int) -> None:
        self._home = Group(own_folder("memory") or base.parent)
        self._groups = []
        for worker in range(workers):
            folder = base / f"{name}-{worker}"
            folder.mkdir(exist_ok=True)
            group = Group(folder)
            group.limit(memory)
            self._groups.append(group)

    def enter(self, worker: int) -> None:
        """Count what starts from here for a worker."""
        self._groups[worker].join()

    def leave(self) -> None:
        """Go back to where the keeper is."""
        self._home.join()

    def started(self, worker: int, pid: int) -> None:
        """Nothing to remember: the kernel does."""

    def over(self) -> int | None:
        """Give the first worker in whose group the kernel killed."""
        return next((i for i, group in enumerate(self._groups) if group.killed()), None)

    def peak(self) -> int | None:
        """Give the highest mark of any group."""
        return max((group.peak() or 0 for group in self._groups), default=0) or None

    def close(self) -> None:
        """Remove the groups, which are empty by now."""
        for group in self._groups:
            with contextlib.suppress(OSError):
                group.folder.rmdir()


class WatchGuard:
    """We look every so often; a worker found over its limit is killed."""

    pause = 0.2

    def __init__(self, workers: int, memory: int) -> None:
        self._memory = memory
        self._workers = workers
        self._sessions: dict[int, int] = {}
        self._peak = 0
        self._own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    def enter(self, worker: int) -> None:
        """Nothing to do before a program starts."""

    def leave(self) -> None:
        """Nothing to do after."""

    def started(self, worker: int, pid: int) -> None:
        """Remember whose session it is."""
        self._sessions[pid] = worker

    def over(self) -> int | None:
        """Add up each worker's processes; shared pages count once when it matters."""
        held: dict[int, list[process_tree.Process]] = {}
        for process in process_tree.below(os.getpid()):
            worker = 0 if self._workers == 1 else self._sessions.get(process.session, 0)
            held.setdefault(worker, []).append(process)
        for worker, processes in held.items():
            total = sum(process.resident for process in processes)
            if total > self._memory and len(processes) > 1:
                total = process_tree.proportional(process.pid for process in processes)
            self._peak = max(self._peak, total)
            if total > self._memory:
                return worker
        return None

    def peak(self) -> int | None:
        """Give the most seen, or what the largest process held if that is more."""
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
        # a program smaller than this process inherits its mark: that says nothing
        return max(self._peak, largest if largest > self._own else 0) or None

    def close(self) -> None:
        """Nothing was taken."""


class NoGuard:
    """For tasks that ask for no memory: helpers of ours, which nobody counts."""

    pause = 1.0

    def enter(self, worker: int) -> None:
        """Nothing to do."""

    def leave(self) -> None:
        """Nothing to do."""

    def started(self, worker: int, pid: int) -> None:
        """Nothing to remember."""

    def over(self) -> int | None:
        """Never."""
        return None

    def peak(self) -> int | None:
        """Give what the largest process held."""
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10 or None

    def close(self) -> None:
        """Nothing was taken."""


def find_base(home: Path) -> Path | None:
    """Make a folder for control groups of this home; None where that is not allowed.

    Tried by moving a child process in and out, since only that tells.
    """
    if os.environ.get(VARIABLE) == "watching":
        return None
    for parent in _candidates():
        base = parent / f"mlstead-{zlib.crc32(str(home).encode()):08x}"
        if _works(base):
            return base
    return None


def remove_base(base: Path | None) -> None:
    """Remove the folder again once nothing is active; groups with processes in them stay."""
    if base is None:
        return
    with contextlib.suppress(OSError):
        for path in base.iterdir():
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()
        base.rmdir()


def _candidates() -> list[Path]:
    own = own_folder("memory")
    if own is None:
        return []
    if (own / "memory.limit_in_bytes").exists():
        return [own]
    return [
        folder
        for folder in (own, *own.parents)
        if "memory" in _words(folder / "cgroup.subtree_control")
    ]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _works(base: Path) -> bool:
    probe = base / "probe"
    try:
        base.mkdir(exist_ok=True)
        if not (base / "memory.limit_in_bytes").exists():
            (base / "cgroup.subtree_control").write_text("+memory")
        probe.mkdir(exist_ok=True)
        Group(probe).limit(64 << 20)
    except OSError:
        return False
    child = os.fork()
    if child == 0:
        os._exit(_move_in_and_out(probe))
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        probe.rmdir()
    return status == 0


def _move_in_and_out(probe: Path) -> int:
    home = own_folder("memory")
    if home is None:
        return 1
    try:
        Group(probe).join()
        Group(home).join()
    except OSError:
        return 1
    return 0


def make_guard(base: Path | None, name: str, workers: int, memory: int) -> Guard:
    """Make the guard of one attempt; watching where a control group cannot be made."""
    if memory <= 0:
        return NoGuard()
    if base is not None:
        with contextlib.suppress(OSError):
            return GroupGuard(base, name, workers, memory)
    return WatchGuard(workers, memory)


def kill_leftovers(base: Path | None, name: str, workers: int) -> None:
    """Kill whatever still runs in the groups of an attempt, and remove them."""
    if base is None:
        return
    for worker in range(workers):
        folder = base / f"{name}-{worker}"
        process_tree.kill_all(_members(folder))
        with contextlib.suppress(OSError):
            folder.rmdir()


def _members(folder: Path) -> Sequence[int]:
    return [int(word) for word in _words(folder / "cgroup.procs")]
