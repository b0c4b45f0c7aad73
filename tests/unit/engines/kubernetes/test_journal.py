"""The journal keeps an order that never changes, whoever writes it and whenever one is killed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from mlstead.engines.base import Phase, Reason, Status, TaskEvent
from mlstead.engines.kubernetes import journal as subject
from mlstead.engines.kubernetes.journal import Journal

WAY = (Phase.QUEUED, Phase.STARTING, Phase.RUNNING)


def event(
    phase: Phase, task: str = "t", *, attempt: int = 1, retried: bool = False, detail: str = ""
) -> TaskEvent:
    status = Status(phase, attempt=attempt, hosts=("h1",), detail=detail)
    return TaskEvent(task, attempt, phase, 1.0, status, "", retried)


def add(journal: Journal, *events: TaskEvent, request: str = "digest") -> bool:
    with journal.adding() as adding:
        return adding.add(list(events), request)


def told(journal: Journal, after: str = "") -> list[tuple[str, int, Phase]]:
    return [(it.task_id, it.attempt, it.phase) for it in journal.events(after)]


def test_an_empty_journal_has_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "none")
    assert (told(journal), journal.size(), journal.place("7")) == ([], 0, 0)
    assert journal.ended("t") is None
    assert journal.final("t") is None


def test_an_event_is_told_once_whoever_adds_it(tmp_path: Path) -> None:
    one, two = Journal(tmp_path), Journal(tmp_path)
    add(one, event(Phase.QUEUED))
    add(two, event(Phase.QUEUED), event(Phase.STARTING))
    add(one, event(Phase.QUEUED), event(Phase.STARTING), event(Phase.RUNNING))
    assert told(one) == told(two) == [("t", 1, phase) for phase in WAY]


def test_an_event_comes_back_as_it_was(tmp_path: Path) -> None:
    status = Status(
        Phase.FAILED, Reason.OOM, 137, 9, 2, 5, 6, ("h1", "h2"), 1, 1.5, 2.5, 3.5, "ünter\n⚠"
    )
    add(Journal(tmp_path), TaskEvent("t", 2, Phase.FAILED, 3.5, status, "", retried=True))
    (found,) = Journal(tmp_path).events("")
    assert (found.status, found.attempt, found.time, found.retried) == (status, 2, 3.5, True)


def test_an_end_is_kept_with_its_request(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert not add(journal, event(Phase.FAILED, retried=True))
    assert journal.ended("t") is None
    assert journal.open_tasks() == {"t"}
    assert add(journal, event(Phase.SUCCEEDED, attempt=2))
    other = Journal(tmp_path)
    assert other.final("t") == Status(Phase.SUCCEEDED, attempt=2, hosts=("h1",))
    assert (other.ended("t") or {})["request"] == "digest"
    assert journal.open_tasks() == set()


def test_an_end_is_forgotten_on_request(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    add(journal, event(Phase.CANCELLED))
    journal.forget("t")
    journal.forget("t")
    assert journal.ended("t") is None


# ---- order


def test_nothing_is_told_that_comes_before_what_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    add(journal, event(Phase.QUEUED), event(Phase.FAILED, retried=True))
    add(journal, event(Phase.QUEUED), event(Phase.RUNNING), event(Phase.LOST, retried=True))
    assert [phase for _, _, phase in told(journal)] == [Phase.QUEUED, Phase.FAILED]


def test_an_end_seen_of_an_earlier_attempt_is_the_end_of_the_last(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    add(journal, event(Phase.FAILED, retried=True), event(Phase.QUEUED, attempt=2))
    assert journal.attempt("t") == 2
    assert add(journal, event(Phase.LOST))
    assert told(journal)[-1] == ("t", 2, Phase.LOST)
    final = journal.final("t")
    assert final is not None
    assert final.attempt == 2


# ---- cursors


def test_a_cursor_gives_what_is_behind_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    add(journal, *(event(phase) for phase in WAY))
    cursors = [it.cursor for it in journal.events("")]
    for number, cursor in enumerate(cursors, 1):
        assert told(Journal(tmp_path), cursor) == [("t", 1, phase) for phase in WAY[number:]]
    add(journal, event(Phase.SUCCEEDED))
    assert told(journal, cursors[-1]) == [("t", 1, Phase.SUCCEEDED)]


@pytest.mark.parametrize("cursor", ["", "0", "-1", "5", "999999", "9" * 400, "x", "1.5", "٣", "²"])
def test_a_cursor_that_is_none_of_this_journal_begins_it(tmp_path: Path, cursor: str) -> None:
    journal = Journal(tmp_path)
    add(journal, *(event(phase) for phase in WAY))
    assert len(told(journal, cursor)) == 3


# ---- killed


def test_a_half_written_line_is_not_told_and_cut_off(tmp_path: Path) -> None:
    add(Journal(tmp_path), event(Phase.QUEUED))
    file = tmp_path / "events.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:-9])
    journal = Journal(tmp_path)
    assert len(told(journal)) == 1
    add(journal, event(Phase.QUEUED), event(Phase.STARTING))
    assert [phase for _, _, phase in told(journal)] == [Phase.QUEUED, Phase.STARTING]


def test_an_end_that_a_power_cut_left_empty_is_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    add(journal, event(Phase.SUCCEEDED))
    for file in (tmp_path / "ended").rglob("*.json"):
        file.write_bytes(b"")
    assert journal.ended("t") is None


def _add_and_be_killed(folder: Path, left: int) -> None:
    """Add an end, in a process that is killed as it touches its files for the nth time."""

    def hook(name: str, arguments: object) -> None:
        nonlocal left
        if name in ("open", "os.rename", "os.remove", "os.truncate") and str(folder) in str(
            arguments
        ):
            left -= 1
            if left < 0:
                os._exit(9)

    pid = os.fork()
    if pid == 0:
        try:
            sys.addaudithook(hook)
            add(Journal(folder), event(Phase.QUEUED), event(Phase.SUCCEEDED))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("left", range(12))
def test_a_process_killed_at_any_moment_leaves_no_end_without_its_event(
    tmp_path: Path, left: int
) -> None:
    _add_and_be_killed(tmp_path, left)
    journal = Journal(tmp_path)
    with journal.adding() as adding:
        if journal.ended("t") is None:
            adding.add([event(Phase.QUEUED), event(Phase.SUCCEEDED)], "digest")
    assert [phase for _, _, phase in told(journal)] == [Phase.QUEUED, Phase.SUCCEEDED]
    assert journal.final("t") is not None
    assert not (tmp_path / "events.pending").exists()


# ---- the starting point


def test_a_starting_point_spares_the_reading_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_SNAPSHOT", 2000)
    one = Journal(tmp_path)
    for number in range(10):
        add(one, event(Phase.QUEUED, f"a{number}"), event(Phase.STARTING, f"a{number}"))
        if number % 2:
            add(one, event(Phase.FAILED, f"a{number}"))
    start = json.loads((tmp_path / "events.start").read_bytes())
    assert 0 < start["place"] <= one.size()
    file = tmp_path / "events.jsonl"
    content = file.read_bytes()
    file.write_bytes(b"x" * (start["place"] - 1) + content[start["place"] - 1 :])
    two = Journal(tmp_path)  # what comes before the starting point is not read
    add(two, event(Phase.STARTING, "a0"), event(Phase.RUNNING, "a0"))
    assert two.open_tasks() == {f"a{number}" for number in range(0, 10, 2)}
    assert told(two, str(len(content))) == [("a0", 1, Phase.RUNNING)]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b'{"place": 99999999, "open": {}}', b'{"place": 5}']
)
def test_a_damaged_starting_point_is_none(tmp_path: Path, content: bytes) -> None:
    add(Journal(tmp_path), event(Phase.QUEUED))
    (tmp_path / "events.start").write_bytes(content)
    journal = Journal(tmp_path)
    add(journal, event(Phase.QUEUED), event(Phase.STARTING))
    assert len(told(journal)) == 2
