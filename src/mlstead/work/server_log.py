"""Finds in what a server wrote why it ended, as one line for people."""

import re

from mlstead.clients.secrets import Masker
from mlstead.engines.base import Reason
from mlstead.errors import NotFoundError
from mlstead.records.base import Run
from mlstead.work.base import Backends

_BORDER = re.compile(r"--- attempt \d+ ---\n")
_LONGEST = 500


def cause(backends: Backends, run: Run, *, ended: bool) -> str:
    """Give the last line of the last attempt that has ended, or what the engine knows better.

    Secrets are hidden in it, for it goes into the records. ``ended`` says that no attempt runs.
    """
    detail = ""
    for event in backends.store.events(run.id):
        if event.data.get("ended"):
            detail = str(event.data.get("detail", ""))
            if event.data.get("reason") in (Reason.OOM, Reason.VOLUME, Reason.TIMEOUT):
                return detail  # its own words, if there are any, are of something else
    return _last_line(backends, run, ended=ended) or detail


def _last_line(backends: Backends, run: Run, *, ended: bool) -> str:
    masker = Masker(_secrets(backends, run))
    data = b"".join(masker.feed(chunk) for chunk in backends.engine.logs(run.id))
    attempts = _BORDER.split((data + masker.finish()).decode("utf-8", "replace"))
    if not ended and len(attempts) > 1:
        attempts.pop()  # has begun, and may yet say something else
    lines = [line for text in attempts for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:_LONGEST] if lines else ""


def _secrets(backends: Backends, run: Run) -> list[str]:
    values = []
    for wanted in (run.spec.get("secrets") or {}).values():
        try:
            name = wanted if isinstance(wanted, str) else wanted["name"]
            values.append(backends.secrets.get(name))
        except NotFoundError:
            continue
    return values
