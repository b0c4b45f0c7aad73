"""Eight clients of one store at once: what each does, and how they start together.

The functions stand in a module because they run in other processes.
"""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from mlstead.errors import ConflictError
from mlstead.records.base import (
    AddEvents,
    AddPoints,
    AddRun,
    AddVersion,
    Change,
    Event,
    Point,
    Run,
    SetCursor,
    SetRun,
    Store,
    Version,
)

SIZE = 8
DEADLINE = 120.0  # seconds; everything here takes one or two


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store under test is.

    Attributes:
        door: opens another client of the same records; can be sent to the workers.
        workers: runs ``SIZE`` calls at once: processes, or threads for a store of one process.
    """

    door: Callable[[], Store]
    workers: Executor


def crowd(place: Place, work: Callable[..., Any], *args: Any) -> list[Any]:
    """Run ``work(store, index, *args)`` eight times at once; give what each returned."""
    store = place.door()
    store.commit([AddRun(a_run("gate"))])
    store.close()
    calls = [place.workers.submit(_enter, place.door, work, at, args) for at in range(SIZE)]
    return [call.result(DEADLINE) for call in calls]


def a_run(run_id: str, **fields: Any) -> Run:
    """Make a run with what a test does not care about filled in."""
    given = {"project": "p", "kind": "job", "name": run_id.partition("-")[0], **fields}
    return Run(run_id, **given)


def wait_for(holds: Callable[[], Any]) -> Any:
    """Wait until something holds; give it."""
    deadline = time.monotonic() + DEADLINE
    while not (found := holds()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
    return found


def _enter(
    door: Callable[[], Store], work: Callable[..., Any], index: int, args: tuple[Any, ...]
) -> Any:
    """Open the store, wait at the gate for the others, work."""
    store = door()
    try:
        store.commit([AddEvents((Event("gate", f"here-{index}", 0.0),))])
        wait_for(lambda: len(store.events("gate")) == SIZE)
        return work(store, index, *args)
    finally:
        store.close()


# ---- what each of the eight does -----------------------------------------------------------


def write(store: Store, index: int, times: int) -> None:
    """Write runs with events and points, one commit each."""
    for turn in range(times):
        run_id = f"w{index}-{turn}"
        changes: list[Change] = [
            AddRun(a_run(run_id)),
            AddEvents((Event(run_id, "submitted", float(turn)),)),
            AddPoints(tuple(Point(run_id, "loss", float(at), at, 0.0) for at in range(5))),
            SetRun(run_id, {"detail": f"{index}/{turn}"}),
        ]
        store.commit(changes)


def submit(store: Store, index: int, token: str) -> str:
    """Submit the same work by its token, as a client does; give the run's id."""
    try:
        store.commit([AddRun(a_run(f"train-{index}", token=token))])
    except ConflictError:
        found = store.by_token(token)
        assert found is not None
        return found.id
    return f"train-{index}"


def add_versions(store: Store, index: int, times: int) -> list[int]:
    """Add versions of one name, each time with the next number; give the numbers got."""
    got: list[int] = []
    while len(got) < times:
        number = store.next_number("p", "data", "faces")
        version = Version("p", "data", "faces", number, f"digest-{index}-{len(got)}")
        try:
            store.commit([AddVersion(version)])
        except ConflictError:
            continue
        got.append(number)
    return got


def move_cursor(store: Store, index: int, times: int) -> int:
    """Add one to a counter kept in a cursor; give how often another was quicker."""
    missed = done = 0
    while done < times:
        was = store.cursor("count")
        try:
            store.commit([SetCursor("count", was, str(int(was or "0") + 1))])
            done += 1
        except ConflictError:
            missed += 1
    return missed


def claim(store: Store, index: int) -> int:
    """Ask for one lease; give its fence, 0 for none."""
    lease = store.claim("gate", f"holder-{index}", 60.0)
    return lease.fence if lease else 0


def follow(store: Store, index: int, writers: int, times: int) -> list[int]:
    """Write points, or (the others) read them as they come, always after the last one seen."""
    if index < writers:
        for turn in range(times):
            store.commit([AddPoints((Point("gate", f"m{index}", float(turn), turn, 0.0),) * 3)])
        return []
    seen: list[int] = []

    def read() -> bool:
        seen.extend(it.number for it in store.points(after=seen[-1] if seen else 0, limit=7))
        return len(seen) >= writers * times * 3

    wait_for(read)
    return seen
