"""The folder of all instances of a fan-out: made, and mended when it is not what it was."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlstead.artifacts.folder import FolderStore
from mlstead.work.base import Backends
from mlstead.work.inputs import locate, parts_pin


def backends(home: Path) -> Backends:
    """Give what another process has: it has not looked at anything yet."""
    store = FolderStore(home / "store", home / "cache")
    return cast(Backends, SimpleNamespace(home=home, artifacts=store))


@pytest.fixture
def pin(tmp_path: Path) -> dict[str, Any]:
    """Keep a file and a folder as the outputs of two instances."""
    (tmp_path / "two").mkdir()
    (tmp_path / "one").write_text("1\n")
    (tmp_path / "two" / "b").write_text("2\n")
    store = backends(tmp_path / "home").artifacts
    return parts_pin(
        [
            {"index": n, "item": n, "digest": store.add(tmp_path / name).digest, "values": {}}
            for n, name in enumerate(("one", "two"))
        ],
        "link",
    )


def holds(folder: Path) -> dict[str, str]:
    """Give every file, links followed, that a program would read."""
    shown = {}
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(place, name)
            shown[path.relative_to(folder).as_posix()] = path.read_text()
    return shown


def right(folder: Path) -> bool:
    shown = holds(folder)
    index = json.loads(shown.pop("index.json"))
    return shown == {"0": "1\n", "1/b": "2\n"} and [part["index"] for part in index] == [0, 1]


def replaced_by_a_folder(folder: Path) -> None:
    (folder / "1").unlink()
    (folder / "1").mkdir()
    (folder / "1" / "x").write_text("theirs")


def written_through(folder: Path) -> None:
    (folder / "0").chmod(0o644)
    (folder / "0").write_text("JUNK")


def replaced_by_a_link(folder: Path) -> None:
    shutil.rmtree(folder)
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "harm",
    [
        written_through,
        replaced_by_a_folder,
        replaced_by_a_link,
        lambda folder: (folder / "0").unlink(),
        lambda folder: (folder / "more").mkdir(),
        lambda folder: (folder / "index.json").write_bytes(b"\xff"),
    ],
    ids=["written-through", "folder", "link", "removed", "more", "index"],
)
def test_what_a_program_did_to_gathered_inputs_does_not_reach_the_next(
    tmp_path: Path, pin: dict[str, Any], harm: Callable[[Path], object]
) -> None:
    folder = Path(locate(backends(tmp_path / "home"), pin))
    assert right(folder)
    harm(folder)
    assert locate(backends(tmp_path / "home"), pin) == str(folder)
    assert right(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "index.json"]
    assert [path for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_gathered_inputs_are_there_after_the_home_was_moved(
    tmp_path: Path, pin: dict[str, Any]
) -> None:
    locate(backends(tmp_path / "home"), pin)
    (tmp_path / "home").rename(tmp_path / "moved")
    assert right(Path(locate(backends(tmp_path / "moved"), pin)))


def test_gathered_inputs_that_are_right_are_left_alone(tmp_path: Path, pin: dict[str, Any]) -> None:
    folder = Path(locate(backends(tmp_path / "home"), pin))
    before = {path.name: path.lstat().st_ino for path in folder.iterdir()}
    (folder / "0").unlink()
    locate(backends(tmp_path / "home"), pin)
    after = {path.name: path.lstat().st_ino for path in folder.iterdir()}
    assert (before["1"], before["index.json"]) == (after["1"], after["index.json"])
