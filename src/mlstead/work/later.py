"""Remembers what did not work for a reason that may pass, and when to try it again."""

import math
import time

from mlstead.errors import PlatformError

AGAIN_SECONDS = 5.0


class Later:
    """Holds back names, such as steps, until their time has come; gone with the process.

    Nothing is tried twice in one round, so that a round ends.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    @property
    def due(self) -> float:
        """When the next round is wanted, by the monotonic clock; infinity if none is."""
        return min(self._until.values(), default=math.inf)

    def begin(self) -> None:
        """Begin a round: what is due may be tried again."""
        now = time.monotonic()
        self._until = {name: at for name, at in self._until.items() if at > now}

    def holds(self, name: str) -> bool:
        """Say whether it is too early to try again."""
        return name in self._until

    def put(self, name: str, delay: float | None = None) -> None:
        """Try again after ``delay`` seconds; not in this round, however short that is."""
        seconds = AGAIN_SECONDS if delay is None else delay
        self._until[name] = time.monotonic() + seconds

    def drop(self, name: str) -> None:
        """Forget it: it worked, or is no longer wanted."""
        self._until.pop(name, None)


def told(error: PlatformError) -> str:
    """Write an error as the detail of a run: one line, with its hint."""
    return f"{error}" + (f" ({error.hint})" if error.hint else "")
