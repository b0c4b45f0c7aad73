"""Removing folders of the lab: only its own, through no link, across no mount."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.machines.lab import trees
from tests.machines.lab.errors import LabError

SOURCE = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a lab's folder."""
    trees.claim(tmp_path / "lab")
    return tmp_path / "lab"


def test_a_tree_is_removed_and_what_its_links_point_to_stays(folder: Path) -> None:
    (folder.parent / "precious").mkdir()
    (folder.parent / "precious/file").touch()
    (folder / "host/deep").mkdir(parents=True)
    (folder / "host/deep/out").symlink_to(folder.parent / "precious")
    trees.remove(folder / "host", folder)
    assert not (folder / "host").exists()
    assert (folder.parent / "precious/file").exists()


def test_a_tree_that_is_reached_through_a_link_is_not_removed(folder: Path) -> None:
    (folder.parent / "precious/h1").mkdir(parents=True)
    (folder / "hosts").symlink_to(folder.parent / "precious")
    for path in (folder / "hosts", folder / "hosts/h1"):
        with pytest.raises(LabError, match="is a link"):
            trees.remove(path, folder)
    assert (folder.parent / "precious/h1").exists()


def test_a_tree_outside_the_lab_is_not_removed(folder: Path) -> None:
    outside = folder.parent / "precious"
    outside.mkdir()
    for path in (outside, folder / "../precious", folder):
        with pytest.raises(LabError, match="is not below the lab"):
            trees.remove(path, folder)
    with pytest.raises(LabError, match="is not below the lab"):
        trees.remove(outside, folder.parent)  # has no mark
    assert outside.exists()


def test_a_tree_with_a_mount_in_it_is_not_removed(folder: Path) -> None:
    (folder / "host/in side").mkdir(parents=True)
    (folder.parent / "precious").mkdir()
    (folder.parent / "precious/file").touch()
    program = (
        "import pathlib, sys; from tests.machines.lab import trees;"
        "trees.remove(pathlib.Path(sys.argv[1], 'host'), pathlib.Path(sys.argv[1]))"
    )
    # In a mount namespace of its own, which ends with it.
    script = 'mount --bind "$1/../precious" "$1/host/in side" && exec "$2" -c "$3" "$1"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(folder), sys.executable, program]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=SOURCE, check=False)
    assert f"{folder}/host/in side is a mount" in done.stderr
    assert (folder.parent / "precious/file").exists()


def test_a_folder_with_something_else_in_it_is_not_taken_for_a_lab(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="not a lab's"):
        trees.claim(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(LabError, match="is a link"):
        trees.claim(tmp_path / "link")
    with pytest.raises(LabError, match="no place for a lab"):
        trees.claim(Path("/root"))
