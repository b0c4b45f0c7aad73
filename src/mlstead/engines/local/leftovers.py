"""What an attempt leaves when its supervisor is killed: processes, folders, no word of its end."""

import os
import shutil
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

from mlstead.engines.local import attempt, ground, memory_limit, process_tree, program_env
from mlstead.engines.local.entry import Entry


def kill(entry: Entry, groups: Path | None, shims: Container[int]) -> None:
    """Kill all that still runs of the present attempt.

    It is found in three ways, as each has a gap: orphans come to the keeper as their subreaper, if
    it lived on; control groups hold all, where they can be made; the marker in the environment
    stays whoever is the parent.

    Args:
        entry: the task.
        groups: where its control groups are; None without.
        shims: the keeper's children that supervise other attempts.
    """
    strays = [pid for pid in process_tree.children(os.getpid()) if pid not in shims]
    process_tree.kill_all(strays)
    name = ground.group_name(entry.task.name, entry.attempt)
    memory_limit.kill_leftovers(groups, name, entry.request["workers"]["count"])
    process_tree.kill_all(process_tree.with_variable(program_env.marker(entry.folder)))


def end(entry: Entry) -> dict[str, Any]:
    """Make the end of the present attempt, which nobody saw."""
    lost = attempt.lost(entry.request, entry.attempt, time.time())
    lost["retried"] = lost["retried"] and not (entry.task / "cancel").exists()
    lost["started"] = attempt.Progress(entry.folder).running
    return lost


def remove(entry: Entry) -> None:
    """Remove temporary files and secrets."""
    shutil.rmtree(ground.temporary_folder(entry.folder), ignore_errors=True)
    shutil.rmtree(entry.folder / "secrets", ignore_errors=True)
