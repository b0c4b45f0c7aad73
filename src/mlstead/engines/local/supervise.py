"""Starts the processes of an attempt, waits for them, and ends them all when it is time."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mlstead.engines.local import process_tree
from mlstead.engines.local.memory_limit import Guard

LOOK = signal.SIGUSR1
"""The keeper sends it when there is something new in the task's folder."""
_SIGNALS = (signal.SIGCHLD, LOOK)
_RESET = (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ, LOOK)
_AFTER_EXIT = 0.5  # seconds that what a program left behind may still run
_AFTER_TERM = 2.0


class Program(NamedTuple):
    """One process to start: where its output goes, and whose it is."""

    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    rank: int | None = None
    worker: int = 0


class Ending(NamedTuple):
    """Why a group ended: exit, start, timeout, cancel or oom; and the process that decided it."""

    cause: str
    rank: int | None = None
    code: int | None = None
    signal: int | None = None
    detail: str = ""

    @property
    def good(self) -> bool:
        """True when every process ended with 0."""
        return self.cause == "exit" and self.code == 0


class CannotStartError(Exception):
    """A program could not be started; the code is what a shell would give."""

    def __init__(self, detail: str, code: int) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


def prepare_process() -> None:
    """Make this process able to supervise: signals wait to be fetched, none of them ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def find_program(command: str, env: Mapping[str, str], folder: Path) -> str:
    """Find the file that a command names.

    Raises:
        CannotStartError: there is none, or it may not be run.
    """
    places = [str(folder)] if "/" in command else [p for p in env["PATH"].split(":") if p]
    denied = False
    for place in places:
        name = command if command.startswith("/") else f"{place}/{command}"
        if os.access(name, os.X_OK) and Path(name).is_file():
            return name
        denied = denied or (os.access(name, os.F_OK) and Path(name).is_file())
    if denied:
        raise CannotStartError(f"permission denied: {command}", 126)
    raise CannotStartError(f"command not found: {command}", 127)


class Supervisor:
    """Runs groups of processes one group after another.

    Args:
        asked: gives the grace in seconds once somebody wants the task stopped, else None.
        guard: holds the memory limit.
    """

    def __init__(self, asked: Callable[[], float | None], guard: Guard) -> None:
        self._asked = asked
        self._guard = guard
        self._running: dict[int, Program] = {}

    def run(
        self, programs: Sequence[Program], grace: float, timeout: float | None = None,
        started: Callable[[], None] = lambda: None,
    ) -> Ending:  # fmt: skip
        """Start a group and wait until nothing of it is left.

        The first failure decides how the group ended; the others are then stopped.
        """
        self._running = {}
        ending = self._start_all(programs)
        if ending is None:
            started()
        deadline = time.monotonic() + timeout if timeout is not None else None
        stopper = _Stopper()
        while True:
            failure = self._reap()
            ending = ending or failure
            if not self._running:
                break
            ending = ending or self._interruption(deadline, timeout)
            if ending is not None:
                stopper.go_on(self._grace(ending, grace))
            signal.sigtimedwait(_SIGNALS, stopper.pause(self._pause(deadline)))
        self._sweep()
        if self._guard.over() is not None and (ending is None or ending.cause != "cancel"):
            ending = self._oom(ending)
        return ending or Ending("exit", None, 0)

    def _start_all(self, programs: Sequence[Program]) -> Ending | None:
        for program in programs:
            try:
                self._start(program)
            except CannotStartError as error:
                return Ending("start", program.rank, error.code, None, error.detail)
        return None

    def _start(self, program: Program) -> None:
        argv = list(program.command)
        file = find_program(program.command[0], program.env, program.folder)
        os.chdir(program.folder)
        self._guard.enter(program.worker)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            pid = os.posix_spawn(
                file, argv, program.env, setsid=True, setsigmask=(), setsigdef=_RESET,
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(program.log), flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ),
            )  # fmt: skip
        except OSError as error:
            raise _cannot(program.command[0], error) from error
        finally:
            self._guard.leave()
        self._guard.started(program.worker, pid)
        self._running[pid] = program

    def _reap(self) -> Ending | None:
        first = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._running.clear()
                return first
            if pid == 0:
                return first
            program = self._running.pop(pid, None)
            if program is not None and status != 0 and first is None:
                first = _exit(program, status)

    def _interruption(self, deadline: float | None, timeout: float | None) -> Ending | None:
        if self._asked() is not None:
            return Ending("cancel", detail="stopped on request")
        if deadline is not None and time.monotonic() >= deadline:
            return Ending("timeout", detail=f"ran longer than {timeout:g} s")
        worker = self._guard.over()
        if worker is not None:
            return Ending("oom", self._rank_of(worker))
        return None

    def _rank_of(self, worker: int) -> int | None:
        ranks = (program.rank for program in self._running.values() if program.worker == worker)
        return next(ranks, None)

    def _oom(self, ending: Ending | None) -> Ending:
        if ending is None:
            return Ending("oom")
        return Ending("oom", ending.rank, ending.code, ending.signal)

    def _grace(self, ending: Ending, grace: float) -> float:
        if ending.cause == "oom":
            return 0.0
        asked = self._asked()
        return grace if asked is None else min(asked, grace) if ending.cause != "cancel" else asked

    def _pause(self, deadline: float | None) -> float:
        if deadline is None:
            return self._guard.pause
        return min(self._guard.pause, max(0.0, deadline - time.monotonic()))

    def _sweep(self) -> None:
        """End what the programs left behind."""
        begin = time.monotonic()
        stopper = _Stopper()
        while self._any_child():
            if time.monotonic() - begin > _AFTER_EXIT:
                stopper.go_on(_AFTER_TERM)
            signal.sigtimedwait(_SIGNALS, 0.02)

    def _any_child(self) -> bool:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True


class _Stopper:
    """First asks everything below this process to end, after the grace makes it."""

    def __init__(self) -> None:
        self._asked_at: float | None = None
        self._killing = False

    def go_on(self, grace: float) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            if grace > 0:
                pids = [process.pid for process in process_tree.below(os.getpid())]
                process_tree.send(pids, signal.SIGTERM)
                process_tree.send(pids, signal.SIGCONT)
        self._kill_at = self._asked_at + grace
        if now >= self._kill_at:
            self._killing = True
            pids = [process.pid for process in process_tree.below(os.getpid())]
            process_tree.send(pids, signal.SIGKILL)

    def pause(self, usual: float) -> float:
        if self._asked_at is None:
            return usual
        if self._killing:
            return 0.01
        return max(0.0, min(usual, self._kill_at - time.monotonic()))


def _exit(program: Program, status: int) -> Ending:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        # so a shell tells that what it ran was killed
        why = f" ({signal_name(code - 128)})" if 128 < code < 128 + signal.NSIG else ""
        return Ending("exit", program.rank, code, None, f"exit code {code}{why}")
    return Ending("exit", program.rank, None, -code, f"killed by {signal_name(-code)}")


def signal_name(number: int) -> str:
    """Name a signal: 15 is SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cannot(command: str, error: OSError) -> CannotStartError:
    if isinstance(error, FileNotFoundError):
        return CannotStartError(f"command not found: {command} (its interpreter is missing)", 127)
    return CannotStartError(f"cannot run {command}: {error.strerror}", 126)
