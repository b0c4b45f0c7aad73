"""Supervises one attempt to its end: forked from the keeper, outlives it, tells the truth."""

import contextlib
import ctypes
import fcntl
import os
import resource
import socket
import time
import traceback
from pathlib import Path
from typing import Any

from mlstead.engines.local import disk, process_tree, supervise, wire
from mlstead.engines.local.attempt import FAILED, LOST, ending, will_retry, write_progress
from mlstead.engines.local.attempt_run import AttemptRun
from mlstead.engines.local.disk import Home
from mlstead.engines.local.ground import Grant, Ground

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of <linux/prctl.h>
_LIBC = ctypes.CDLL(None)
_WATCH = 1.0  # seconds between two looks whether there is a keeper


def become_subreaper(wanted: bool = True) -> None:
    """Make this process the parent of every orphan below it, or no longer."""
    _LIBC.prctl(_SUBREAPER, int(wanted), 0, 0, 0)


def forbid_core_dumps() -> None:
    """Keep a crashed program from filling the disk."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))


class Shim:
    """Holds the lock that says an attempt lives, and tells the keeper what happens."""

    def __init__(self, home: Home, task: Path, number: int, grant: Grant) -> None:
        self._home = home
        self._news = f"{task.name} {number}"
        folder = task / str(number)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._alive = os.open(folder / "alive", flags, 0o600)
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._end = disk.Reserved(folder / "end.json")
        self._watched = time.monotonic()
        own = process_tree.look(os.getpid())
        started = {
            "boot_id": disk.boot_id(), "pid": os.getpid(), "start": own.started if own else 0,
            "time": time.time(), "gpus": grant.gpus, "host": socket.gethostname(),
        }  # fmt: skip
        write_progress(self._alive, started)
        self._run = AttemptRun(Ground(home, task, number), grant, self.asked, self._running)

    def live(self) -> None:
        """See the attempt through."""
        end = self._try()
        run, ground = self._run, self._run.ground
        end["started"] = run.started
        end["time"] = time.time()
        if run.started is not None:
            # by the clock that nobody sets: a duration is never negative
            end["time"] = run.started + (time.monotonic() - run.began)
        again = will_retry(ground.request, ground.number, end["reason"])
        end["retried"] = again and ground.asked_to_stop() is None
        self._end.write(disk.dump(end))
        if not wire.tell(self._home, f"ended {self._news}"):
            self._watch(0.0)
        run.clean_up(end)

    def asked(self) -> float | None:
        """Give the grace in seconds when the task is to be cancelled, else None."""
        self._watch(_WATCH)
        return self._run.ground.asked_to_stop()

    def _try(self) -> dict[str, Any]:
        try:
            return self._run.run()
        except Exception as error:
            process_tree.kill_all(process.pid for process in process_tree.below(os.getpid()))
            if isinstance(error, OSError):
                return ending(FAILED, "volume", f"cannot prepare the attempt: {error}", None)
            traceback.print_exc()
            last = traceback.format_exc().splitlines()[-1]
            return ending(LOST, LOST, f"the supervisor failed: {last}", None)

    def _running(self, started: float) -> None:
        with contextlib.suppress(OSError):
            write_progress(self._alive, {"time": started})
        wire.tell(self._home, f"running {self._news}")

    def _watch(self, pause: float) -> None:
        """Start a keeper when there is none any more."""
        now = time.monotonic()
        if now - self._watched < pause:
            return
        self._watched = now
        if disk.is_locked(self._home.lock):
            return
        # it must not be ours: it shall outlive this attempt
        become_subreaper(False)
        try:
            wire.start(self._home)
        except OSError:
            traceback.print_exc()
        finally:
            become_subreaper()


def live(home: Home, task: Path, number: int, grant: Grant) -> None:
    """Be the supervisor of one attempt until it has ended; runs in a process of its own."""
    os.setsid()
    supervise.prepare_process()
    become_subreaper()
    Shim(home, task, number, grant).live()
