"""The fork of the warm process that becomes the called verb: takes over all of its caller."""

import atexit
import fcntl
import io
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import mlstead
from mlstead.cli import main as command_line
from mlstead.cli._warm import wire

STALE = 75
PATIENCE = 5.0


class Request(NamedTuple):
    """One call: everything about its process that a verb can notice.

    Attributes:
        told: its circumstances.
        umask: the file mode creation mask.
        ignored: the signals that it was started to ignore (as nohup does).
        limits: resource, soft and hard limit, of every resource.
        numbers: its descriptors.
        argv: the words after the program's name.
        env: the environment, ``NAME=value``.
    """

    told: bytes
    umask: int
    ignored: tuple[int, ...]
    limits: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]
    argv: tuple[bytes, ...]
    env: tuple[bytes, ...]

    @classmethod
    def read(cls, words: Sequence[bytes]) -> "Request":
        """Read the words that the caller has sent.

        Raises:
            ValueError: they are no request.
        """
        told, umask, ignored, limits, numbers, count, *rest = words
        argc = int(count)
        return cls(
            told,
            int(umask),
            _numbers(ignored, b","),
            tuple(_numbers(limit, b":") for limit in limits.split(b",")),
            _numbers(numbers, b","),
            tuple(rest[:argc]),
            tuple(rest[argc:]),
        )


def _numbers(text: bytes, between: bytes) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(between) if one)


@dataclass(frozen=True, slots=True)
class Sources:
    """The files and folders that the loaded modules came from, and when they were last changed."""

    changed: tuple[tuple[str, int], ...]

    @classmethod
    def loaded(cls, began: int) -> "Sources | None":
        """Look at all of them; None if one was changed after ``began`` (epoch, ns)."""
        package = str(Path(mlstead.__file__).parent)
        files = {getattr(module, "__file__", None) or "" for module in sys.modules.values()}
        ours = {file for file in files if file.startswith(package)}
        # an installer leaves its trace in the folder of the packages
        places = {place for place in sys.path if place.endswith("-packages")}
        told = []
        for name in sorted({*ours, *places, sys.executable}):
            when = os.stat(name).st_mtime_ns  # noqa: PTH116
            if when >= began:
                return None
            told.append((name, when))
        return cls(tuple(told))

    def as_they_were(self) -> bool:
        """Say whether none was changed or removed since."""
        try:
            return all(os.stat(name).st_mtime_ns == when for name, when in self.changed)  # noqa: PTH116
        except OSError:
            return False


def live(connection: socket.socket, told: bytes, sources: Sources) -> NoReturn:
    """Become the verb that the caller asks for, and tell it the exit code."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        os.closerange(3, connection.fileno())
        os.closerange(connection.fileno() + 1, 1 << 20)
        status = _serve(connection, told) if sources.as_they_were() else STALE
    except (OSError, ValueError):
        status = 1  # the caller hears nothing and runs the verb itself
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _serve(connection: socket.socket, told: bytes) -> int:
    connection.settimeout(PATIENCE)
    connection.send(wire.HELLO)
    words, descriptors = wire.receive(connection)
    asked = Request.read(words)
    if len(descriptors) != len(asked.numbers) + 1:
        raise ValueError("descriptors are missing")
    if asked.told != told:
        return 0
    connection = _become(asked, descriptors, connection)
    connection.send(wire.READY + b"%d" % os.getpid())
    connection.settimeout(None)
    if connection.recv(1) != wire.GO:
        return 0  # the caller has lost patience and runs the verb itself
    code = command_line.main([os.fsdecode(word) for word in asked.argv])
    code = _finish(code)
    with suppress(OSError):
        connection.send(wire.ENDED + b"%d" % code)
    return 0


def _become(asked: Request, descriptors: Sequence[int], connection: socket.socket) -> socket.socket:
    """Take over limits, environment, folder, descriptors and signals of the caller.

    Gives the connection to the caller, which had to move out of the way.

    Raises:
        OSError: a limit or a descriptor cannot be had.
        ValueError: a limit cannot be had.
    """
    os.setsid()
    for name, soft, hard in asked.limits:
        if resource.getrlimit(name) != (soft, hard):
            resource.setrlimit(name, (soft, hard))
    os.umask(asked.umask)
    os.environ.clear()
    for word in asked.env:
        name_, _, value = word.partition(b"=")
        if name_:
            os.environb[name_] = value
    time.tzset()
    os.fchdir(descriptors[0])
    moved = _place(asked.numbers, descriptors, connection)
    _open_streams()
    sys.argv = ["mlstead", *map(os.fsdecode, asked.argv)]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for one in asked.ignored:
        signal.signal(one, signal.SIG_IGN)
    return moved


def _place(
    numbers: Sequence[int], copies: Sequence[int], connection: socket.socket
) -> socket.socket:
    """Give the copies the numbers that they have in the caller; first out of each other's way."""
    above = [fcntl.fcntl(copy, fcntl.F_DUPFD_CLOEXEC, wire.HIGHEST) for copy in copies[1:]]
    line = fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, wire.HIGHEST)
    connection.detach()
    os.closerange(0, wire.HIGHEST)
    for number, copy in zip(numbers, above, strict=True):
        os.dup2(copy, number, inheritable=True)
        os.close(copy)
    for number in (0, 1, 2):
        if number not in numbers:
            _nothing(number)
    moved = socket.socket(fileno=line)
    moved.settimeout(PATIENCE)
    return moved


def _nothing(number: int) -> None:
    """The caller has no such stream; a file that is opened later must not become it."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


def _open_streams() -> None:
    """Open the standard streams anew: how they buffer depends on what they are now."""
    sys.stdin = sys.__stdin__ = _text(0, "r", sys.stdin)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _text(1, "w", sys.stdout)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2, "w", sys.stderr)  # type: ignore[misc]


def _text(number: int, mode: str, like: object) -> io.TextIOWrapper:
    encoding = getattr(like, "encoding", "utf-8")
    errors = getattr(like, "errors", "strict")
    plain = bool(getattr(like, "write_through", False))  # PYTHONUNBUFFERED
    lines = not plain and (number == 2 or (mode == "w" and os.isatty(number)))
    raw = open(number, mode + "b", buffering=0 if plain else -1, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        raw, encoding=encoding, errors=errors, line_buffering=lines, write_through=plain
    )


def _finish(code: int) -> int:
    """End as an interpreter does: wait for threads, run what was put off, write out streams."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return 120  # as the interpreter itself says that its output could not be written
    return code
