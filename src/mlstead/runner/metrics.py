"""Metrics of a program: one JSON line per value, appended at once; and how a line is read back.

A line is ``{"k": name, "v": value, "s": step, "t": seconds since the epoch, "r": rank}``. Only
``k`` and ``v`` must be there, so a program in any language can append its own. NaN and infinities
are the strings "nan", "inf" and "-inf", as JSON has no numbers for them.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from mlstead.runner import warning

LONGEST_NAME = 250  # characters; what MLflow takes
_WORDS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_LARGEST_STEP = 2**63 - 1  # what a database column holds


class Point(NamedTuple):
    """One value of one metric, as its program wrote it.

    ``time`` is seconds since the epoch, 0.0 when the line names none.
    """

    name: str
    value: float
    step: int = 0
    time: float = 0.0
    rank: int = 0


def parse(line: bytes) -> Point | None:
    """Read one line of a metrics file; None if it is torn, or is no metric."""
    try:
        record = json.loads(line)
        name, value = record["k"], record["v"]
        value = _WORDS[value] if isinstance(value, str) else _number(value)
        step, rank = _whole(record.get("s", 0)), _whole(record.get("r", 0))
        when = _number(record.get("t", 0.0))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    if not isinstance(name, str) or not _usable(name) or abs(step) > _LARGEST_STEP:
        return None
    return Point(name, value, step, when, rank)


def log(values: Mapping[str, Any] | None = None, /, *, step: Any = None, **named: Any) -> None:
    """Write metrics down: ``log(accuracy=0.9, step=3)`` or ``log({"val/accuracy": 0.9})``.

    A step not given is one more than the last of that name. It takes about three microseconds,
    is safe in threads and after a fork, and what it wrote outlives the program. It never raises;
    outside a run it does nothing.
    """
    try:
        _file.write({**values, **named} if values else named, step)
    except Exception as error:  # whatever is wrong with a metric, the training goes on
        warning.once("metrics", f"a metric could not be kept, going on without: {error}")


class _Series:
    """Where one name stands: the start of its lines, and the next step nobody has to give."""

    __slots__ = ("last", "start", "steps")

    def __init__(self, name: str) -> None:
        if not _usable(name):
            raise ValueError(
                f"a metric's name is 1 to {LONGEST_NAME} printable characters: {name!r:.80}"
            )
        self.start = f'{{"k":{encode_basestring_ascii(name)},"v":'
        self.steps: itertools.count[int] | None = itertools.count()
        self.last = -1

    def following(self) -> int:
        """Give the next step; ``next`` on a count cannot give two threads the same."""
        if self.steps is None:
            self.steps = itertools.count(self.last + 1)
        return next(self.steps)


class _File:
    """The file that takes the lines: one system call per ``log``, nothing kept in the process."""

    def __init__(self) -> None:
        self._descriptor: int | None = None  # None: not looked for yet; -1: outside a run
        self._end = ""
        self._torn = False
        self._series: dict[str, _Series] = {}

    def write(self, values: Mapping[str, Any], step: Any) -> None:
        """Append the lines of one call; OSError or ValueError if that cannot be done."""
        if self._descriptor is None:
            self._open()
        if self._descriptor == -1:
            return
        step = None if step is None else int(step)
        middle = f'"t":{time.time():.3f}{self._end}'
        text = ""
        for name, value in values.items():
            try:
                text += self._line(name, value, step, middle)
            except (ValueError, TypeError, OverflowError) as error:  # its neighbours are kept
                warning.once(f"metric {name}", f"metric {name!r:.80} is not kept: {error}")
        if text:
            self._append(text.encode())

    def forget(self) -> None:
        """In a forked child: open anew, as it may close all it inherited, and has its own rank."""
        if self._descriptor not in (None, -1):
            os.close(self._descriptor)
        self._descriptor = None

    def _line(self, name: str, value: Any, step: int | None, rest: str) -> str:
        series = self._series.get(name)
        if series is None:
            series = self._series.setdefault(name, _Series(name))
        number = float(value)
        if step is None:
            step = series.following()
        else:
            series.last, series.steps = step, None
        if number - number != 0.0:  # NaN or an infinity
            return f'{series.start}"{number!r}","s":{step},{rest}'
        return f'{series.start}{number!r},"s":{step},{rest}'

    def _append(self, data: bytes) -> None:
        if self._torn:  # end the line that a full disk cut off, so that only it is lost
            data = b"\n" + data
        written = os.write(self._descriptor, data)  # type: ignore[arg-type]
        self._torn = written < len(data)
        if self._torn:
            raise OSError(f"only {written} of {len(data)} bytes were written: is the disk full?")

    def _open(self) -> None:
        path = os.environ.get("MLSTEAD_METRICS")
        if not path:
            self._descriptor = -1
            return
        rank = os.environ.get("RANK", "")
        self._end = f',"r":{int(rank) if rank.isdecimal() else 0}}}\n'
        # Not blocking: should the file be a pipe nobody reads, the program must not wait for it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)
        self._descriptor = os.open(path, flags, 0o644)


def _usable(name: str) -> bool:
    return 0 < len(name) <= LONGEST_NAME and name.isprintable()


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("not a number")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


_file = _File()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_file.forget)
