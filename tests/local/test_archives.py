"""Archives as data: unpacked whole, or refused whole."""

import io
import tarfile
from pathlib import Path

import pytest
from tests.local.front_door import Door


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_is_kept_as_what_it_holds_when_asked(door: Door, tmp_path: Path) -> None:
    source = archive(tmp_path / "a.tar.gz", ("x/one", b"1"), ("two", b"22"))
    door.good("data", "add", "things", source, "--unpack")
    door.good("data", "get", "things", tmp_path / "got")
    assert (tmp_path / "got" / "x" / "one").read_bytes() == b"1"
    assert (tmp_path / "got" / "two").read_bytes() == b"22"


@pytest.mark.parametrize("name", ["../out", "/tmp/mlstead-test-out", "a/../../out"])
def test_an_archive_that_climbs_is_refused_whole(door: Door, tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "a.tar.gz", ("good", b"1"), (name, b"2"))
    result = door("data", "add", "things", source, "--unpack")
    assert result.code == 2
    assert door.good("data", "list", "--json").json == []
    assert not list(door.home.glob(".fetch-*"))
    assert not Path("/tmp/mlstead-test-out").exists()
