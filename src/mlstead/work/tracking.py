"""Copies runs, metrics and model versions to MLflow; a copy that can be made again at any time.

What is copied is found by cursors in the records, so nothing is lost when the copying process
dies and little is done twice. A run gets its copy when its first metric arrives, or, when its
program may call MLflow itself, before it starts.
"""

import time
from typing import Any

from mlstead.clients.tracking import NewRun, NewVersion, Tracking, open_tracking
from mlstead.errors import NotFoundError, UnavailableError
from mlstead.records.base import AddPoints, Point, Query, Run, SetCursor, SetRun, State, Version
from mlstead.work import job
from mlstead.work.base import Backends

POINTS = "mlflow:points"
OPEN = "mlflow:open:"
MODEL = "mlflow:model:"
BATCH = 5_000
LINGER_SECONDS = 3.0
MANY = 100_000


def wanted(backends: Backends) -> bool:
    """Say whether there is anything to copy."""
    after = int(backends.store.cursor(POINTS) or 0)
    if backends.store.points(after=after, limit=1):
        return True
    return bool(_waiting(backends)) or bool(_ended(backends)) or bool(_new_models(backends))


def run(backends: Backends) -> None:
    """Copy until nothing has come for a few seconds and no tracked run is open.

    Raises:
        UnavailableError: MLflow does not answer; the jobs that wait for it say so.
    """
    try:
        _run(backends)
    except UnavailableError as error:
        for waiting in _waiting(backends):
            backends.store.commit([SetRun(waiting.id, {"detail": f"{error}; it is tried again"})])
        raise


def _run(backends: Backends) -> None:
    door = open_tracking(backends.tracking)
    last = time.monotonic()
    while time.monotonic() - last < LINGER_SECONDS:
        if _pass(backends, door):
            last = time.monotonic()
        else:
            time.sleep(0.1)


def _pass(backends: Backends, door: Tracking) -> bool:
    busy = False
    for waiting in _waiting(backends):
        _open(backends, door, waiting)
        busy = True
    if _copy_points(backends, door):
        return True  # a copy is closed only once all its points are there
    for run_id in _ended(backends):
        _close(backends, door, backends.store.run(run_id))
        busy = True
    for version in _new_models(backends):
        _register(backends, door, version)
        busy = True
    return busy


def _waiting(backends: Backends) -> list[Run]:
    """List jobs that may not start before their copy is open."""
    driven = backends.store.runs(Query(parent="*", driven=True, kind="job", limit=MANY))
    return [
        run
        for run in driven
        if not run.state.final and not run.request and job.waits_for_tracking(run)
    ]


def _open(backends: Backends, door: Tracking, run: Run) -> str:
    """Give the id of a run's copy; make it if there is none."""
    if run.mlflow:
        return run.mlflow
    parent = ""
    if run.parent:
        parent = _open(backends, door, backends.store.run(run.parent))
    tags = {
        "mlstead.run_id": run.id,
        "mlstead.kind": run.kind,
        "mlstead.key": run.key,
        "mlstead.code": run.code,
        "mlstead.environment": run.environment,
    }
    links = backends.store.links([run.id])
    tags |= {
        f"mlstead.input.{link.slot}": link.ref or link.digest
        for link in links
        if link.direction == "input"
    }
    opened = door.open_run(
        NewRun(
            project=run.project,
            name=run.name if not run.key else f"{run.name}/{run.key}",
            run_id=run.id,
            params=dict(run.params),
            tags={key: value for key, value in tags.items() if value},
            parent=parent,
            started=run.started or run.created,
        )
    )
    was = backends.store.cursor(OPEN + run.id)
    backends.store.commit(
        [
            SetRun(run.id, {"mlflow": opened, **_no_longer_waits(run)}, unless_final=False),
            SetCursor(OPEN + run.id, was, "open"),
        ]
    )
    return opened


def _no_longer_waits(run: Run) -> dict[str, str]:
    return {"detail": ""} if run.state is State.PENDING else {}


def _copy_points(backends: Backends, door: Tracking) -> bool:
    was = backends.store.cursor(POINTS)
    points = backends.store.points(after=int(was or 0), limit=BATCH)
    if not points:
        return False
    by_run: dict[str, list[Point]] = {}
    for point in points:
        by_run.setdefault(point.run_id, []).append(point)
    for run_id, some in by_run.items():
        try:
            run = backends.store.run(run_id)
        except NotFoundError:
            continue
        if run.kind == "job" and run.extra.get("from_mlflow"):
            continue  # they came from there
        door.log_points(_open(backends, door, run), some)
    backends.store.commit([SetCursor(POINTS, was, str(points[-1].number))])
    return True


def _ended(backends: Backends) -> list[str]:
    """Name runs that have ended and whose copy is still open."""
    ended = []
    for name, state in backends.store.cursors(OPEN).items():
        if state == "open":
            run_id = name.removeprefix(OPEN)
            if backends.store.run(run_id).state.final:
                ended.append(run_id)
    return ended


def _close(backends: Backends, door: Tracking, run: Run) -> None:
    """Read back what the program sent to MLflow itself, and end the copy."""
    if run.kind == "job" and run.extra.get("pin", {}).get("tracked"):
        known = {point.key for point in backends.store.points(run.id, limit=MANY)}
        found = door.read_back(run.mlflow, known)
        fresh = tuple(
            Point(run.id, it.key, it.value, it.step, it.time, it.rank) for it in found.points
        )
        changes: list[Any] = [
            SetRun(run.id, {"extra": {**run.extra, "from_mlflow": True}}, unless_final=False)
        ]
        if fresh:
            changes.append(AddPoints(fresh))
        backends.store.commit(changes)
    door.close_run(run.mlflow, str(run.state), run.ended or backends.clock())
    backends.store.commit([SetCursor(OPEN + run.id, "open", "closed")])


def _key(version: Version) -> str:
    return f"{MODEL}{version.project}/{version.name}/{version.number}"


def _new_models(backends: Backends) -> list[Version]:
    """List model versions whose copy is missing, or has other aliases."""
    models = backends.store.versions("", "model")
    if not models:
        return []
    known = backends.store.cursors(MODEL)
    return [version for version in models if known.get(_key(version)) != _mark(version)]


def _mark(version: Version) -> str:
    return "done:" + ",".join(sorted(version.aliases))


def _register(backends: Backends, door: Tracking, version: Version) -> None:
    tags = {
        "mlstead.version": f"{version.name}@{version.number}",
        "mlstead.digest": version.digest,
        "mlstead.project": version.project,
    }
    opened = ""
    if version.run_id:
        run = backends.store.run(version.run_id)
        opened = _open(backends, door, run)
        tags |= {"mlstead.run_id": run.id, "mlstead.code": run.code}
        for link in backends.store.links([run.id]):
            if link.direction == "input":
                tags[f"mlstead.input.{link.slot}"] = link.ref or link.digest
    name = version.name
    if version.project != "default":
        name = f"{version.project}.{name}"  # MLflow's model names are global
    door.register_model(
        NewVersion(
            name=name,
            number=version.number,
            source=f"mlstead:/{version.project}/{version.name}/{version.number}",
            run=opened,
            tags={key: value for key, value in tags.items() if value},
            aliases=version.aliases,
        )
    )
    key = _key(version)
    was = backends.store.cursor(key)
    models = backends.store.versions(version.project, "model", version.name)
    still = {alias for model in models for alias in model.aliases}
    for alias in set(filter(None, was.removeprefix("done:").split(","))) - still:
        door.set_alias(name, alias, 0)
    backends.store.commit([SetCursor(key, was, _mark(version))])
