"""Events reach the records once, whoever copies them, and their reader misses none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from mlstead.engines.base import Submission, Task
from mlstead.engines.memory import MemoryEngine
from mlstead.records import memory
from mlstead.records.base import AddRun, Run, SetRun, State, Store
from mlstead.work.base import Backends
from mlstead.work.sync import Follower, News, cursor_name, sync


@pytest.fixture
def backends(tmp_path: Path) -> Backends:
    engine = MemoryEngine(tmp_path)
    nothing = cast("Any", None)
    return Backends(
        home=tmp_path, engine=engine, facts=engine.facts(), store=memory.create("memory:"),
        artifacts=nothing, code=nothing, secrets=nothing, clock=time.time,
    )  # fmt: skip


def send(backends: Backends, run_id: str, *command: str, state: State = State.QUEUED) -> Run:
    run = Run(run_id, "p", "job", "j", state=state)
    backends.store.commit([AddRun(run)])
    submit(backends, run_id, *command)
    return run


def submit(backends: Backends, task_id: str, *command: str) -> Submission:
    submission = backends.engine.prepare(Task(task_id, command), backends.facts)
    backends.engine.submit([submission])
    return submission


def until_end(follower: Follower, *task_ids: str) -> list[News]:
    """Follow until all these tasks have told of their ends."""
    found: list[News] = []
    left = set(task_ids)
    deadline = time.monotonic() + 20
    while left:
        assert time.monotonic() < deadline
        found.append(follower.news(0.05))
        left -= {event.task_id for event in found[-1].events if event.phase.final}
    return found


def names(store: Store, run_id: str) -> list[str]:
    return [event.name for event in store.events(run_id)]


ALL = ["queued", "starting", "running", "succeeded", "run-succeeded"]


def test_a_follower_records_every_event_and_gives_it_once(backends: Backends) -> None:
    follower = Follower(backends)
    send(backends, "a", "true")
    send(backends, "b", "sleep", "0.1")
    found = until_end(follower, "a", "b")
    told = [(event.task_id, str(event.phase)) for news in found for event in news.events]
    assert len(told) == len(set(told)) == 8
    assert names(backends.store, "a") == names(backends.store, "b") == ALL
    assert follower.news(0.0) == News([], {})
    assert backends.store.cursor(cursor_name(backends)) == found[-1].events[-1].cursor


def test_what_is_told_of_an_end_is_what_the_records_say(backends: Backends) -> None:
    follower = Follower(backends)
    send(backends, "a", "sleep", "0.2")
    send(backends, "b", "exit", "3")
    ended = {key: run for news in until_end(follower, "a", "b") for key, run in news.ended.items()}
    assert set(ended) == {"a", "b"}
    for run_id, run in ended.items():
        recorded = backends.store.run(run_id)
        for field in ("state", "started", "ended", "reason", "attempt", "detail"):
            assert getattr(run, field) == getattr(recorded, field), field
        assert run.started
    assert (ended["a"].state, ended["b"].state) == (State.SUCCEEDED, State.FAILED)


def test_a_run_that_was_expected_is_not_read_again(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(backends)
    follower.expect([send(backends, "a", "true")])

    def refuse(store: Store, run_id: str) -> Run:
        raise AssertionError(f"{run_id} was read")

    with monkeypatch.context() as patch:
        patch.setattr(type(backends.store), "run", refuse)
        until_end(follower, "a")
    assert names(backends.store, "a") == ALL


def test_what_another_process_copied_is_given_as_well(backends: Backends) -> None:
    follower = Follower(backends)
    send(backends, "a", "true")
    sync(backends)
    send(backends, "b", "true")
    found = until_end(follower, "a", "b")
    assert [event.task_id for news in found for event in news.events] == ["a"] * 4 + ["b"] * 4
    assert names(backends.store, "a") == names(backends.store, "b") == ALL
    assert not found[0].ended  # it was not this follower that ended them: read the records


def test_a_run_that_was_given_up_before_stays_so(backends: Backends) -> None:
    follower = Follower(backends)
    send(backends, "a", "true", state=State.FAILED)
    assert not any(news.ended for news in until_end(follower, "a"))
    assert backends.store.run("a").state is State.FAILED


def test_tasks_that_are_no_runs_are_passed_over(backends: Backends) -> None:
    follower = Follower(backends)
    submit(backends, "drive-1", "true")
    send(backends, "a", "true")
    until_end(follower, "drive-1", "a")
    assert names(backends.store, "a") == ALL


def test_two_copies_of_the_same_news_write_them_once(backends: Backends) -> None:
    followers = [Follower(backends), Follower(backends)]
    send(backends, "a", "true")
    for follower in followers:
        until_end(follower, "a")
    assert names(backends.store, "a") == ALL
    backends.store.commit([SetRun("a", {"detail": "later"}, unless_final=False)])
    sync(backends)
    assert backends.store.run("a").detail == "later"


def test_a_runs_own_driver_hears_of_its_task_without_a_second_wait(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []
    wait = MemoryEngine.wait

    def counted(engine: MemoryEngine, after: str, timeout: float) -> None:
        waits.append(after)
        wait(engine, after, timeout)

    monkeypatch.setattr(MemoryEngine, "wait", counted)
    for run_id, eager in (("a", {"a"}), ("b", set[str]())):
        waits.clear()
        follower = Follower(backends, eager)
        send(backends, run_id, "sleep", "60")
        phases = [str(event.phase) for event in follower.news(0.05).events]
        assert phases == ["queued", "starting", "running"]
        assert backends.store.run(run_id).state is State.RUNNING
        assert len(waits) == 1 if eager else len(waits) > 1
