"""What a program writes is carried out whole and once, however often the way is blocked."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstead.runner import pod_ship
from mlstead.runner.pod_ship import Shipper, Stream, pack, unpack
from mlstead.runner.pod_transfer import Transfer, TransferError

LATE = "late"
WAYS = ("kept", "refused", "lost", LATE)


class Way:
    """Carries objects by a script: kept; refused; kept, but its answer lost; or kept later."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.objects: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.asked_to_end = False
        self._late: list[tuple[str, bytes]] = []

    def send(self, key: str, content: BinaryIO, patience: float) -> None:
        content.seek(0)
        data = content.read()
        self.sent.append(key)
        how = self.script.pop(0) if self.script else "kept"
        if how == LATE:
            self._late.append((key, data))
        elif how != "refused":
            self.objects[key] = data
        if how != "kept":
            raise TransferError(f"{how} by the script")

    def arrive(self) -> None:
        """Let what was on its way come in, the first sent last."""
        while self._late:
            self.objects.update([self._late.pop()])

    def fetch(self, url: str, target: BinaryIO, patience: float) -> bool:
        return self.asked_to_end


def carried(way: Way) -> Transfer:
    return cast("Transfer", way)


def close(*streams: Stream) -> None:
    """Let go of what a stream has open for as long as its pod lives."""
    for stream in streams:
        if stream._file is not None:
            stream._file.close()


def text(way: Way, prefix: str = "log/") -> bytes:
    """Join pieces, which must follow each other without a gap and without overlap."""
    whole = b""
    for key in sorted(way.objects):
        assert key == f"{prefix}{len(whole):015d}"
        whole += way.objects[key]
    return whole


def test_a_file_is_sent_in_pieces_named_by_where_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_ship, "LARGEST", 4)
    path, way = tmp_path / "log", Way()
    stream = Stream(path, "log/", None)
    stream.ship(carried(way), 0.0)
    assert way.sent == []
    path.write_bytes(b"0123456789")
    stream.ship(carried(way), 0.0)
    stream.ship(carried(way), 0.0)
    assert way.objects == {
        "log/000000000000000": b"0123",
        "log/000000000000004": b"4567",
        "log/000000000000008": b"89",
    }
    assert len(way.sent) == 3
    close(stream)


@given(
    st.lists(st.tuples(st.binary(max_size=9), st.sampled_from(WAYS), st.booleans()), max_size=30),
    st.integers(1, 7),
)
@settings(max_examples=150, deadline=None)
def test_nothing_is_lost_and_nothing_comes_twice(
    steps: list[tuple[bytes, str, bool]], largest: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod_ship, "LARGEST", largest)
        path, way = Path(folder) / "log", Way()
        shown: list[bytes] = []
        stream = Stream(path, "log/", shown.append)
        for data, how, arrive in steps:
            with path.open("ab") as file:
                file.write(data)
            way.script = [how]
            try:
                stream.ship(carried(way), 0.0)
            except TransferError:
                assert how != "kept"
            if arrive:
                way.arrive()
            assert path.read_bytes().startswith(b"".join(shown))
        way.script = []
        stream.ship(carried(way), 0.0)
        way.arrive()
        close(stream)
        content = path.read_bytes() if path.exists() else b""
        assert text(way) == content == b"".join(shown)


@pytest.fixture
def shipper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shipper, Way]]:
    """Give one that looks all the time."""
    for name in ("SHIP_SECONDS", "LOOK_SECONDS", "SAVE_SECONDS"):
        monkeypatch.setattr(pod_ship, name, 0.0005)
    way = Way()
    way.asked = 0  # type: ignore[attr-defined]

    def asked() -> None:
        way.asked += 1  # type: ignore[attr-defined]

    one = Shipper(carried(way), "http://stop", asked)
    one.streams.append(Stream(tmp_path / "log", "log/", None))
    (tmp_path / "checkpoints").mkdir()
    one.checkpoints = (tmp_path / "checkpoints", "checkpoints/0.tar")
    yield one, way
    one.finish(0.0)
    close(*one.streams)


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_grows_is_sent_meanwhile(shipper: tuple[Shipper, Way], tmp_path: Path) -> None:
    one, way = shipper
    way.script = ["refused", "lost", "refused"]
    one.start()
    (tmp_path / "log").write_bytes(b"one\n")
    until(lambda: way.objects and not way.script)
    with (tmp_path / "log").open("ab") as file:
        file.write(b"two\n")
    until(lambda: text(way) == b"one\ntwo\n")
    assert one.is_alive()


