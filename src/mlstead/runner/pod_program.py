"""Starts the programs of one pod, waits for them, and ends them all when it is time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SIGNALS = (signal.SIGCHLD, signal.SIGTERM)
_RESET = (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
_AFTER_EXIT = 0.5  # seconds that what a program left behind may still run
_AFTER_TERM = 2.0
_PAUSE = 0.25
_ALL = -1  # kill(-1): every process of the container but the first, which is this one


class Program(NamedTuple):
    """One process to start: where its output goes, and its rank."""

    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    rank: int


class Ending(NamedTuple):
    """Why a group ended: exit, start, timeout or cancel; and the process that decided it."""

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


class Group:
    """The programs of one pod, run by its first process, whose children all others become.

    Args:
        asked: gives the grace in seconds once the pod is to end, else None.
    """

    def __init__(self, asked: Callable[[], float | None]) -> None:
        self._asked = asked
        self._running: dict[int, Program] = {}

    def run(
        self, programs: Sequence[Program], grace: float, timeout: float | None,
        started: Callable[[], None],
    ) -> Ending:  # fmt: skip
        """Start all and wait until nothing is left; the first failure decides and stops all."""
        ending = self._start_all(programs)
        if ending is None:
            started()
        deadline = None if timeout is None else time.monotonic() + timeout
        stopper = Stopper()
        while True:
            failure = self._reap()
            ending = ending or failure
            if not self._running:
                break
            ending = ending or self._interruption(deadline, timeout)
            if ending is not None:
                asked = self._asked()
                stopper.go_on(grace if asked is None else asked)
            pause = _PAUSE if deadline is None else min(_PAUSE, deadline - time.monotonic())
            self._wait(stopper.pause(max(0.0, pause)))
        self._sweep()
        if ending is None and self._asked() is not None:
            ending = Ending("cancel", detail="stopped on request")
        return ending or Ending("exit", None, 0)

    def _wait(self, seconds: float) -> None:
        found = signal.sigtimedwait(SIGNALS, seconds)
        if found is not None and found.si_signo == signal.SIGTERM:
            TERM.append(time.monotonic())

    def _start_all(self, programs: Sequence[Program]) -> Ending | None:
        for program in programs:
            try:
                self._start(program)
            except CannotStartError as error:
                return Ending("start", program.rank, error.code, None, error.detail)
        return None

    def _start(self, program: Program) -> None:
        file = find_program(program.command[0], program.env, program.folder)
        os.chdir(program.folder)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            pid = os.posix_spawn(
                file, list(program.command), program.env, setsid=True, setsigmask=(),
                setsigdef=_RESET,
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(program.log), flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ),
            )  # fmt: skip
        except FileNotFoundError as error:
            detail = f"command not found: {program.command[0]} (its interpreter is missing)"
            raise CannotStartError(detail, 127) from error
        except OSError as error:
            detail = f"cannot run {program.command[0]}: {error.strerror}"
            raise CannotStartError(detail, 126) from error
        # should memory run out, it shall be the program that dies, not who reports it
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")
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
        return None

    def _sweep(self) -> None:
        """End what the programs left behind."""
        begin = time.monotonic()
        stopper = Stopper()
        while self._any_child():
            if time.monotonic() - begin > _AFTER_EXIT:
                stopper.go_on(_AFTER_TERM)
            self._wait(0.02)

    def _any_child(self) -> bool:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True


TERM: list[float] = []
"""When the pod was asked to end, by the monotonic clock; empty: it was not."""


class Stopper:
    """First asks everything in the container to end, after the grace makes it."""

    def __init__(self) -> None:
        self._asked_at: float | None = None
        self._killing = False
        self._kill_at = 0.0

    def go_on(self, grace: float) -> None:
        """Ask, or kill once the grace is over."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            if grace > 0:
                _signal_all(signal.SIGTERM)
                _signal_all(signal.SIGCONT)
        self._kill_at = self._asked_at + grace
        if now >= self._kill_at:
            self._killing = True
            _signal_all(signal.SIGKILL)

    def pause(self, usual: float) -> float:
        """Say how long to wait until the next step."""
        if self._asked_at is None:
            return usual
        if self._killing:
            return 0.01
        return max(0.0, min(usual, self._kill_at - time.monotonic()))


def _signal_all(number: signal.Signals) -> None:
    if os.getpid() != 1:
        raise RuntimeError("not the first process of a container")
    with contextlib.suppress(ProcessLookupError):
        os.kill(_ALL, number)


def _exit(program: Program, status: int) -> Ending:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        why = f" ({signal_name(code - 128)})" if 128 < code < 128 + signal.NSIG else ""
        return Ending("exit", program.rank, code, None, f"exit code {code}{why}")
    return Ending("exit", program.rank, None, -code, f"killed by {signal_name(-code)}")


def signal_name(number: int) -> str:
    """Name a signal: 15 is SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
