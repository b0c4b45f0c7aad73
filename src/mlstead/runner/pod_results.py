"""What a program must have left behind, and how its end is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

VALUES = "values.json"
_LARGEST = 32 << 10
_GROUPS = Path("/sys/fs/cgroup")


def problem(task: dict[str, Any], outputs: Path, rank: int) -> str:
    """Say what is missing of what was declared; "" when all is there.

    The first rank leaves everything; the others what every rank must leave.
    """
    names = task["ranks"] if rank else [*task["outputs"], *task["ranks"]]
    for name in names:
        if not ((outputs / name).is_symlink() or (outputs / name).exists()):
            if name in task["ranks"]:
                return f"output {name!r} is missing of rank {rank}"
            return f"output {name!r} is missing: nothing at $MLSTEAD_OUTPUTS/{name}"
    if rank:
        return ""
    path = outputs / VALUES
    if not path.exists():
        wanted = ", ".join(task["values"])
        return f"value {wanted} is missing: there is no $MLSTEAD_OUTPUTS/{VALUES}" if wanted else ""
    return _values_problem(task, path)


def arrange(names: list[str], outputs: Path, rank: int) -> None:
    """Keep of a rank what it is to leave: ``name/<rank>`` of what all must, the rest of the first.

    A folder that the program replaced by a link is left alone: what lies behind it is not ours.
    """
    if outputs.is_symlink() or not outputs.is_dir():
        return
    for entry in list(outputs.iterdir()):
        if entry.name in names:
            aside = outputs / f".{rank}.{entry.name}"
            aside.mkdir()
            entry.rename(aside / str(rank))
            aside.rename(outputs / entry.name)
        elif rank and (entry.is_symlink() or not entry.is_dir()):
            entry.unlink()
        elif rank:
            shutil.rmtree(entry, ignore_errors=True)


def _values_problem(task: dict[str, Any], path: Path) -> str:
    if not path.is_file():
        return f"{VALUES} is not a file"
    size = path.stat().st_size
    if size > _LARGEST:
        return f"{VALUES} has {size} bytes, at most {_LARGEST} are allowed: use an output instead"
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"{VALUES} is not JSON: {str(error).splitlines()[0]}"
    if not isinstance(values, dict):
        return f"{VALUES} must hold an object, not {type(values).__name__}"
    missing = [name for name in task["values"] if name not in values]
    return f"value {missing[0]!r} is missing in $MLSTEAD_OUTPUTS/{VALUES}" if missing else ""


def peak_memory() -> int | None:
    """Give the most bytes that this container held; None where the kernel does not say."""
    for name in ("memory.peak", "memory/memory.max_usage_in_bytes"):
        try:
            return int((_GROUPS / name).read_text())
        except (OSError, ValueError):
            continue
    return None


def ran_out_of_memory() -> bool:
    """Say whether the kernel killed something in this container for want of memory."""
    for name in ("memory.events", "memory/memory.oom_control"):
        try:
            rows = (_GROUPS / name).read_text().splitlines()
        except OSError:
            continue
        return any(row.startswith("oom_kill ") and row.split()[1] != "0" for row in rows)
    return False
