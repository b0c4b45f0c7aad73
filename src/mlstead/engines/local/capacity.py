"""How much of this machine tasks may use: cores, memory, GPUs."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from mlstead.engines.local import gpu
from mlstead.engines.local.disk import Home, is_locked
from mlstead.engines.local.gpu import Gpu

VARIABLE = "MLSTEAD_CAPACITY"
_CGROUP = Path("/sys/fs/cgroup")
_SUFFIXES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


class Capacity(NamedTuple):
    """Cores, bytes and GPUs for all tasks together."""

    cpu: float
    memory: int
    gpus: tuple[Gpu, ...]


def measure() -> Capacity:
    """Find out what this process may use, less a reserve of memory for everything else."""
    wanted = _wanted(os.environ.get(VARIABLE, ""))
    memory = wanted.get("memory")
    if memory is None:
        total = _least_limit(_memory_total(), "memory", ("memory.limit_in_bytes", "memory.max"))
        memory = int(total - max(256 << 20, total // 20))
    gpus = gpu.find() if "gpu" not in wanted else _pretended(int(wanted["gpu"]))
    return Capacity(float(wanted.get("cpu") or _cores()), int(memory), gpus)


def of_home(home: Home) -> Capacity:
    """Say what the keeper reckons with, for it alone admits; measured here where there is none.

    A program inside a task sees the limits of the task, which are not those of the machine.
    """
    inside = os.environ.get("MLSTEAD_ATTEMPT_FOLDER", "").startswith(f"{home.root}/")
    if inside or is_locked(home.lock):
        try:
            cpu, memory, gpus = json.loads(home.capacity.read_bytes())
        except (OSError, ValueError):
            return measure()
        return Capacity(cpu, memory, tuple(Gpu(*gpu) for gpu in gpus))
    return measure()


def _wanted(text: str) -> dict[str, float]:
    wanted: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.strip().partition("=")
        factor = _SUFFIXES.get(value[-2:], 1)
        wanted[name] = float(value[:-2] if factor > 1 else value) * factor
    return wanted


def _pretended(count: int) -> tuple[Gpu, ...]:
    """GPUs that only the variable speaks of, each keeper's its own."""
    name = f"pretended-{os.getpid()}"
    return tuple(Gpu(index, "pretended", f"{name}-{index}", 0) for index in range(count))


def _cores() -> float:
    cores = float(len(os.sched_getaffinity(0)))
    for folder in _own_folders("cpu"):
        quota, period = _numbers(folder / "cpu.max", 2)
        if not period:
            quota, _ = _numbers(folder / "cpu.cfs_quota_us", 1)
            period, _ = _numbers(folder / "cpu.cfs_period_us", 1)
        if quota > 0 and period > 0:
            cores = min(cores, quota / period)
    return cores


def _memory_total() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return 0


def _least_limit(limit: int, controller: str, files: tuple[str, ...]) -> int:
    for folder in _own_folders(controller):
        for file in files:
            value, _ = _numbers(folder / file, 1)
            if value > 0:
                limit = min(limit, int(value))
    return limit


def _numbers(path: Path, count: int) -> tuple[float, float]:
    """Read one or two numbers of a cgroup file; zero for what is missing or unlimited."""
    try:
        fields = path.read_text().split()
    except OSError:
        return (0.0, 0.0)
    values = [float(field) if field.lstrip("-").isdigit() else 0.0 for field in fields[:count]]
    return (values[0] if values else 0.0, values[1] if len(values) > 1 else 0.0)


def own_folder(controller: str) -> Path | None:
    """Give the control group this process is in, for a controller; None when it cannot be seen."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            folder = _CGROUP / controller
        elif number == "0":
            folder = _CGROUP if (_CGROUP / "cgroup.controllers").exists() else _CGROUP / "unified"
        else:
            continue
        own = folder / path.lstrip("/")
        own = own if own.is_dir() else folder
        if (own / f"{controller}.stat").exists() or number != "0":
            return own
    return None


def _own_folders(controller: str) -> list[Path]:
    """Give the control group of this process and all those around it."""
    own = own_folder(controller)
    if own is None:
        return []
    return [own, *(folder for folder in own.parents if _CGROUP in (folder, *folder.parents))]
