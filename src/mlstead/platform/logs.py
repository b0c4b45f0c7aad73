"""What runs have written, secrets masked: one job, or all that a sweep or pipeline started."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from mlstead.clients.secrets import Masker
from mlstead.errors import NotFoundError
from mlstead.records.base import Query, Run, State
from mlstead.work import sync
from mlstead.work.base import Backends

LOOK_SECONDS = 0.2


def of_run(backends: Backends, run: Run, *, rank: int | None, follow: bool) -> Iterator[bytes]:
    """Give a run's output; of a sweep or pipeline that of its children, in their order.

    With ``follow`` until the run has ended: children are given one after the other as they begin.
    """
    if run.kind in ("sweep", "pipeline"):
        yield from _of_children(backends, run, follow=follow)
        return
    if run.kind == "site":
        yield from _of_site(backends, run, follow=follow)
        return
    masker = Masker(_secret_values(backends, run))
    try:
        for chunk in backends.engine.logs(run.id, rank=rank, follow=follow):
            yield masker.feed(chunk)
    except NotFoundError:
        return  # recorded, not sent yet: there is no output
    yield masker.finish()


def _of_children(backends: Backends, run: Run, *, follow: bool) -> Iterator[bytes]:
    given: set[str] = set()
    while True:
        over = not follow or backends.store.run(run.id).state.final
        for child in backends.store.runs(Query(parent=run.id, limit=0)):
            if child.id not in given and _has_output(child):
                given.add(child.id)
                yield f"--- {child.key} ({child.state}) ---\n".encode()
                yield from of_run(backends, child, rank=None, follow=follow)
        if over:
            return
        time.sleep(LOOK_SECONDS)
        sync.sync(backends)


def _of_site(backends: Backends, run: Run, *, follow: bool) -> Iterator[bytes]:
    """Give the log of a change of a site; its secrets were masked when it was written."""
    try:
        with Path(run.extra["log"]).open("rb") as file:
            while True:
                over = not follow or backends.store.run(run.id).state.final
                yield from iter(lambda: file.read(1 << 16), b"")
                if over:
                    return
                time.sleep(LOOK_SECONDS)
    except FileNotFoundError:
        return  # it ended before it wrote anything


def _has_output(child: Run) -> bool:
    """Say whether a child has begun something of its own."""
    if child.kind == "sweep":
        return child.state is not State.PENDING
    begun = child.state not in (State.PENDING, State.QUEUED)
    return child.kind == "job" and not child.cached and bool(child.request) and begun


def _secret_values(backends: Backends, run: Run) -> Sequence[str]:
    values = []
    for wanted in (run.spec.get("secrets") or {}).values():
        with suppress(NotFoundError):
            name = wanted if isinstance(wanted, str) else wanted["name"]
            values.append(backends.secrets.get(name))
    return values
