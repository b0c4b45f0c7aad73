"""The reader that keeps the journal open sees what the journal's own reader sees, always."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlstead.engines.local.journal import Journal, read
from mlstead.engines.local.tail import Tail


def follow(tail: Tail, cursor: str) -> tuple[list[int], str]:
    """Read to the end as the engine does; give what was read, and the cursor behind it."""
    numbers: list[int] = []
    while news := tail.read(cursor):
        numbers += [event["n"] for event, _ in news]
        cursor = news[-1][1]
    return numbers, cursor


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    journal, tail = Journal(tmp_path), Tail(tmp_path)
    cursor = ""
    for number in range(3):
        journal.append([{"n": number}, {"n": number + 10}])
        numbers, cursor = follow(tail, cursor)
        assert numbers == [number, number + 10]
        assert follow(tail, cursor) == ([], cursor)
    assert [at for _, at in read(tmp_path, "")][-1] == cursor


def test_what_a_look_found_is_read_once_and_with_all_that_came_since(tmp_path: Path) -> None:
    journal, tail = Journal(tmp_path), Tail(tmp_path)
    journal.append([{"n": 1}])
    assert tail.holds("")
    journal.append([{"n": 2}])
    numbers, cursor = follow(tail, "")
    assert numbers == [1, 2]
    assert not tail.holds(cursor)
    assert follow(tail, "") == ([1, 2], cursor)


def test_many_events_and_long_ones_are_all_read(tmp_path: Path) -> None:
    journal, tail = Journal(tmp_path), Tail(tmp_path)
    journal.append([{"n": 0}])
    _, cursor = follow(tail, "")
    journal.append([{"n": number, "text": "x" * (40_000 if number == 7 else 9)}
                    for number in range(1, 1200)])  # fmt: skip
    assert follow(tail, cursor)[0] == list(range(1, 1200))


def test_a_cursor_that_is_none_means_the_beginning(tmp_path: Path) -> None:
    Journal(tmp_path).append([{"n": 1}, {"n": 2}])
    tail = Tail(tmp_path)
    for cursor in ("", "x", "7.0", "1.99999", "1.3", "-1.2"):
        assert follow(tail, cursor)[0] == [1, 2]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    Journal(tmp_path).append([{"n": 1}])
    tail = Tail(tmp_path)
    _, cursor = follow(tail, "")
    with (tmp_path / "000001").open("ab") as file:
        file.write(b'{"n": ')
        file.flush()
        assert not tail.holds(cursor)
        file.write(b"2}\n")
    assert tail.holds(cursor)
    assert follow(tail, cursor)[0] == [2]


def test_a_line_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    journal, tail = Journal(tmp_path), Tail(tmp_path)
    journal.append([{"n": 1}])
    _, cursor = follow(tail, "")
    with (tmp_path / "000001").open("ab") as file:
        file.write(b"\0\0\0\n")
    assert not tail.holds(cursor)
    journal.append([{"n": 2}])
    assert follow(tail, cursor)[0] == [2]


def test_a_new_file_is_found(tmp_path: Path) -> None:
    Journal(tmp_path).append([{"n": 1}])
    tail = Tail(tmp_path)
    _, cursor = follow(tail, "")
    (tmp_path / "boot").write_text("another boot")
    Journal(tmp_path).append([{"n": 2}])
    assert tail.holds(cursor)
    numbers, cursor = follow(tail, cursor)
    assert numbers == [2] and cursor.startswith("2.")


def test_a_journal_that_was_removed_and_made_anew_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    Journal(folder).append([{"n": 1}])
    tail = Tail(folder)
    _, cursor = follow(tail, "")
    shutil.rmtree(folder)
    assert not tail.holds(cursor)
    folder.mkdir()
    Journal(folder).append([{"n": 2}])
    assert follow(tail, "")[0] == [2]


def test_it_reads_on_after_it_was_closed(tmp_path: Path) -> None:
    journal, tail = Journal(tmp_path), Tail(tmp_path)
    journal.append([{"n": 1}])
    _, cursor = follow(tail, "")
    tail.close()
    journal.append([{"n": 2}])
    assert follow(tail, cursor)[0] == [2]


def test_an_empty_place_holds_nothing(tmp_path: Path) -> None:
    assert not Tail(tmp_path / "none").holds("") and Tail(tmp_path).read("") == []
