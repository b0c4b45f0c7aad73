"""The records by themselves: listing beside 100,000 runs, commits and points a second."""

from __future__ import annotations

import json
import sys
from statistics import median

from benchmarks._figures import Figure
from benchmarks._measure import Command, alternate, measure, wall
from benchmarks._place import Place, place
from mlstead.records.base import AddEvents, AddRun, Change, Event, Run, State
from mlstead.records.sql import create

RUNS, BATCH, SHOWN = 100_000, 2_000, 50
COMMITS, POINTS = 5_000, 100_000
MOST_SECONDS, MOST_BYTES = 0.4, 150 * 10**6
LIST = """
import sys
from mlstead.records.base import Query
from mlstead.records.sql import create
assert len(create(sys.argv[1]).runs(Query())) == 50
"""
WRITE = f"""
import json, sys, time
from mlstead.records.base import AddPoints, AddRun, Point, Run, SetRun
from mlstead.records.sql import create
store = create(sys.argv[1])
name = f"bench-{{time.time_ns()}}"
store.commit([AddRun(Run(name, "p", "job", "bench"))])
began = time.perf_counter()
for turn in range({COMMITS}):
    store.commit([SetRun(name, {{"detail": str(turn)}})])
commits = {COMMITS} / (time.perf_counter() - began)
points = [Point(name, f"m{{at % 4}}", at / 7, at // 4, float(at)) for at in range({POINTS})]
began = time.perf_counter()
for start in range(0, {POINTS}, 10_000):
    store.commit([AddPoints(tuple(points[start : start + 10_000]))])
print(json.dumps({{"commits": commits, "points": {POINTS} / (time.perf_counter() - began)}}))
"""


def figures(place: Place) -> list[Figure]:
    """Time whole processes over a SQLite file that holds 100,000 runs."""
    url = f"sqlite:///{place.root}/records.db"
    fill(url)
    commands = {
        "list": Command([sys.executable, "-c", LIST, url], place.root),
        "python": Command([sys.executable, "-c", "pass"], place.root),
    }
    samples = alternate(commands, place.repeats)
    ours, bare = wall(samples["list"]), wall(samples["python"])
    peak = median(sample.peak for sample in samples["list"])
    writing = Command([sys.executable, "-c", WRITE, url], place.root)
    taken = [json.loads(measure(writing).output) for _ in range(place.repeats)]
    commits, points = (median(one[name] for one in taken) for name in ("commits", "points"))
    title = f"Latest {SHOWN} of {RUNS:,} runs from the records"
    quick, small = ours < MOST_SECONDS, peak < MOST_BYTES
    beside = {"an empty Python": bare}
    return [
        Figure(title, ours, "s", f"< {MOST_SECONDS} s", quick, beside, ours / bare),
        Figure(f"{title}: memory", peak / 10**6, "MB", f"< {MOST_BYTES / 10**6:.0f} MB", small),
        Figure("One change, committed", commits, "/s", "≥ 500/s", commits >= 500),
        Figure("Metric points, 10,000 a commit", points, "/s", "≥ 1,000/s", points >= 1_000),
    ]


def fill(url: str) -> None:
    """Write the runs, each with a spec and an event, most of them ended."""
    store = create(url)
    spec = {"kind": "job", "command": "python train.py", "params": {"lr": 0.1}, "note": "x" * 400}
    for start in range(0, RUNS, BATCH):
        changes: list[Change] = []
        for at in range(start, start + BATCH):
            state = State.FAILED if at % 50 == 0 else State.SUCCEEDED
            run = Run(f"job-{at:08}", f"p{at % 7}", "job", "job", state=state, spec=spec)
            changes += [AddRun(run), AddEvents((Event(run.id, "ended", float(at)),))]
        store.commit(changes)
    store.close()


if __name__ == "__main__":
    with place(5) as where:
        for figure in figures(where):
            print(figure.row())
