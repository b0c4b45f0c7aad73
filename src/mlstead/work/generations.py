"""The generations of a service: which one serves, which changes are open, how they end.

A service is a named thing of a project. Each change of it is a run, and that run's task is the
server. At most one generation of a name serves. Nothing here loads the models of work files.
"""

import contextlib
import dataclasses
from pathlib import Path

from mlstead.errors import NotFoundError
from mlstead.records.base import AddEvents, Event, Query, Run, SetRun, State
from mlstead.work.base import Backends

STOPPED = "service-stopped"
"""The event of a service that a person has taken away."""


def name_of(run: Run) -> str:
    """Give the name of the service that a run changes."""
    return str(run.spec.get("name") or run.name)


def folder_of(backends: Backends, run: Run) -> Path:
    """Give the folder of one generation: its configuration, and the mark that it is ready."""
    return backends.home / "services" / run.project / run.id


def serves(run: Run) -> bool:
    """Say whether a run's generation is the one that serves."""
    return bool(run.extra.get("serving"))


def current(backends: Backends, project: str, name: str) -> Run | None:
    """Give the run whose generation serves now; None if nothing does."""
    query = Query(project=project, kind="service", name=name, parent="*", limit=1000)
    return next((run for run in backends.store.runs(query) if serves(run)), None)


def newest(backends: Backends, project: str, name: str) -> Run | None:
    """Give the generation that serves, else the newest change there was; None without any."""
    query = Query(project=project, kind="service", name=name, parent="*", limit=1)
    return current(backends, project, name) or next(iter(backends.store.runs(query)), None)


def serving(backends: Backends, project: str = "") -> list[Run]:
    """List the runs whose generation serves now, by name; of every project without one."""
    runs = backends.store.runs(Query(project=project, kind="service", parent="*", limit=10_000))
    return sorted((run for run in runs if serves(run)), key=lambda run: run.name)


def changes(backends: Backends, project: str, name: str) -> list[Run]:
    """List the changes of a service that have not ended, oldest first.

    A step that its pipeline has not started yet is none.
    """
    query = Query(project=project, kind="service", parent="*", open=True, limit=0)
    return sorted(
        (
            run
            for run in backends.store.runs(query)
            if name_of(run) == name and not (run.parent and run.state is State.PENDING)
        ),
        key=lambda run: run.number,
    )


def retire(backends: Backends, run: Run) -> None:
    """End a generation; twice changes nothing."""
    with contextlib.suppress(NotFoundError):
        backends.engine.cancel(run.id)
    extra = {**run.extra, "serving": False}
    backends.store.commit([SetRun(run.id, {"extra": extra}, unless_final=False)])


def stop(backends: Backends, project: str, name: str) -> Run:
    """Take a service away, with every change of it that is under way.

    Raises:
        NotFoundError: nothing of that name serves or is about to.
    """
    store, now = backends.store, backends.clock()
    opened = changes(backends, project, name)
    for run in opened:
        event = Event(run.id, STOPPED, now)
        store.commit([SetRun(run.id, {"stop": True}), AddEvents((event,))])
    # looked at only now: a change that was quicker than its stop serves by now
    ended = [run for run in serving(backends, project) if run.name == name]
    for run in ended:
        retire(backends, run)
        store.commit([AddEvents((Event(run.id, STOPPED, now),))])
    if ended:
        extra = {**ended[0].extra, "serving": False}
        return dataclasses.replace(ended[0], extra=extra, stop=True)
    if opened:
        return store.run(opened[-1].id)
    known = ", ".join(run.name for run in serving(backends, project))
    raise NotFoundError(f"no service {name} runs", hint=f"running: {known or 'none'}")