def test_a_program_is_asked_to_end_once(shipper: tuple[Shipper, Way]) -> None:
    one, way = shipper
    one.start()
    way.asked_to_end = True
    until(lambda: way.asked)  # type: ignore[attr-defined]
    one.finish(0.0)
    assert way.asked == 1  # type: ignore[attr-defined]
    assert not one.is_alive()


def test_the_end_sends_all_that_is_left_or_tells(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\n")
    way = Way("refused")
    one = Shipper(carried(way), "http://stop", lambda: None)
    one.streams.append(Stream(tmp_path / "log", "log/", None))
    with pytest.raises(TransferError):
        one.finish(0.0)
    one.finish(0.0)
    assert text(way) == b"one\n"
    close(*one.streams)


# ---- checkpoints


def aged(folder: Path, seconds: float = 60.0) -> None:
    """Let everything in a folder be as old as this."""
    moment = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (moment, moment), follow_symlinks=False)


def test_checkpoints_are_kept_when_they_change_and_lie_still(
    shipper: tuple[Shipper, Way], tmp_path: Path
) -> None:
    one, way = shipper
    folder = tmp_path / "checkpoints"
    one.save(0.0)
    assert way.sent == []
    (folder / "step-1").mkdir()
    (folder / "step-1" / "weights").write_bytes(b"1")
    one.save(0.0)
    assert way.sent == []  # it may still be written
    aged(folder)
    one.save(0.0)
    one.save(0.0)
    assert way.sent == ["checkpoints/0.tar"]
    (folder / "step-1" / "weights").write_bytes(b"22")
    one.save(0.0, last=True)
    assert len(way.sent) == 2
    back = tmp_path / "back"
    back.mkdir()
    unpack(io.BytesIO(way.objects["checkpoints/0.tar"]), back)
    assert (back / "step-1" / "weights").read_bytes() == b"22"
    assert not (tmp_path / "checkpoints.tar").exists()


def test_checkpoints_that_could_not_be_kept_are_kept_later(
    shipper: tuple[Shipper, Way], tmp_path: Path
) -> None:
    one, way = shipper
    (tmp_path / "checkpoints" / "a").write_bytes(b"1")
    aged(tmp_path / "checkpoints")
    way.script = ["refused"]
    with pytest.raises(TransferError):
        one.save(0.0)
    one.save(0.0)
    assert list(way.objects) == ["checkpoints/0.tar"]


def test_checkpoints_that_change_while_they_are_packed_wait(
    shipper: tuple[Shipper, Way], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, way = shipper
    folder = tmp_path / "checkpoints"
    (folder / "a").write_bytes(b"1")
    aged(folder)

    def packed(source: Path, target: Any) -> None:
        pack(source, target)
        if not (folder / "b").exists():
            (folder / "b").write_bytes(b"2")

    monkeypatch.setattr(pod_ship, "pack", packed)
    one.save(0.0)
    assert way.sent == []
    aged(folder)
    one.save(0.0)
    assert way.sent == ["checkpoints/0.tar"]


# ---- archives


def test_a_folder_is_packed_and_comes_back(tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "a").mkdir(parents=True)
    back.mkdir()
    (source / "a" / ("long" * 40)).write_bytes(os.urandom(50_000))
    (source / "run").write_text("x")
    (source / "run").chmod(0o755)
    (source / "away").symlink_to("/etc/hostname")
    (source / "a" / "ünter").symlink_to("nowhere")
    content = io.BytesIO()
    pack(source, content)
    unpack(content, back)
    names = {str(it.relative_to(source)) for it in source.rglob("*")}
    assert {str(it.relative_to(back)) for it in back.rglob("*")} == names
    assert (back / "away").readlink() == Path("/etc/hostname")
    assert (back / "run").stat().st_mode & 0o111


def test_an_archive_that_leads_out_is_not_unpacked(tmp_path: Path) -> None:
    for name in ("../out", "a/../../out"):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        with pytest.raises(tarfile.TarError):
            unpack(content, folder)
        assert not (tmp_path / "out").exists()
