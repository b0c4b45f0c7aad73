"""Runs one command to its end and tells what it cost; several commands in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of a command cost: seconds, and bytes at the highest.

    ``cpu`` and ``peak`` cover the command and the processes it waited for, not what it left behind.
    """

    wall: float
    cpu: float
    peak: int
    output: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command, where it runs, what its environment adds, and what happens untimed before it."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None


def measure(command: Command) -> Sample:
    """Run a command to its end and tell what it cost.

    Raises:
        SystemExit: it failed; its output is in the message.
    """
    if command.before:
        command.before()
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        said = "\n".join(text.splitlines()[-15:])
        raise SystemExit(f"{' '.join(command.argv)}: exit {process.returncode}\n{said}")
    return Sample(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, text)


def alternate(commands: Mapping[str, Command], repeats: int) -> dict[str, list[Sample]]:
    """Run each command once untimed, then all in turn, ``repeats`` times."""
    for name, command in commands.items():
        progress(f"{name}, to warm up")
        measure(command)
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for number in range(repeats):
        for name, command in commands.items():
            samples[name].append(measure(command))
        progress(
            f"{number + 1} of {repeats}: "
            + ", ".join(f"{name} {_told(taken[-1])}" for name, taken in samples.items())
        )
    return samples


def _told(sample: Sample) -> str:
    return f"{sample.wall:.2f} s ({sample.cpu:.2f} cpu)"


def wall(samples: Sequence[Sample]) -> float:
    """Give the median of the seconds."""
    return statistics.median(sample.wall for sample in samples)


def progress(text: str) -> None:
    """Tell the person who waits what happens; standard output stays the table's."""
    print(f"  {text}", file=sys.stderr, flush=True)
