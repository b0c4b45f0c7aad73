"""The driver of a pipeline: little work for wide ones, patience, and one result for equal steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.work.bench import Bench, bench, until

from mlstead.artifacts.base import Manifest, Progress
from mlstead.artifacts.folder import FolderStore
from mlstead.engines.memory import MemoryEngine
from mlstead.errors import NotFoundError, UnavailableError, UserError
from mlstead.records.base import Run, SetRun, State

HEAD = "mlstead: 1\nkind: pipeline\nname: pipe\ndefaults: {code: null}\nsteps:\n"
WIDE = 2000


class Clock:
    """A time that only the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Flaky(FolderStore):
    """A store that does not answer for a while."""

    refusals = 0
    asked = 0

    def _answer(self) -> None:
        self.asked += 1
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError("s3: slow down", delay=0.0)

    def materialize(self, digest: str) -> Path:
        self._answer()
        return super().materialize(digest)

    def add(
        self, source: Path, *, progress: Progress | None = None, without: Container[str] = ()
    ) -> Manifest:
        self._answer()
        return super().add(source, progress=progress, without=without)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    yield bench(tmp_path, clock)


@pytest.fixture
def flaky(desk: Bench) -> Flaky:
    home = desk.backends.home
    store = Flaky(home / "store", home / "cache")
    desk.backends = dataclasses.replace(desk.backends, artifacts=store)
    return store


def ended(desk: Bench, run: Run) -> bool:
    return desk.backends.store.run(run.id).state.final


def states(desk: Bench, run: Run) -> dict[str, str]:
    return {key: str(child.state) for key, child in desk.children(run).items()}


def test_a_wide_fan_out_costs_a_few_reads_and_writes_a_step(desk: Bench) -> None:
    items = list(range(WIDE))
    run = desk.submit(HEAD + f"  a: {{command: 'true', foreach: {items}, max_parallel: 2}}\n")
    with desk.loop() as loop:
        until(loop, lambda: ended(desk, run))
    assert set(states(desk, run).values()) == {"succeeded"}
    assert len(states(desk, run)) == WIDE
    assert "foreach" not in desk.children(run)["a[0]"].spec  # each would hold the whole list
    asked = desk.store.asked
    assert asked["listed"] < WIDE  # what waits is not read again and again
    assert asked["run"] < 3 * WIDE
    assert asked["commit"] < 3 * WIDE


def test_a_wide_fan_out_is_stopped_at_once(desk: Bench) -> None:
    items = list(range(WIDE))
    run = desk.submit(HEAD + f"  a: {{command: sleep 9, foreach: {items}, max_parallel: 2}}\n")
    with desk.loop() as loop:
        until(loop, lambda: "running" in states(desk, run).values())
        desk.backends.store.commit([SetRun(run.id, {"stop": True})])
        before = desk.store.asked["commit"]
        until(loop, lambda: ended(desk, run))
    assert set(states(desk, run).values()) == {"cancelled"}
    assert desk.store.asked["commit"] - before < 50


def test_a_stop_of_an_instance_that_waits_ends_it_and_only_it(desk: Bench, clock: Clock) -> None:
    run = desk.submit(HEAD + "  a: {command: sleep 9, foreach: [1, 2, 3], max_parallel: 1}\n")
    with desk.loop() as loop:
        until(loop, lambda: states(desk, run).get("a[0]") == "running")
        child = desk.children(run)["a[1]"]
        desk.backends.store.commit([SetRun(child.id, {"stop": True})])
        until(loop, lambda: states(desk, run)["a[1]"] == "cancelled")
        assert states(desk, run)["a[0]"] == "running"
        while not ended(desk, run):
            clock.now += 10
            loop.turn(0.01)
    assert states(desk, run) == {"a[0]": "succeeded", "a[1]": "cancelled", "a[2]": "succeeded"}
    with pytest.raises(NotFoundError):
        desk.backends.engine.status(child.id)


def test_a_store_that_does_not_answer_is_asked_again_and_the_step_says_why(
    desk: Bench, flaky: Flaky
) -> None:
    (desk.backends.home / "in").write_text("x")
    text = (
        "  a: {command: 'true', foreach: [1, 2], data: {i: {path: in}}}\n  b: {command: 'true'}\n"
    )
    run = desk.submit(HEAD + text)
    flaky.refusals = 1 << 30
    with desk.loop() as loop:
        until(loop, lambda: states(desk, run).get("b") == "succeeded")
        asked = flaky.asked
        until(loop, lambda: flaky.asked > asked + 2)
        waiting = desk.children(run)["a[0]"]
        assert (waiting.state, waiting.detail) == (State.PENDING, "s3: slow down")
        flaky.refusals = 0
        until(loop, lambda: ended(desk, run))
    assert set(states(desk, run).values()) == {"succeeded"}
    assert {child.detail for child in desk.children(run).values()} == {""}


