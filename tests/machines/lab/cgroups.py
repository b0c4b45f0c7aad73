"""The control groups of a lab: where its processes are, and how each of them is found and ended.

They lie below the group of the process that makes the lab, in every hierarchy, so that limits
which hold for that process hold for the hosts, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.machines.lab.errors import LabError
from tests.machines.lab.processes import wait_for

_CPUSET = ("cpuset.cpus", "cpuset.mems")  # a new v1 cpuset is empty: nothing can enter it


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup hierarchy.

    Attributes:
        top: where it is mounted.
        kind: ``cgroup`` (v1) or ``cgroup2``.
        options: that mount it again.
        own: the group of the process that made the lab.
    """

    top: str
    kind: str
    options: str
    own: str

    def group(self, *names: str) -> Path:
        return Path(self.top, self.own.lstrip("/"), "lab", *names)


def find_hierarchies() -> tuple[Hierarchy, ...]:
    """Find the hierarchies of this machine, as a host must have them: v1, and v2 beside it.

    Raises:
        LabError: the machine has only cgroup v2, which the lab cannot do yet.
    """
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        own[controllers] = group
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, top, kind, options = line.split()[:4]
        if kind == "cgroup2":
            found.setdefault("", Hierarchy(top, kind, "", own[""]))
        elif kind == "cgroup":
            name = next(n for n in own if n and set(n.split(",")) <= set(options.split(",")))
            prefix = "none," if name.startswith("name=") else ""
            found.setdefault(name, Hierarchy(top, kind, prefix + name, own[name]))
    if "name=systemd" not in found:
        raise LabError("hosts need cgroup v1 with systemd's named hierarchy on this machine")
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of one lab, `*/lab/ID` in each hierarchy; hosts have one each below it."""

    hierarchies: tuple[Hierarchy, ...]
    lab: str

    def make(self, *names: str) -> list[Path]:
        """Make a group in every hierarchy; the files through which a process enters it."""
        return [_made(h.group(self.lab, *names)) / "cgroup.procs" for h in self.hierarchies]

    def processes(self, *names: str) -> set[int]:
        """Find all processes of a group and of those below it."""
        found: set[int] = set()
        for hierarchy in self.hierarchies:
            for group in _below(hierarchy.group(self.lab, *names)):
                with contextlib.suppress(OSError):
                    found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
        return found - {0}

    def end(self, *names: str) -> None:
        """Kill all processes of a group, and wait until it has none."""
        wait_for(f"the end of the processes of {names or self.lab}", lambda: self._ended(names))

    def _ended(self, names: tuple[str, ...]) -> bool:
        for hierarchy in self.hierarchies:
            with contextlib.suppress(OSError):
                (hierarchy.group(self.lab, *names) / "cgroup.kill").write_text("1")
        found = self.processes(*names) - {os.getpid()}
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return not found

    def remove(self, *names: str) -> None:
        """Remove a group without processes, and `lab` itself when the last lab is gone."""
        for hierarchy in self.hierarchies:
            top = hierarchy.group(self.lab, *names)
            wait_for(f"the end of {top}", lambda top=top: _removed(top))  # type: ignore[misc]
            if not names:
                with contextlib.suppress(OSError):
                    hierarchy.group().rmdir()

    def left(self) -> list[Path]:
        """List the groups of this lab that are there."""
        groups = [h.group(self.lab) for h in self.hierarchies]
        return [group for group in groups if group.exists()]


def _made(group: Path) -> Path:
    if not group.exists():
        _made(group.parent)
        group.mkdir(exist_ok=True)
        for name in _CPUSET:
            if (file := group / name).exists() and not file.read_text().strip():
                file.write_text((group.parent / name).read_text())
    return group


def _below(top: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]


def _removed(top: Path) -> bool:
    for group in _below(top):
        with contextlib.suppress(OSError):
            group.rmdir()
    return not top.exists()
