"""The driver of a service, turned in memory: what may pass is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.work.bench import bench

from mlstead.errors import UnavailableError
from mlstead.records.base import AddRun, Run, State
from mlstead.spec.load import parse
from mlstead.spec.record import dump
from mlstead.work import service

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