def test_a_step_that_cannot_be_written_down_yet_is_looked_at_again(
    desk: Bench, flaky: Flaky
) -> None:
    (desk.backends.home / "in").write_text("x")
    run = desk.submit(
        HEAD + '  a: {command: "true", foreach: [in], data: {i: {path: "${{ item }}"}}}\n'
    )
    flaky.refusals = 1 << 30
    with desk.loop() as loop:
        until(loop, lambda: flaky.asked > 2)
        detail = desk.backends.store.run(run.id).detail
        assert detail == "step a waits: s3: slow down"
        assert states(desk, run) == {}
        flaky.refusals = 0
        until(loop, lambda: ended(desk, run))
    assert states(desk, run) == {"a[0]": "succeeded"}
    assert desk.backends.store.run(run.id).detail == ""


def test_what_will_never_be_there_fails_the_step_at_once(desk: Bench) -> None:
    run = desk.submit(
        HEAD + '  a: {command: "true", foreach: [none], data: {i: {path: "${{ item }}"}}}\n'
    )
    with desk.loop() as loop:
        until(loop, lambda: ended(desk, run))
    assert states(desk, run) == {"a": "failed"}


SAME = HEAD + "  a: {command: sleep 9, cache: true}\n"


def test_of_equal_steps_at_one_time_one_is_computed_and_the_other_takes_its_result(
    desk: Bench, clock: Clock
) -> None:
    first, second = desk.submit(SAME), desk.submit(SAME)
    with desk.loop() as loop:
        until(loop, lambda: len(states(desk, first)) == len(states(desk, second)) == 1)
        one, other = desk.children(first)["a"], desk.children(second)["a"]
        assert (bool(one.request), other.state) == (True, State.PENDING)
        assert other.detail == f"waits for {one.id}, which computes the same"
        clock.now += 10
        until(loop, lambda: ended(desk, first) and ended(desk, second))
    other = desk.children(second)["a"]
    assert (other.state, other.cached) == (State.SUCCEEDED, one.id)
    with pytest.raises(NotFoundError):
        desk.backends.engine.status(other.id)


def test_a_step_computes_itself_when_the_one_it_waited_for_is_stopped(
    desk: Bench, clock: Clock
) -> None:
    first, second = desk.submit(SAME), desk.submit(SAME)
    with desk.loop() as loop:
        until(loop, lambda: bool(states(desk, second)))
        desk.backends.store.commit([SetRun(first.id, {"stop": True})])
        until(loop, lambda: ended(desk, first))
        until(loop, lambda: bool(desk.children(second)["a"].request))
        clock.now += 10
        until(loop, lambda: ended(desk, second))
    other = desk.children(second)["a"]
    assert (other.state, other.cached, other.detail) == (State.SUCCEEDED, "", "")


def test_equal_instances_of_one_fan_out_are_computed_once(desk: Bench, clock: Clock) -> None:
    run = desk.submit(HEAD + "  a: {command: sleep 9, cache: true, foreach: [1, 1, 1]}\n")
    with desk.loop() as loop:
        until(loop, lambda: len(states(desk, run)) == 3)
        assert sum(bool(child.request) for child in desk.children(run).values()) == 1
        clock.now += 10
        until(loop, lambda: ended(desk, run))
    first, *others = desk.children(run).values()
    assert [child.cached for child in others] == [first.id, first.id]


