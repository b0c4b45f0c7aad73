"""What pods left is brought to this laptop as it was, and nothing in it reaches anything else."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engines.kubernetes.cluster_objects import words

from mlstead.clients.objects import Objects
from mlstead.engines.base import Phase, Reason
from mlstead.engines.kubernetes import results
from mlstead.errors import UserError
from mlstead.runner.pod_results import arrange
from mlstead.runner.pod_ship import pack

PREFIX = "tasks/x/t/"
SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


def left(objects: Objects, folder: Path, *, attempt: int = 1, rank: int = 0) -> None:
    """Leave a folder, as a pod does."""
    content = io.BytesIO()
    pack(folder, content)
    objects.put(f"{PREFIX}outputs/{attempt}/{rank}.tar", content.getvalue())


def crafted(objects: Objects, *items: tuple[str, bytes, str], rank: int = 0) -> None:
    """Leave an archive that no pod would make: name, type, and content or where a link leads."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, kind, text in items:
            item = tarfile.TarInfo(name)
            item.type = kind
            if kind in (SYM, HARD):
                item.linkname = text
                archive.addfile(item)
            else:
                item.size = len(text)
                archive.addfile(item, io.BytesIO(text.encode()))
    objects.put(f"{PREFIX}outputs/1/{rank}.tar", content.getvalue())


def bring(objects: Objects, folder: Path, attempt: int = 1) -> Path:
    return results.bring(objects, PREFIX, folder, "t", attempt)


def test_outputs_come_as_they_were(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "outputs"
    (source / "model" / "deep").mkdir(parents=True)
    (source / "model" / "deep" / "weights").write_bytes(os.urandom(100_000))
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "ünter ⚠").write_text("x")
    (source / "latest").symlink_to("model/deep/weights")
    (source / "away").symlink_to("/etc/hostname")
    os.link(source / "run.sh", source / "same.sh")
    (source / "empty").mkdir()
    left(objects, source)
    found = bring(objects, tmp_path / "home")
    names = {str(it.relative_to(source)) for it in source.rglob("*")}
    assert {str(it.relative_to(found)) for it in found.rglob("*")} == names
    assert (found / "model/deep/weights").read_bytes() == (source / "latest").read_bytes()
    assert (found / "away").readlink() == Path("/etc/hostname")
    assert (found / "same.sh").stat().st_mode & 0o777 == 0o755


def test_outputs_are_brought_once(objects: Objects, tmp_path: Path) -> None:
    crafted(objects, ("a", tarfile.REGTYPE, "first"))
    found = bring(objects, tmp_path)
    crafted(objects, ("a", tarfile.REGTYPE, "second"))
    assert bring(objects, tmp_path) == found
    assert (found / "a").read_text() == "first"
    results.drop(tmp_path, "t")
    results.drop(tmp_path, "t")
    assert (bring(objects, tmp_path) / "a").read_text() == "second"


def test_a_task_that_left_nothing_has_an_empty_folder(objects: Objects, tmp_path: Path) -> None:
    assert list(bring(objects, tmp_path).iterdir()) == []


def test_what_an_earlier_attempt_left_is_not_what_the_last_did(
    objects: Objects, tmp_path: Path
) -> None:
    crafted(objects, ("a", tarfile.REGTYPE, "of the first"))
    assert list(bring(objects, tmp_path, attempt=2).iterdir()) == []


def test_what_every_rank_wrote_is_joined(objects: Objects, tmp_path: Path) -> None:
    for rank in range(3):
        source = tmp_path / f"outputs{rank}"
        (source / "shard").mkdir(parents=True)
        (source / "shard" / "part").write_text(f"of {rank}")
        (source / "log").write_text(f"log {rank}")
        (source / "own").write_text(f"own {rank}")
        arrange(["shard", "log"], source, rank)
        left(objects, source, rank=rank)
    found = bring(objects, tmp_path / "home")
    files = {str(it.relative_to(found)): it.read_text() for it in found.rglob("*") if it.is_file()}
    assert files == {
        "own": "own 0",
        **{f"shard/{rank}/part": f"of {rank}" for rank in range(3)},
        **{f"log/{rank}": f"log {rank}" for rank in range(3)},
    }


def test_ranks_are_joined_without_the_first(objects: Objects, tmp_path: Path) -> None:
    crafted(objects, ("shard/1", tarfile.REGTYPE, "x"), rank=1)
    assert (bring(objects, tmp_path) / "shard" / "1").read_text() == "x"


# ---- archives that mean harm


def outside(tmp_path: Path) -> Path:
    """Make what is not to be touched."""
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "file").write_text("not yours")
    (place / "1").write_text("not yours")
    return place


