"""Runs one version's requests, one at a time: at once when they are quick, else in a thread.

A small model answers faster on the event loop than the hand-over to a thread takes; a slow one
would stop the health checks. So the cost of a request is learned by the size of its body (in powers
of two), and only requests of a size known to be quick run on the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from mlstead.serving.model import Answer

QUICK = 0.002
"""Seconds of work that the event loop may stand still for."""
_WEIGHT = 0.2


class Lane:
    """One version's place in the server; the model sees one request at a time.

    Attributes:
        working: the model has a request in hand, even where nobody waits for its answer any more.
    """

    def __init__(self, answer: Callable[[bytes], Answer], quick: float = QUICK) -> None:
        self._answer = answer
        self._quick = quick
        self._cost: dict[int, float] = {}
        self.working = False
        self._turn = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def run(self, body: bytes) -> Answer:
        """Answer one request when its turn comes, on the loop or in the version's thread."""
        size = len(body).bit_length()
        async with self._turn:
            if self._cost.get(size, self._quick) < self._quick:
                answer, seconds = self._timed(body)
            else:
                loop = asyncio.get_running_loop()
                answer, seconds = await loop.run_in_executor(self._pool, self._timed, body)
        known = self._cost.get(size, seconds)
        self._cost[size] = (1 - _WEIGHT) * known + _WEIGHT * seconds
        return answer

    def _timed(self, body: bytes) -> tuple[Answer, float]:
        self.working, started = True, perf_counter()
        try:
            answer = self._answer(body)
        finally:
            self.working = False
        return answer, perf_counter() - started

    def close(self) -> None:
        """Let go of the thread, without waiting for it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
