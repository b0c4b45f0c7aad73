"""Checks the place where a context's work goes, and, if asked, by a task that does nothing."""

import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from mlstead.engines.base import Check, Engine, Phase, Resources, Task
from mlstead.errors import PlatformError

PATIENCE: Final = 180.0  # seconds that an image may need to come to a node
_LOOK: Final = 0.5


def checks(engine: Engine, *, deep: bool = False) -> Iterator[Check]:
    """Look at what tasks need; with ``deep``, run one that prints a word, and forget it again."""
    missing = False
    for check in engine.check():
        missing = missing or check.state == "missing"
        yield check
    if deep and not missing:
        yield _try(engine)


def _try(engine: Engine) -> Check:
    task = Task(
        f"doctor-{secrets.token_hex(4)}",
        ("sh", "-c", "echo well > $MLSTEAD_OUTPUTS/word; echo well"),
        outputs=("word",),
        resources=Resources(cpu=0.1, memory=64 << 20),
        interactive=False,
    )
    began = time.monotonic()
    try:
        engine.submit([engine.prepare(task, engine.facts())])
        while not (status := engine.status(task.id)).phase.final:
            if time.monotonic() - began > PATIENCE:
                engine.cancel(task.id, 0.0)
                detail = f"it did not end in {PATIENCE:.0f} s: {status.detail or status.phase}"
                return Check("task", "missing", detail)
            time.sleep(_LOOK)
        seconds = time.monotonic() - began
        said = b"".join(engine.logs(task.id)).decode(errors="replace").strip()
        if status.phase is not Phase.SUCCEEDED:
            return Check("task", "missing", f"it {status.phase}: {status.detail}", said[-200:])
        if said != "well" or engine.leaves_nothing(task.id):
            return Check("task", "missing", "it ran, but its log or output did not come back")
        return Check("task", "ok", f"one ran and gave back its log and output, in {seconds:.1f} s")
    except PlatformError as error:
        return Check("task", "missing", str(error), error.hint)
    finally:
        with suppress(PlatformError):
            engine.forget(task.id)