def harmful(place: Path) -> dict[str, list[tuple[str, bytes, str]]]:
    file = tarfile.REGTYPE
    return {
        "up": [("../../../../up", file, "x")],
        "absolute": [(f"{place}/file", file, "x")],
        "through a link": [("a", SYM, str(place)), ("a/file", file, "x")],
        "a link through a link": [("a", SYM, str(place)), ("a/file", SYM, "/etc/passwd")],
        "a link up": [("../../file", SYM, "x")],
        "a link at an absolute place": [(f"{place}/file", SYM, "x")],
        "a folder through a link": [("a", SYM, str(place)), ("a/new", tarfile.DIRTYPE, "")],
        "a hard link out": [("a", HARD, f"{place}/file")],
        "a hard link up": [("a", HARD, "../../../theirs/file")],
        "a hard link to a link": [("a", SYM, f"{place}/file"), ("b", HARD, "a")],
        "links in a row": [("a", SYM, "b"), ("b", SYM, str(place)), ("a/file", SYM, "x")],
        "a hard link to a device": [("a", HARD, "b"), ("b", tarfile.CHRTYPE, "")],
        "a device": [("a", tarfile.CHRTYPE, "")],
        "a disk": [("a", tarfile.BLKTYPE, "")],
        "a pipe": [("a", tarfile.FIFOTYPE, "")],
    }


@pytest.mark.parametrize("name", harmful(Path("/x")))
def test_nothing_in_an_archive_reaches_what_is_not_in_its_folder(
    objects: Objects, tmp_path: Path, name: str
) -> None:
    place = outside(tmp_path)
    crafted(objects, *harmful(place)[name])
    try:
        found = bring(objects, tmp_path / "home")
    except UserError as error:
        assert str(error).startswith("outputs: ")
    else:
        # an absolute name loses its root, and what would go by a link goes beside it
        assert name in ("absolute", "through a link", "a folder through a link")
        assert not any(it.samefile(place / "file") for it in found.rglob("*") if it.is_file())
    assert {it.name: it.read_text() for it in place.iterdir()} == dict.fromkeys(
        ("file", "1"), "not yours"
    )
    assert {it.name for it in tmp_path.iterdir()} == {"theirs", "home"}
    left_over = [it.name for it in (tmp_path / "home").rglob(".new-*")]
    assert left_over == []


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_are_not_joined_by_a_link(objects: Objects, tmp_path: Path, rank: int) -> None:
    place = outside(tmp_path)
    crafted(objects, ("shard", SYM, str(place)), rank=rank)
    if rank == 0:
        crafted(objects, ("shard/1", tarfile.REGTYPE, "x"), rank=1)
    with pytest.raises(UserError, match="is a link"):
        bring(objects, tmp_path / "home")
    assert {it.name: it.read_text() for it in place.iterdir()} == dict.fromkeys(
        ("file", "1"), "not yours"
    )


@pytest.mark.parametrize("content", [b"", b"no archive", b"\0" * 511])
def test_what_is_no_archive_is_refused(objects: Objects, tmp_path: Path, content: bytes) -> None:
    objects.put(f"{PREFIX}outputs/1/0.tar", content)
    with pytest.raises(UserError, match="outputs: cannot be unpacked"):
        bring(objects, tmp_path)


def test_names_that_are_no_outputs_are_left_alone(objects: Objects, tmp_path: Path) -> None:
    for name in ("1/x.tar", "1/0.zip", "1/0.tar/more", "x/0.tar"):
        objects.put(f"{PREFIX}outputs/{name}", b"strange")
    assert list(bring(objects, tmp_path).iterdir()) == []


# ---- ends


def end(objects: Objects, attempt: int, worker: int, text: str) -> None:
    objects.put(f"{PREFIX}end/{attempt}/{worker}.json", text.encode())


def test_an_end_is_read_or_there_is_none(objects: Objects) -> None:
    assert results.end_of(objects, PREFIX, 1, 0) is None
    end(objects, 1, 0, words("succeeded"))
    assert results.end_of(objects, PREFIX, 1, 0) == json.loads(words("succeeded"))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "null", "{}", '{"phase": "succeeded"}', '{"phase": "strange"}',
        words("strange"), words("failed", "strange"), words("succeeded", time="now"),
        words("succeeded", started=[]), words("failed", "error", code="3"), "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_end_is_none(objects: Objects, text: str) -> None:
    end(objects, 1, 0, text)
    assert results.end_of(objects, PREFIX, 1, 0) is None
    assert results.written_end(objects, PREFIX) is None


def test_the_last_end_is_that_of_a_task_whose_job_is_gone(objects: Objects) -> None:
    assert results.written_end(objects, PREFIX) is None
    end(objects, 1, 0, words("failed", "error", code=3))
    end(objects, 10, 0, words("failed", "oom", attempt=10, signal=9, detail="out of memory"))
    end(objects, 2, 0, words("succeeded", attempt=2))
    found = results.written_end(objects, PREFIX)
    assert found is not None
    assert (found.phase, found.reason, found.attempt) == (Phase.FAILED, Reason.OOM, 10)
    end(objects, 11, 0, words("succeeded", attempt=11))
    found = results.written_end(objects, PREFIX)
    assert found is not None
    assert (found.phase, found.exit_code, found.attempt) == (Phase.SUCCEEDED, 0, 11)


@pytest.mark.parametrize("ends", [{"worker": 1}, {"phase": "cancelled"}])
def test_a_group_or_a_stopped_task_cannot_be_told_by_one_end(
    objects: Objects, ends: dict[str, Any]
) -> None:
    end(objects, 1, 0, words(ends.get("phase", "succeeded")))
    end(objects, 1, ends.get("worker", 0), words(ends.get("phase", "succeeded")))
    assert results.written_end(objects, PREFIX) is None
