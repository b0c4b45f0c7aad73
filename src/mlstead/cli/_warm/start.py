"""Starts the warm process, which then leads a life of its own."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from mlstead.cli._warm import wire
from mlstead.clients import background

_BOOT = "import sys; sys.path.append(sys.argv[1]); from mlstead.cli._warm.serve import main; main()"
_SOURCE = Path(__file__).resolve().parents[3]
_KEPT = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR")


def start(told: bytes) -> None:
    """Start it for calls in our circumstances; a failure costs nothing but the next call's time."""
    if not os.environ.get("XDG_RUNTIME_DIR"):
        with suppress(OSError):
            Path(f"/tmp/mlstead-{os.getuid()}").mkdir(mode=0o700)
    if wire.path(told) is None:
        return
    # no secret of the first caller stays in the environment of a process that lives long
    env = {k: v for k, v in os.environ.items() if k in _KEPT or wire.is_early(k)}
    with suppress(OSError):
        background.start([sys.executable, "-P", "-c", _BOOT, str(_SOURCE)], env)
