"""``ps`` over 100,000 runs in the records: the whole process, its seconds and its memory."""

from __future__ import annotations

import dataclasses

import mlstead.records
from benchmarks._figures import Figure
from benchmarks._measure import alternate, measure, progress, wall
from benchmarks._place import TRUE, Place
from benchmarks.empty_job import COLD
from mlstead import discover
from mlstead.records.base import AddRun, Query, State

RUNS, AT_ONCE = 100_000, 1_000
SECONDS, MEGABYTES = 0.4, 150


def figures(place: Place) -> list[Figure]:
    """Fill the records with copies of one real run, then list the latest 50."""
    file = place.work_file("empty", TRUE)
    measure(place.mlstead("run", file.name, cwd=file.parent))
    fill(place)
    samples = alternate({"mlstead": place.warm("ps"), COLD: place.mlstead("ps")}, place.repeats)
    warm, cold = wall(samples["mlstead"]), wall(samples[COLD])
    megabytes = max(sample.peak for sample in samples[COLD]) / 1e6
    title = f"`ps` with {RUNS:,} runs in the records"
    goal = f"< {SECONDS} s"
    return [
        Figure(title, warm, "s", goal, warm < SECONDS),
        Figure(f"{title}, without the warm process", cold, "s", goal, cold < SECONDS),
        Figure(f"{title}, memory", megabytes, "MB", f"< {MEGABYTES} MB", megabytes < MEGABYTES),
    ]


def fill(place: Place) -> None:
    """Write the runs through the store's own door."""
    home = place.env["MLSTEAD_HOME"]
    store = discover.part(mlstead.records, "sql").create(f"sqlite:///{home}/records.db")
    (pattern,) = store.runs(Query())
    assert pattern.state is State.SUCCEEDED
    for begin in range(0, RUNS, AT_ONCE):
        copies = (
            dataclasses.replace(pattern, id=f"empty-{number:08d}", number=0, token="")
            for number in range(begin, begin + AT_ONCE)
        )
        store.commit([AddRun(copy) for copy in copies])
    store.close()
    progress(f"{RUNS:,} runs written")
