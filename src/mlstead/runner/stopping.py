"""Tells a program that somebody asked for its end."""

from __future__ import annotations

import os
import time

LOOK_EVERY = 0.1  # seconds


class _Flag:
    """A file whose existence means stop; looked at no more than every tenth of a second."""

    def __init__(self) -> None:
        self._raised = False
        self._next_look = 0.0

    def raised(self) -> bool:
        """Say whether the file is there; once it was, the answer stays yes."""
        now = time.monotonic()
        if not self._raised and now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            path = os.environ.get("MLSTEAD_STOP")
            self._raised = bool(path) and os.path.exists(path or "")  # noqa: PTH110 half the cost
        return self._raised


_flag = _Flag()


def should_stop() -> bool:
    """Say whether the program was asked to end: save what is needed, then return.

    Costs well under a microsecond; always False outside a run. Several workers may see it at
    different steps: let them agree (for instance by reducing it) before one of them leaves.
    """
    return _flag.raised()
