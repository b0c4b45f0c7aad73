"""Where a request is worked on: the loop when it is known to be quick, else a thread."""

import asyncio
import threading

import pytest

from mlstead.serving.lane import Lane
from mlstead.serving.model import Answer
from mlstead.serving.problem import AnswerError


class Seen:
    """A model that notes which threads call it, and whether two do so at once."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.together = False
        self._busy = threading.Lock()

    def answer(self, body: bytes) -> Answer:
        self.together |= not self._busy.acquire(blocking=False)
        self.threads.append(threading.get_ident())
        self._busy.release()
        return Answer(body, {})


def test_an_unknown_cost_is_tried_in_a_thread_and_a_known_small_one_on_the_loop() -> None:
    seen = Seen()

    async def ask() -> None:
        lane = Lane(seen.answer, quick=60)
        for body in (b"xx", b"xx", b"x" * 1000, b"xx"):
            await lane.run(body)
        lane.close()

    asyncio.run(ask())
    here = threading.get_ident()
    assert [thread == here for thread in seen.threads] == [False, True, False, True]


def test_a_slow_model_never_runs_on_the_loop() -> None:
    seen = Seen()

    async def ask() -> None:
        lane = Lane(seen.answer, quick=0)
        await asyncio.gather(*(lane.run(b"xx") for _ in range(20)))
        lane.close()

    asyncio.run(ask())
    assert threading.get_ident() not in seen.threads
    assert len(seen.threads) == 20
    assert not seen.together


def test_the_loop_goes_on_while_the_model_works() -> None:
    release, started = threading.Event(), threading.Event()

    def answer(body: bytes) -> Answer:
        started.set()
        assert release.wait(60)
        return Answer(body, {})

    async def ask() -> Answer:
        lane = Lane(answer)
        working = asyncio.ensure_future(lane.run(b"xx"))
        while not started.is_set():
            await asyncio.sleep(0)
        release.set()  # reached only because the loop is free
        return await working

    assert asyncio.run(ask()).body == b"xx"


def test_a_refusal_comes_through_from_the_thread_and_frees_the_lane() -> None:
    def answer(body: bytes) -> Answer:
        if body == b"bad":
            raise AnswerError(400, "no")
        return Answer(body, {})

    async def ask() -> bytes:
        lane = Lane(answer)
        with pytest.raises(AnswerError):
            await lane.run(b"bad")
        return (await lane.run(b"good")).body

    assert asyncio.run(ask()) == b"good"
