"""Starts the supervisor of an attempt: a fork of the keeper that keeps nothing of the keeper's."""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlstead.engines.local import gpu, shim
from mlstead.engines.local.disk import Home
from mlstead.engines.local.entry import Entry
from mlstead.engines.local.gpu import Gpu
from mlstead.engines.local.ground import Grant


def lock_gpus(gpus: Iterable[Gpu]) -> list[int] | Gpu:
    """Take all GPUs or none; gives the descriptors, or the GPU that somebody else has."""
    locks: list[int] = []
    for one in gpus:
        lock = gpu.lock(one)
        if lock is None:
            close(locks)
            return one
        locks.append(lock)
    return locks


def close(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


def fork(home: Home, entry: Entry, locks: Sequence[int], groups: Path | None) -> int:
    """Fork the supervisor of the present attempt and give its process number.

    Raises:
        OSError: no process or no folder could be made.
    """
    entry.folder.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        _live(home, entry, locks, groups)
    return pid


def _live(home: Home, entry: Entry, locks: Sequence[int], groups: Path | None) -> None:
    """Never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        gc.disable()
        low = 3
        for lock in sorted(locks):
            os.closerange(low, lock)
            low = lock + 1
        os.closerange(low, 1 << 20)
        shim.live(home, entry.task, entry.attempt, Grant(entry.gpus, groups))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
