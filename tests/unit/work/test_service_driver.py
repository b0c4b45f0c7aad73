"""The driver of a service, turned in memory: what may pass is tried again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.unit.work.bench import bench, until

from mlstead.errors import UnavailableError
from mlstead.records.base import AddRun, Run, State
from mlstead.spec.load import parse
from mlstead.spec.record import dump
from mlstead.work import service
from mlstead.work.base import child_id

TEXT = "mlstead: 1\nkind: service\nname: calc\nmodel: plus@1\ncode: null\n"


def test_a_store_that_does_not_answer_ends_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = bench(tmp_path)
    tried: list[State] = []

    def start(self: Any) -> None:
        tried.append(self.run.state)
        if len(tried) < 3:
            raise UnavailableError("s3: slow down", delay=0.0)
        self._fail(State.FAILED, "the test ends here")

    run = Run(
        id="calc-1", project="p", kind="service", name="calc", engine="memory",
        state=State.QUEUED, created=1.0, spec=dump(parse(TEXT)),
    )  # fmt: skip
    desk.store.commit([AddRun(run)])
    monkeypatch.setattr(service.Driver, "_start", start)
    seen: list[str] = []
    with desk.loop() as loop:
        while not (now := desk.store.run(run.id)).state.final:
            seen.append(now.detail)
            loop.turn(0.01)
    assert len(tried) == 3
    assert any("slow down" in detail for detail in seen)
    assert desk.store.run(run.id).detail == "the test ends here"


def test_what_served_before_goes_back_to_the_python_it_was_submitted_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = bench(tmp_path)
    pythons: list[str] = []

    def start(self: Any) -> None:
        pythons.append(self._task(tmp_path).command[0])
        self._fail(State.FAILED, "the test ends here")

    monkeypatch.setattr(service.Driver, "_start", start)
    old = Run(
        id="calc-1", project="p", kind="service", name="calc", engine="memory",
        state=State.SUCCEEDED, created=1.0, spec=dump(parse(TEXT)),
        extra={
            "pin": {}, "resolved": {}, "traffic": {}, "port": 1,
            "caller": {"interpreter": "/elsewhere/bin/python"}, "packages": ["numpy-1"],
        },
    )  # fmt: skip
    new = dataclasses.replace(
        old, id="calc-2", state=State.RUNNING, stop=True,
        extra={"pin": {}, "handed": {"from": old.id, "at": 1.0}},
    )  # fmt: skip
    desk.store.commit([AddRun(old), AddRun(new)])
    back = child_id(new.id, "back")
    with desk.loop() as loop:
        until(loop, lambda: bool(pythons))
    assert pythons == ["/elsewhere/bin/python"]
    assert desk.store.run(back).extra["packages"] == ["numpy-1"]
