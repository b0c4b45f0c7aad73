"""What a job wrote is released once it is kept, also when the process that kept it was killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.work.bench import Bench, bench, until

from mlstead.engines.memory import MemoryEngine
from mlstead.records.base import Run, State
from mlstead.work import submit

JOB = "mlstead: 1\nkind: job\nname: j\ncommand: 'true'\ncode: null\n"


class Killed(BaseException):
    """The end of a driver, in the middle of what it does."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Bench]:
    yield bench(tmp_path)


@pytest.fixture
def left(desk: Bench) -> Path:
    """Give the folder in which every task seems to leave its outputs."""
    folder = cast(MemoryEngine, desk.backends.engine)._state.folder()
    (folder / "big").write_text("x")
    return folder


class Released:
    """Notes what is released; while ``deadly`` a release kills the driver instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str] = []
        self.deadly = False
        monkeypatch.setattr(MemoryEngine, "release", lambda _, task_id: self(task_id))

    def __call__(self, task_id: str) -> None:
        if self.deadly:
            raise Killed
        self.ids.append(task_id)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Released:
    return Released(monkeypatch)


def sent(desk: Bench) -> Run:
    run = desk.submit(JOB)
    submit.send(desk.backends, run)
    return run


def go_on(desk: Bench, run: Run) -> State:
    with desk.loop() as loop:
        until(loop, lambda: desk.store.run(run.id).state.final)
    return desk.store.run(run.id).state


@pytest.mark.usefixtures("left")
def test_a_driver_releases_what_one_that_was_killed_has_kept(
    desk: Bench, released: Released
) -> None:
    run = sent(desk)
    released.deadly = True
    with pytest.raises(Killed):
        go_on(desk, run)
    assert desk.store.run(run.id).state is State.SUCCEEDED
    released.deadly = False
    for _ in range(2):  # the second has nothing to do any more
        go_on(desk, run)
        assert released.ids == [run.id]


@pytest.mark.usefixtures("left")
def test_what_is_not_kept_yet_is_not_released(
    desk: Bench, released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = sent(desk), desk.store.commit

    def commit(changes: Any, **more: Any) -> None:
        if desk.store.run(run.id).state is State.FINISHING:
            raise Killed
        real(changes, **more)

    with monkeypatch.context() as patched:
        patched.setattr(desk.store, "commit", commit)
        with pytest.raises(Killed):
            go_on(desk, run)
    seen: list[State] = []
    monkeypatch.setattr(
        MemoryEngine, "release", lambda *_: seen.append(desk.store.run(run.id).state)
    )
    go_on(desk, run)
    assert seen == [State.SUCCEEDED]


def test_what_could_not_be_kept_is_never_released(
    desk: Bench, left: Path, released: Released
) -> None:
    (left / "out").symlink_to(desk.backends.home)
    run = sent(desk)
    for _ in range(2):
        assert go_on(desk, run) is State.FAILED
    assert released.ids == []