BIG = "  a: {command: sleep 9, cache: true, resources: {cpu: 500}%s}\n"
SMALL = BIG.replace("500", "1")


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tasks that want much wait for ever."""
    real = MemoryEngine._begin

    def begin(self: Any, held: Any) -> None:
        if held.submission.request["resources"]["cpu"] < 100:
            real(self, held)

    monkeypatch.setattr(MemoryEngine, "_begin", begin)


@pytest.mark.usefixtures("crowded")
def test_a_step_does_not_wait_for_an_equal_one_that_itself_waits_for_a_place(
    desk: Bench, clock: Clock
) -> None:
    with desk.loop() as loop:
        big = desk.submit(HEAD + BIG % "")
        until(loop, lambda: states(desk, big) == {"a": "queued"})
        small = desk.submit(HEAD + SMALL % "")
        until(loop, lambda: states(desk, small) == {"a": "running"})
        third = desk.submit(HEAD + SMALL % "")  # of two equal ones the one that has begun counts
        until(loop, lambda: states(desk, third) == {"a": "pending"})
        clock.now += 10
        until(loop, lambda: ended(desk, small) and ended(desk, third))
    one, other = desk.children(small)["a"], desk.children(third)["a"]
    assert (one.state, one.cached) == (State.SUCCEEDED, "")
    assert (other.state, other.cached) == (State.SUCCEEDED, one.id)
    assert states(desk, big) == {"a": "queued"}


@pytest.mark.usefixtures("crowded")
def test_equal_instances_of_one_fan_out_wait_for_the_one_that_waits_for_a_place(
    desk: Bench,
) -> None:
    run = desk.submit(HEAD + BIG % ", foreach: [1, 1, 1]")
    with desk.loop() as loop:
        until(loop, lambda: len(states(desk, run)) == 3)
        first, *others = desk.children(run).values()
        until(loop, lambda: desk.backends.store.run(first.id).state is State.QUEUED)
    assert [child.detail for child in others] == [
        f"waits for {first.id}, which computes the same"
    ] * 2


def test_a_sweep_cannot_be_resumed_under_the_feet_of_its_pipeline(
    desk: Bench, clock: Clock
) -> None:
    run = desk.submit(
        HEAD
        + "  s: {kind: sweep, search: {points: [{x: 1}]},\n"
        + "      trial: {command: 'false', params: {x: 0}}}\n"
        + "  z: {needs: [s], command: 'true'}\n  l: {command: sleep 9}\n"
    )
    with desk.loop() as loop:
        until(loop, lambda: states(desk, run).get("z") == "blocked")
        sweep = desk.children(run)["s"]
        with pytest.raises(UserError, match=f"{run.id}, which has not ended") as error:
            desk.resume(sweep)
        assert f"run --resume {run.id}" in error.value.hint
        clock.now += 10
        until(loop, lambda: ended(desk, run))
    assert states(desk, run) == {"s": "failed", "z": "blocked", "l": "succeeded"}
    assert desk.backends.store.run(run.id).state is State.FAILED
    desk.resume(sweep)  # now nobody else moves it
    assert desk.backends.store.run(sweep.id).state is State.QUEUED


def test_a_pipeline_is_taken_up_again_by_drivers_that_come_and_go(
    desk: Bench, clock: Clock
) -> None:
    run = desk.submit(
        HEAD
        + "  a: {command: sleep 9, foreach: [1, 2, 3], max_parallel: 1}\n"
        + "  b: {command: 'true', needs: [a]}\nfinally:\n  bye: {command: 'true'}\n"
    )

    def succeeded(key: str) -> bool:
        return states(desk, run).get(key) == "succeeded"

    def go_on(key: str) -> None:
        """Let one more instance end, under a driver of its own."""
        with desk.loop() as loop:
            until(loop, lambda: states(desk, run).get(key) == "running")
            clock.now += 10
            until(loop, lambda: succeeded(key))

    go_on("a[0]")
    for time in (2, 3):
        desk.backends.store.commit([SetRun(run.id, {"stop": True})])
        with desk.loop() as loop:
            until(loop, lambda: ended(desk, run))
        desk.resume(run)
        go_on(f"a[{time - 1}]")
    with desk.loop() as loop:
        until(loop, lambda: ended(desk, run))
    found = desk.children(run)
    assert {child.state for child in found.values()} == {State.SUCCEEDED}
    tail = {key: child.id.removeprefix(f"{run.id}-") for key, child in found.items()}
    assert tail == {"a[0]": "a-0", "a[1]": "a-1-r2", "a[2]": "a-2-r3", "b": "b-r3", "bye": "bye-r3"}
    desk.resume(run)  # nothing is left to do
    with desk.loop() as loop:
        until(loop, lambda: ended(desk, run))
    assert desk.children(run) == found


SWEEP = (
    "mlstead: 1\nkind: sweep\nname: s\nsearch: {points: [{x: 1}]}\n"
    "trial: {command: 'false', params: {x: 0}, code: null}\n"
)


@pytest.mark.parametrize(
    "text", [HEAD + "  a: {command: 'false'}\n", SWEEP], ids=["pipeline", "sweep"]
)
def test_what_is_taken_up_again_in_the_moment_of_its_end_goes_on(
    desk: Bench, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    run = desk.submit(text)
    real = desk.store.commit

    def commit(changes: Any, **more: Any) -> None:
        real(changes, **more)
        now = desk.store.run(run.id)
        if now.state.final and "generation" not in now.extra:
            desk.resume(run)

    monkeypatch.setattr(desk.store, "commit", commit)
    with desk.loop() as loop:
        until(loop, lambda: ended(desk, run))
    now = desk.store.run(run.id)
    assert (now.state, now.extra["generation"]) == (State.FAILED, 2)
    assert [child.id[-3:] for child in desk.children(run).values()] == ["-r2"]
