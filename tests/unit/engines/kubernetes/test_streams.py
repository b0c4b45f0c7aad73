"""Logs and metrics are read on from any byte, in order, whatever pieces are there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstead.clients.objects import Objects
from mlstead.engines.kubernetes import streams
from mlstead.engines.kubernetes.streams import Pieces


@pytest.fixture
def log(objects: Objects) -> Pieces:
    return Pieces(objects, "tasks/x/t/", "log")


def put(objects: Objects, attempt: int, rank: int, *parts: bytes, kind: str = "log") -> None:
    """Send parts one after the other; b"" leaves four bytes out."""
    at = 0
    for part in parts:
        if part:
            objects.put(f"tasks/x/t/{kind}/{attempt}/{rank}/{at:015d}", part)
        at += len(part) or 4


def whole(log: Pieces, rank: int | None = None, offset: int = 0) -> bytes:
    return b"".join(streams.logs(log, lambda: True, rank, offset, follow=False))


def test_without_pieces_there_is_no_output(log: Pieces) -> None:
    assert (whole(log), log.read(1, 0, 0, 100)) == (b"", b"")


def test_pieces_are_joined_in_order_of_their_offsets(objects: Objects, log: Pieces) -> None:
    put(objects, 1, 0, b"one\n", b"two\n", b"\xff\x00no line end")
    assert whole(log) == b"one\ntwo\n\xff\x00no line end"
    assert log.read(1, 0, 0, 100) == whole(log)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 20), limit=st.integers(0, 20))
def test_any_stretch_of_a_stream_can_be_read(
    objects: Objects, log: Pieces, offset: int, limit: int
) -> None:
    parts = b"one\n", b"two\n", b"three\n"
    if not objects.has("tasks/x/t/log/1/0/000000000000000"):
        put(objects, 1, 0, *parts)
    text = b"".join(parts)
    assert log.read(1, 0, offset, limit) == text[offset : offset + limit]
    assert whole(log, offset=offset) == text[offset:]


def test_what_comes_behind_a_missing_piece_is_not_read(objects: Objects, log: Pieces) -> None:
    put(objects, 1, 0, b"one\n", b"", b"three\n")
    assert whole(log) == b"one\n"
    assert log.read(1, 0, 0, 100) == b"one\n"
    assert log.read(1, 0, 4, 100) == log.read(1, 0, 6, 100) == b""
    assert log.read(1, 0, 8, 100) == b"three\n"


def test_pieces_that_overlap_are_read_once(objects: Objects, log: Pieces) -> None:
    put(objects, 1, 0, b"one\ntwo\n")
    objects.put("tasks/x/t/log/1/0/000000000000004", b"two\nthree\n")
    assert whole(log) == log.read(1, 0, 0, 100) == b"one\ntwo\nthree\n"


def test_what_is_no_piece_is_not_read(objects: Objects, log: Pieces) -> None:
    put(objects, 1, 0, b"one\n")
    for name in ("1/0/x", "1/0/4/4", "x/0/4", "1/zero/0"):
        objects.put(f"tasks/x/t/log/{name}", b"strange")
    assert whole(log) == log.read(1, 0, 0, 100) == b"one\n"


def test_streams_of_ranks_and_attempts_are_kept_apart(objects: Objects) -> None:
    put(objects, 1, 1, b"a", kind="metrics")
    put(objects, 1, 11, b"b", kind="metrics")
    put(objects, 11, 1, b"c", kind="metrics")
    metrics = Pieces(objects, "tasks/x/t/", "metrics")
    read = [metrics.read(*place, 0, 9) for place in ((1, 1), (1, 11), (11, 1), (2, 1))]
    assert read == [b"a", b"b", b"c", b""]


def test_attempts_come_one_after_the_other_and_are_named(objects: Objects, log: Pieces) -> None:
    put(objects, 1, 0, b"first\n")
    put(objects, 2, 0, b"second\n")
    put(objects, 10, 0, b"tenth\n")
    assert whole(log) == b"first\n--- attempt 2 ---\nsecond\n--- attempt 10 ---\ntenth\n"


def test_of_several_ranks_whole_lines_name_theirs(objects: Objects, log: Pieces) -> None:
    put(objects, 1, 0, b"a", b"b\nc")
    put(objects, 1, 1, b"x\ny\n")
    assert whole(log) == b"[rank 0] ab\n[rank 1] x\n[rank 1] y\n[rank 0] c\n"
    assert whole(log, rank=1) == b"x\ny\n"
    assert whole(log, rank=0, offset=2) == b"\nc"
    assert whole(log, rank=7) == b""


def test_a_line_without_an_end_is_given_before_it_fills_the_memory(
    objects: Objects, log: Pieces
) -> None:
    put(objects, 1, 0, b"x" * (streams._LONGEST_LINE + 1), b"y")
    put(objects, 1, 1, b"z\n")
    chunks = list(streams.logs(log, lambda: True, None, 0, follow=False))
    assert [it[:10] for it in chunks] == [b"[rank 0] x", b"[rank 1] z", b"[rank 0] y"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Let something happen each time that somebody waits for a log to grow."""

    def happen(step: Callable[[], None]) -> None:
        monkeypatch.setattr("time.sleep", lambda _seconds: step())

    return happen


def test_a_log_is_followed_until_its_task_has_ended(
    objects: Objects, log: Pieces, clock: Callable[[Callable[[], None]], None]
) -> None:
    steps: Iterator[Callable[[], None]] = iter(
        [
            lambda: put(objects, 1, 0, b"one\n"),
            lambda: None,
            lambda: objects.put("tasks/x/t/log/1/0/000000000000010", b"three\n"),
            lambda: objects.put("tasks/x/t/log/1/0/000000000000004", b"two\n--"),
            lambda: put(objects, 2, 0, b"again\n"),
        ]
    )
    ended = False

    def step() -> None:
        nonlocal ended
        action = next(steps, None)
        if action is None:
            ended = True
            put(objects, 2, 0, b"again\n", b"last\n")  # it comes with the end
        else:
            action()

    clock(step)
    found = b"".join(streams.logs(log, lambda: ended, None, 0, follow=True))
    assert found == b"one\ntwo\n--three\n--- attempt 2 ---\nagain\nlast\n"


def test_a_piece_that_grew_while_its_log_was_followed_is_read_on(
    objects: Objects, log: Pieces, clock: Callable[[Callable[[], None]], None]
) -> None:
    put(objects, 1, 0, b"one\n")
    looks = 0

    def step() -> None:
        nonlocal looks
        looks += 1
        put(objects, 1, 0, b"one\ntwo\n", b"three\n")

    clock(step)
    found = b"".join(streams.logs(log, lambda: looks > 0, 0, 0, follow=True))
    assert found == b"one\ntwo\nthree\n"
