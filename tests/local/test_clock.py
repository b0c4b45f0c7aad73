"""A clock that is set back while work runs: the work goes on as if nothing had happened."""

import dataclasses
import re
import sqlite3
import time
from pathlib import Path

from tests.local.front_door import Door, work

from mlstead.platform import Platform
from mlstead.records.base import Run
from mlstead.spec.load import load
from mlstead.work import submit
from mlstead.work.base import Backends
from mlstead.work.drive import Loop

HOUR = 3600.0
SLIM = "resources: {cpu: 0.5, memory: 64Mi}"
WORKS = {
    "sweep": "mlstead: 1\nkind: sweep\nname: tries\n"
    f"trial: {{command: 'true', params: {{x: 0}}, {SLIM}}}\n"
    "search: {method: random, seed: 1, space: {x: {int: [0, 9]}}}\ntrials: 8\nparallel: 2\n",
    "pipeline": "mlstead: 1\nkind: pipeline\nname: line\nsteps:\n"
    + "".join(
        f"  s{number}: {{command: 'true', {SLIM}"
        + (f", needs: [s{number - 1}]" if number else "")
        + "}\n"
        for number in range(6)
    ),
}


class Set:
    """A clock that a person sets back by an hour."""

    def __init__(self) -> None:
        self.back = 0.0

    def __call__(self) -> float:
        return time.time() - self.back


def set_back(clock: Set, records: Path) -> None:
    """Make all that was written until now an hour later than what is written from now on."""
    clock.back += HOUR
    with sqlite3.connect(records) as database:
        database.execute("UPDATE leases SET taken = taken + ?, expires = expires + ?", (HOUR, HOUR))
    database.close()


def children(backends: Backends, run: Run) -> list[tuple[str, str, int]]:
    found = Platform(backends.home).runs.children(run.id)
    return [(child.key, str(child.state), child.attempt) for child in found]


def drive(door: Door, text: str, folder: Path, back_after: int) -> tuple[Run, Backends]:
    """Drive work to its end; the clock is set back once so many of its children have ended."""
    clock = Set()
    platform = Platform(door.home)
    backends = dataclasses.replace(platform.backends, clock=clock)
    loaded = load(work(folder, text))
    run = submit.draft(backends, loaded.work, loaded.folder, "default")
    submit.record(backends, run)
    loop = Loop(backends)
    end = time.monotonic() + 60
    try:
        while not (run := backends.store.run(run.id)).state.final:
            assert time.monotonic() < end, children(backends, run)
            loop.turn(0.1)
            ended = sum(state == "succeeded" for _, state, _ in children(backends, run))
            if not clock.back and ended >= back_after:
                set_back(clock, door.home / "records.db")
    finally:
        loop.close()
    assert clock.back == HOUR
    return run, backends


def test_a_sweep_and_a_pipeline_end_as_they_would_have(door: Door, tmp_path: Path) -> None:
    for kind, text in WORKS.items():
        run, backends = drive(door, text, tmp_path / kind, back_after=2)
        assert str(run.state) == "succeeded", run.detail
        told = children(backends, run)
        assert len(told) == (8 if kind == "sweep" else 6)
        assert {(state, attempt) for _, state, attempt in told} == {("succeeded", 1)}
        listed = door.good("ps", "-a", "--json").json
        assert all(one["state"] == "succeeded" for one in listed)


def test_an_end_before_the_beginning_is_told_without_a_negative_time(
    door: Door, tmp_path: Path
) -> None:
    run, _ = drive(door, WORKS["pipeline"], tmp_path, back_after=2)
    assert run.ended is not None and run.ended < run.created
    for words in (("ps", "-a"), ("show", run.id)):
        said = door.good(*words).out
        assert run.id in said
        assert not re.search(r"(?<!\w)-\d", said), said  # "-3600.0s"
