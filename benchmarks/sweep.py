"""A sweep of 200 trials of ``true``, two at a time, beside xargs -P2 with the same program."""

from __future__ import annotations

import contextlib
import statistics

import psutil

from benchmarks._figures import Figure
from benchmarks._measure import Command, alternate, measure, wall
from benchmarks._place import SLIM, Place

TRIALS = 200
LEAST, MOST = 30.0, 2.0
SPACE = {"lr": {"float": [0.00001, 0.1], "log": True}, "depth": {"int": [1, 9]}}


def figures(place: Place) -> list[Figure]:
    """Time the whole sweep, from the command to its end."""
    sweep = {
        "mlstead": 1,
        "kind": "sweep",
        "name": "many",
        "trial": {"command": ["true"], "resources": SLIM, "params": {"lr": 0.01, "depth": 3}},
        "search": {"method": "random", "seed": 1, "space": SPACE},
        "trials": TRIALS,
        "parallel": 2,
    }
    file = place.work_file("sweep", sweep)
    commands = {
        "mlstead": place.mlstead("run", file.name, cwd=file.parent),
        "xargs -P2": Command(
            ["sh", "-c", f"seq {TRIALS} | xargs -P2 -n1 sh -c true"], place.root, {}
        ),
    }
    samples = alternate(commands, place.repeats)
    ours = TRIALS / wall(samples["mlstead"])
    bare = TRIALS / wall(samples["xargs -P2"])
    title = f"Sweep of {TRIALS} trials of `true`, two at a time"
    goal = f"≥ {LEAST:g} trials/s"
    beside = {"xargs -P2": bare}
    speed = Figure(title, ours, "trials/s", goal, ours >= LEAST, beside, ours / bare)
    each = statistics.median(bookkeeping(place, commands["mlstead"]) for _ in range(place.repeats))
    books = "Bookkeeping of a trial (CPU time of the driver)"
    return [speed, Figure(books, each, "ms", f"≤ {MOST:g} ms", each <= MOST)]


def bookkeeping(place: Place, sweep: Command) -> float:
    """Run the sweep once more; give the milliseconds of CPU that the waiting driver spent a trial.

    Raises:
        SystemExit: no driver waits for work, or another one took its place meanwhile.
    """
    pid, before = driver(place)
    measure(sweep)
    later, after = driver(place)
    if pid != later:
        raise SystemExit("the driver was replaced during the sweep")
    return (after - before) / TRIALS * 1000


def driver(place: Place) -> tuple[int, float]:
    """Find the driver that lingers after a sweep, and the seconds of CPU it has used.

    Raises:
        SystemExit: there is none.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mine = process.environ().get("MLSTEAD_HOME") == place.env["MLSTEAD_HOME"]
            if mine and process.cmdline()[-3:] == ["drive", "--role", "drive"]:
                times = process.cpu_times()
                return process.pid, times.user + times.system
    raise SystemExit("no driver of this home is running")
