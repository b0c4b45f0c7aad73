"""Drives a job: drafts its run, sends it, and keeps what it leaves."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlstead.engines.base import Submission
from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.records.base import (
    AddEvents,
    AddLinks,
    Change,
    Event,
    Lease,
    Link,
    Run,
    SetRun,
    State,
)
from mlstead.work import outputs, unreleased
from mlstead.work.base import Backends
from mlstead.work.caller import as_submitted
from mlstead.work.ending import ending, messages
from mlstead.work.later import told
from mlstead.work.task import task_of

TRIES = 8


def waits_for_tracking(run: Run) -> bool:
    """Say whether a job's copy in MLflow must be open before the job may start."""
    return bool(run.extra["pin"].get("tracked")) and not run.mlflow


def prepared(backends: Backends, run: Run) -> Run:
    """Fill in the engine's request; the run is then ready to be recorded and sent."""
    submission = backends.engine.prepare(task_of(backends, run), backends.facts)
    return dataclasses.replace(run, request=submission.request, state=State.QUEUED)


def input_links(run: Run) -> list[Change]:
    """List what a job reads, for the records."""
    links = tuple(
        Link(run.id, "input", slot, data["kind"], data["digest"], data["ref"])
        for slot, data in run.extra["pin"]["data"].items()
        if "parts" not in data
    )
    return [AddLinks(links)] if links else []


def send(backends: Backends, runs: Sequence[Run]) -> list[Run]:
    """Send recorded runs to the engine; sending one again changes nothing.

    A run whose secret has been removed since ends as failed: no driver can ever send it. Those
    are given, as they are now: no event will tell of their end.
    """
    values: dict[str, str] = {}
    submissions = []
    given_up = []
    for run in runs:
        wanted = run.spec["secrets"].values()
        try:
            for name in (one if isinstance(one, str) else one["name"] for one in wanted):
                values[name] = backends.secrets.get(name)
        except NotFoundError as error:
            detail = {"detail": f"secrets: {error}"}
            backends.store.commit(ending(run, State.FAILED, backends.clock(), detail))
            given_up.append(backends.store.run(run.id))
            continue
        submissions.append(Submission(run.id, run.engine, run.request))
    try:
        backends.engine.submit(submissions, values)
    except UserError:
        given_up += _send_each(backends, submissions, values)
    return given_up


def _send_each(
    backends: Backends, submissions: Sequence[Submission], values: Mapping[str, str]
) -> list[Run]:
    """Send one by one, and end what the engine refuses; give those runs.

    Raises:
        UserError: there is only one, and it is refused; its run has ended.
    """
    given_up = []
    for submission in submissions:
        try:
            backends.engine.submit([submission], values)
        except UserError as error:
            run = backends.store.run(submission.task_id)
            with contextlib.suppress(ConflictError):
                fields = {"detail": told(error)}
                backends.store.commit(ending(run, State.FAILED, backends.clock(), fields))
            if len(submissions) == 1:
                raise
            given_up.append(backends.store.run(run.id))
    return given_up


def start(backends: Backends, run: Run, lease: Lease | None) -> Run:
    """Start a job that was recorded but not sent."""
    return begin(backends, prepared(backends, run), lease)


def begin(backends: Backends, run: Run, lease: Lease | None) -> Run:
    """Send a job that was recorded before it was made ready; give it as it is then."""
    now = backends.clock()
    backends.store.commit(
        [
            SetRun(run.id, {"request": run.request, "state": State.QUEUED, "detail": ""}),
            AddEvents((Event(run.id, "submitted", now),)),
            *input_links(run),
            *messages(run, "started", now),
        ],
        lease=lease,
    )
    return next(iter(send(backends, [run])), run)


def resend(backends: Backends, runs: Sequence[Run]) -> list[Run]:
    """Send again what a crash may have kept from the engine; give those that were given up."""
    missing = []
    for run in runs:
        try:
            backends.engine.status(run.id)
        except NotFoundError:
            missing.append(run)
    return send(backends, missing) if missing else []


def finish(backends: Backends, run: Run, lease: Lease | None = None) -> Run:
    """Keep the outputs of a program that has ended, and end its run, in one commit."""
    folder = Path(backends.engine.outputs(run.id))
    state = State(run.status["phase"])
    good, undone = state is State.SUCCEEDED, False
    fields: dict[str, Any] = {"values": outputs.read_values(folder)}
    for attempt in range(TRIES):
        now = backends.clock()
        try:
            changes = outputs.keep(backends, run, folder, partial=not good, now=now)
            unreleased.note(backends, run.id)
        except UserError as error:
            # it can never be kept: to try for ever would keep the driver from all other runs
            changes, state, undone = [], State.FAILED if good else state, True
            detail = run.detail or f"{told(error)}; what it wrote is still in {folder.parent}"
            fields |= {"detail": detail, "reason": run.reason or "error"}
            unreleased.drop(backends, run.id)
        when = float(run.status.get("ended") or now)
        changes += ending(run, state, when, fields)
        try:
            backends.store.commit(changes, lease=lease)
            if not undone:
                backends.engine.release(run.id)
                unreleased.drop(backends, run.id)
            break
        except ConflictError:
            # another run took the version number, or another process ended this run
            current = backends.store.run(run.id)
            if current.state.final:
                unreleased.drop(backends, run.id)  # whoever ended it knows what must stay
                return current
            if attempt == TRIES - 1:
                raise
    return backends.store.run(run.id)


def advance(backends: Backends, run: Run, lease: Lease | None) -> None:
    """Do what a job needs of its driver: its start, once its copy in MLflow is open, or its end."""
    if run.state is State.FINISHING:
        finish(backends, run, lease)
    elif run.stop:
        backends.store.commit(ending(run, State.CANCELLED, backends.clock()), lease=lease)
    elif not waits_for_tracking(run):
        owner = backends.store.run(run.parent) if run.parent else run
        start(as_submitted(backends, owner), run, lease)
