"""The driver of a sweep, turned in memory: what goes wrong while trials are drawn and sent."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.work.bench import Bench, bench, until

from mlstead.errors import NotFoundError, UnavailableError
from mlstead.records.base import State
from mlstead.work import job

SWEEP = (
    "mlstead: 1\nkind: sweep\nname: tries\n"
    "trial: {command: 'true', params: {x: 0}, code: null, resources: {cpu: 0.1, memory: 64Mi}%s}\n"
    "search: {method: random, seed: 1, space: {x: {int: [0, 999999]}}}\ntrials: 6\nparallel: 1\n"
)


class Vanishing:
    """Secrets of which one is removed after it was asked for a few times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def get(self, name: str) -> str:
        self.left -= 1
        if self.left < 0:
            raise NotFoundError(f"no secret {name}")
        return "value"

    def names(self) -> list[str]:
        return ["token"]


def test_a_secret_that_is_removed_in_the_middle_ends_the_sweep(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made = dataclasses.replace(
        made, backends=dataclasses.replace(made.backends, secrets=cast(Any, Vanishing(4)))
    )
    run = made.submit(SWEEP % ", secrets: {TOKEN: token}")
    with made.loop() as loop:
        until(loop, lambda: made.store.run(run.id).state.final)
    assert made.store.run(run.id).state is State.FAILED
    states = [child.state for child in made.children(run).values()]
    assert State.SUCCEEDED in states
    details = [it.detail for it in made.children(run).values() if it.state is State.FAILED]
    assert details and all(detail.startswith("secrets: ") for detail in details)


def test_what_may_pass_is_tried_again_with_the_same_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Bench = bench(tmp_path)
    real, asked = job.prepared, []

    def prepared(backends: Any, run: Any) -> Any:
        asked.append((run.key, run.params["x"]))
        if len(asked) in (3, 4):
            raise UnavailableError("the store answers 503", delay=0.05)
        return real(backends, run)

    run = made.submit(SWEEP % "")
    monkeypatch.setattr(job, "prepared", prepared)
    seen: list[str] = []

    def over() -> bool:
        now = made.store.run(run.id)
        seen.append(now.detail)
        return now.state.final

    with made.loop() as loop:
        until(loop, over)
    assert made.store.run(run.id).state is State.SUCCEEDED
    assert len(made.children(run)) == 6
    assert asked[2] == asked[3] == asked[4]
    assert any("503" in detail for detail in seen)
    assert made.store.run(run.id).detail == "6 trials succeeded, 0 failed"
