"""The cache of steps: equal steps are computed once, by whoever comes first."""

import dataclasses

from mlstead.engines.base import Phase
from mlstead.errors import NotFoundError
from mlstead.records.base import (
    AddCache,
    AddEvents,
    AddLinks,
    CacheEntry,
    Change,
    Event,
    Query,
    Run,
    SetRun,
    State,
)
from mlstead.spec.work import CacheRule, JobStep, Step
from mlstead.work.base import Backends
from mlstead.work.task import cache_key

KEY = "cache_key"
_AT_WORK = (State.QUEUED, State.STARTING, State.RUNNING, State.FINISHING)
_BUSY = (Phase.STARTING, Phase.RUNNING)


def marked(row: Run, step: Step) -> Run:
    """Write the key of a step that may be answered from the cache on its row."""
    if row.kind != "job" or not isinstance(step, JobStep) or step.cache is False:
        return row
    return dataclasses.replace(row, extra={**row.extra, KEY: cache_key(row, _rule(step).key_extra)})


def _rule(step: Step) -> CacheRule:
    rule = getattr(step, "cache", None)
    return rule if isinstance(rule, CacheRule) else CacheRule()


def hit(backends: Backends, row: Run, step: Step) -> Run | None:
    """Answer a marked row from the cache; None if nothing there does."""
    entry = backends.store.cache(row.extra[KEY])
    ttl = _rule(step).ttl
    if entry is None or (ttl is not None and backends.clock() - entry.created > ttl):
        return None
    try:
        source = backends.store.run(entry.run_id)
    except NotFoundError:
        return None
    return answered(row, source, backends.clock())


def taken(backends: Backends, row: Run, other: str) -> Run | None:
    """Answer a row that waited by the run it waited for, though nobody remembered that one."""
    try:
        source = backends.store.run(other)
    except NotFoundError:
        return None
    good = source.state is State.SUCCEEDED
    return answered(row, source, backends.clock()) if good else None


def answered(row: Run, source: Run, now: float) -> Run:
    """Let a run that succeeded stand for an equal one."""
    return dataclasses.replace(
        row,
        state=State.SUCCEEDED,
        ended=now,
        started=now,
        cached=source.id,
        values=source.values,
        detail=f"from {source.id}",
    )


def at_work(backends: Backends, pipeline: Run) -> dict[str, Run]:
    """Give the runs that may leave soon what the cache lacks, by its key.

    One that computes already is preferred to one that only waits for its place.
    """
    query = Query(project=pipeline.project, kind="job", parent="*", states=_AT_WORK, limit=0)
    found = [run for run in backends.store.runs(query) if KEY in run.extra]
    found.sort(key=lambda run: (_begun(run), run.parent == pipeline.id))
    return {str(run.extra[KEY]): run for run in found}


def worth_waiting(backends: Backends, run: Run, pipeline: Run) -> bool:
    """Say whether a step may wait for the result of an equal run.

    Not for one of another pipeline that itself waits for a place: it may want more than the step
    does, resources are not part of the key, and then the step could have ended long before.
    """
    if run.parent == pipeline.id or _begun(run):
        return True
    try:  # the engine knows of a start before the records do
        return backends.engine.status(run.id).phase in _BUSY
    except NotFoundError:
        return False


def _begun(run: Run) -> bool:
    """Say whether a run has its place; STARTING without a request waits for its copy in MLflow."""
    return run.state is not State.QUEUED and bool(run.request)


def copied_links(backends: Backends, row: Run) -> list[Change]:
    """List what gives an answered row the outputs of the run that stands for it."""
    links = backends.store.links([row.cached])
    copies = tuple(
        dataclasses.replace(link, run_id=row.id) for link in links if link.direction == "output"
    )
    return [AddLinks(copies)] if copies else []


def settled(backends: Backends, row: Run) -> list[Change]:
    """List the changes that end a row that was written down before it was answered."""
    names = ("state", "ended", "started", "cached", "values", "detail")
    return [
        SetRun(row.id, {name: getattr(row, name) for name in names}),
        AddEvents((Event(row.id, str(row.state), row.ended or 0.0),)),
        *copied_links(backends, row),
    ]


def remembered(child: Run, step: Step, now: float) -> list[Change]:
    """List what lets the outputs of a step that succeeded answer for equal steps to come."""
    if child.cached or KEY not in child.extra:
        return []
    ttl = _rule(step).ttl
    stale = now - ttl if ttl is not None else 0.0  # one past its time is replaced
    return [AddCache(CacheEntry(child.extra[KEY], child.id, now), stale)]
