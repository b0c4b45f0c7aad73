"""should_stop: a file says so."""

import time
from pathlib import Path

import pytest

from mlstead.runner import stopping


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock the test moves; the flag as a new process has it."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping, "_flag", stopping._Flag())
    return now


def test_it_becomes_true_when_the_file_appears_and_stays_so(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "stop"
    monkeypatch.setenv("MLSTEAD_STOP", str(file))
    assert not stopping.should_stop()
    file.touch()
    assert not stopping.should_stop()  # looked a moment ago
    clock[0] += stopping.LOOK_EVERY
    assert stopping.should_stop()
    file.unlink()
    clock[0] += stopping.LOOK_EVERY
    assert stopping.should_stop()


def test_outside_a_run_nobody_asks(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLSTEAD_STOP", raising=False)
    assert not stopping.should_stop()
