"""Logs of all attempts and ranks, from any offset."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlstead.engines.local.log_stream import Source, read


def write(task: Path, number: int, ended: bool = True, **logs: bytes) -> Path:
    folder = task / str(number)
    folder.mkdir(exist_ok=True)
    for name, data in logs.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    if ended:
        (folder / "end.json").write_text("{}")
    return folder


def whole(task: Path, rank: int | None = None, offset: int = 0) -> bytes:
    return b"".join(read(Source(task, lambda: True, _never), rank, offset, follow=False))


def _never(seconds: float) -> None:
    raise AssertionError("it waited")


def test_attempts_follow_each_other(tmp_path: Path) -> None:
    write(tmp_path, 1, log=b"one\n")
    write(tmp_path, 2, log=b"two")
    text = b"one\n--- attempt 2 ---\ntwo"
    assert whole(tmp_path) == text
    for offset in range(len(text) + 2):
        assert whole(tmp_path, offset=offset) == text[offset:]


def test_lines_of_several_ranks_name_their_rank(tmp_path: Path) -> None:
    write(tmp_path, 1, log_0=b"a\nb\n", log_1=b"c\nno end", log_10=b"d\n")
    assert whole(tmp_path).splitlines() == [
        b"[rank 0] a", b"[rank 0] b", b"[rank 1] c", b"[rank 10] d", b"[rank 1] no end",
    ]  # fmt: skip
    assert whole(tmp_path, rank=1) == b"c\nno end"
    assert whole(tmp_path, rank=7) == b""


def test_following_gives_what_is_written_meanwhile_and_ends(tmp_path: Path) -> None:
    folder = write(tmp_path, 1, ended=False, log=b"one\n")
    steps = iter([b"two\n", b"three", b""])

    def pause(seconds: float) -> None:
        data = next(steps)
        with (folder / "log").open("ab") as file:
            file.write(data)
        if not data:
            with (folder / "log").open("ab") as file:
                file.write(b" last")
            (folder / "end.json").write_text("{}")

    done = lambda: (folder / "end.json").exists()  # noqa: E731
    chunks = list(read(Source(tmp_path, done, pause), None, 0, follow=True))
    assert chunks == [b"one\n", b"two\n", b"three", b" last"]


def test_a_task_without_an_attempt_said_nothing(tmp_path: Path) -> None:
    assert whole(tmp_path) == b""


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_long_line_of_a_rank_is_not_held_back_for_ever(tmp_path: Path, size: int) -> None:
    write(tmp_path, 1, log_0=b"x" * size + b"\n", log_1=b"")
    assert whole(tmp_path).count(b"x") == size
