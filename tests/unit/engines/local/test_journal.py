"""The journal of events: read on from anywhere, repaired after a crash, anew after a reboot."""

from __future__ import annotations

from pathlib import Path

from mlstead.engines.local.journal import Journal, read, tail


def events(folder: Path, cursor: str = "") -> list[int]:
    return [event["n"] for event, _ in read(folder, cursor)]


def test_every_cursor_goes_on_behind_its_event(tmp_path: Path) -> None:
    Journal(tmp_path).append([{"n": number} for number in range(5)])
    found = list(read(tmp_path, ""))
    for event, cursor in found:
        assert events(tmp_path, cursor) == list(range(event["n"] + 1, 5))


def test_a_cursor_that_is_none_means_the_beginning(tmp_path: Path) -> None:
    Journal(tmp_path).append([{"n": 1}, {"n": 2}])
    for cursor in ("", "x", "7.0", "1.99999", "1.3", "-1.2"):
        assert events(tmp_path, cursor) == [1, 2]


def test_half_a_line_is_dropped_before_the_next_is_written(tmp_path: Path) -> None:
    Journal(tmp_path).append([{"n": 1}])
    with (tmp_path / "000001").open("ab") as file:
        file.write(b'{"n": 2')
    assert events(tmp_path) == [1]
    Journal(tmp_path).append([{"n": 3}])
    assert events(tmp_path) == [1, 3]


def test_a_line_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([{"n": 1}])
    with (tmp_path / "000001").open("ab") as file:
        file.write(b"\0\0\0\n")
    journal.append([{"n": 2}])
    assert events(tmp_path) == [1, 2]


def test_after_a_reboot_a_new_file_begins_and_old_cursors_go_on(tmp_path: Path) -> None:
    Journal(tmp_path).append([{"n": 1}, {"n": 2}])
    cursor = next(read(tmp_path, ""))[1]
    (tmp_path / "boot").write_text("another boot")
    Journal(tmp_path).append([{"n": 3}])
    assert tail(tmp_path)[0] == 2
    assert events(tmp_path, cursor) == [2, 3]
    assert events(tmp_path) == [1, 2, 3]


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert events(tmp_path / "none") == [] and tail(tmp_path / "none") == (1, 0)
