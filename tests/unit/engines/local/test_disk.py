"""Files are there whole or not at all; locks drop when their holder does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlstead.engines.local import disk
from mlstead.engines.local.disk import Home, Marker


def test_a_file_is_made_once(tmp_path: Path) -> None:
    assert disk.write_new(tmp_path / "a", b"one")
    assert not disk.write_new(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (disk.write_new, disk.write_over):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "none" / "a", b"x")
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        disk.write_over(tmp_path / "a", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_reserved_file_appears_when_it_is_written(tmp_path: Path) -> None:
    reserved = disk.Reserved(tmp_path / "end")
    assert not (tmp_path / "end").exists()
    assert reserved.write(b"done")
    assert (tmp_path / "end").read_bytes() == b"done"
    assert not disk.Reserved(tmp_path / "end").write(b"again")
    assert (tmp_path / "end").read_bytes() == b"done"


def test_a_lock_is_held_by_one_and_seen_by_all(tmp_path: Path) -> None:
    lock = disk.try_lock(tmp_path / "l")
    assert lock is not None and disk.try_lock(tmp_path / "l") is None
    assert disk.is_locked(tmp_path / "l")
    os.close(lock)
    assert not disk.is_locked(tmp_path / "l")
    assert not disk.is_locked(tmp_path / "none")


def test_numbers_are_given_once(tmp_path: Path) -> None:
    place = tmp_path / "n"
    assert [disk.take_numbers(place, count) for count in (3, 1, 2)] == [0, 3, 4]


def test_a_marker_says_what_it_was_given(tmp_path: Path) -> None:
    marker = Marker("t", 7, (2, 300))
    disk.write_marker(tmp_path, marker)
    disk.write_marker(tmp_path, Marker("t", 8, (9, 9)))
    assert disk.read_marker(tmp_path / "t") == marker


def test_the_same_data_gives_the_same_bytes() -> None:
    assert disk.dump({"b": 1, "a": {"d": 2, "c": 3}}) == disk.dump({"a": {"c": 3, "d": 2}, "b": 1})


def test_a_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    assert home.root.stat().st_mode & 0o077 == 0
    assert home.task("a-b").parent.parent == home.tasks
