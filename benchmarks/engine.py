"""The local engine alone: a chain of tasks, many at once, and what the same costs without it."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mlstead.engines.base import Resources, Task
from mlstead.engines.local.engine import LocalEngine

CHAIN = 50
MANY = 200
REPEATS = 5
SLIM = Resources(cpu=1, memory=16 << 20)


def _wait(engine: LocalEngine, cursor: str, count: int) -> str:
    """Wait until some tasks have ended; gives the cursor behind."""
    while count:
        engine.wait(cursor, 60.0)
        for event in engine.events(cursor):
            cursor = event.cursor
            count -= event.phase.final and not event.retried
    return cursor


def chain(engine: LocalEngine, label: str) -> float:
    """Milliseconds of one task of a chain, each submitted when the one before has ended."""
    facts, cursor = engine.facts(), _end(engine)
    begin = time.perf_counter()
    for number in range(CHAIN):
        task = Task(f"{label}-{number}", ("true",), resources=SLIM)
        engine.submit([engine.prepare(task, facts)])
        cursor = _wait(engine, cursor, 1)
    return (time.perf_counter() - begin) / CHAIN * 1e3


def many(engine: LocalEngine, label: str) -> float:
    """Tasks a second when two run at a time."""
    facts, cursor = engine.facts(), _end(engine)
    tasks = [Task(f"{label}-{number}", ("true",), resources=SLIM) for number in range(MANY)]
    begin = time.perf_counter()
    engine.submit([engine.prepare(task, facts) for task in tasks])
    _wait(engine, cursor, MANY)
    return MANY / (time.perf_counter() - begin)


def bare() -> float:
    """Milliseconds of a fork and a program in it, which is the least a supervised task costs."""
    begin = time.perf_counter()
    for _ in range(CHAIN):
        child = os.fork()
        if child == 0:
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
            os._exit(0)
        os.waitpid(child, 0)
    return (time.perf_counter() - begin) / CHAIN * 1e3


def keeper_start() -> float:
    """Milliseconds from nothing to a keeper that answers."""
    home = Path(tempfile.mkdtemp(prefix="ml-"))
    engine = LocalEngine(home)
    try:
        begin = time.perf_counter()
        engine.ensure()
        return (time.perf_counter() - begin) * 1e3
    finally:
        engine.shutdown()
        shutil.rmtree(home, ignore_errors=True)


def _end(engine: LocalEngine) -> str:
    cursor = ""
    for event in engine.events():
        cursor = event.cursor
    return cursor


def main() -> None:
    """Print the figures: medians of repeats, alternating with the bare cost."""
    os.environ["MLSTEAD_CAPACITY"] = "cpu=2,memory=4Gi,gpu=0"
    home = Path(tempfile.mkdtemp(prefix="ml-"))
    engine = LocalEngine(home)
    samples: dict[str, list[float]] = {"bare": [], "chain": [], "many": [], "start": []}
    try:
        engine.ensure()
        for number in range(REPEATS):
            samples["bare"].append(bare())
            samples["chain"].append(chain(engine, f"c{number}"))
            samples["many"].append(many(engine, f"m{number}"))
            samples["start"].append(keeper_start())
    finally:
        engine.shutdown()
        shutil.rmtree(home, ignore_errors=True)
    middle = {name: statistics.median(values) for name, values in samples.items()}
    lines = [
        f"fork + program, bare          {middle['bare']:8.1f} ms",
        f"chain of {CHAIN}, per task         {middle['chain']:8.1f} ms   "
        f"(best {min(samples['chain']):.1f}, {middle['chain'] / middle['bare']:.1f} x bare)",
        f"{MANY} tasks, two at a time     {middle['many']:8.1f} /s   "
        f"(best {max(samples['many']):.1f})",
        f"keeper, from nothing          {middle['start']:8.1f} ms",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
