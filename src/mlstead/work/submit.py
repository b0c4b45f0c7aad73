"""Turns a work file into a run that can be recorded: everything it depends on is pinned first."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlstead.errors import UserError
from mlstead.records.base import AddEvents, AddRun, Change, Event, Run, State, new_id
from mlstead.spec.expressions import expand
from mlstead.spec.record import dump
from mlstead.spec.work import Job, JobBody, Pipeline, Service, Sweep, SweepStep, Work
from mlstead.work import caller, job, service_models
from mlstead.work.base import Backends
from mlstead.work.ending import messages
from mlstead.work.pins import Pin, check_notify, key_of_environment, pin_body
from mlstead.work.task import resolve, task_of

_OF_FIELD = re.compile(r"[a-z_]+(\.[A-Za-z0-9_.-]+)?: ")


def draft(backends: Backends, work: Work, folder: Path, project: str, *, wait: bool = False) -> Run:
    """Make the run of a work file; nothing is recorded or sent yet.

    With ``wait`` a task that no host is large enough for waits instead of being refused.

    Raises:
        UserError: a file, version or secret is missing, or the engine cannot do what is asked.
    """
    run_id = new_id(work.name)
    about = {"id": run_id, "name": work.name, "project": project}
    # params may name the run, and ``$${{`` in them is a literal: expanded once, here
    params = expand(dict(getattr(work, "params", {})), {"run": about})
    scope = {"params": params, "run": about}
    run = Run(
        id=run_id,
        extra={"caller": caller.told(backends)},
        project=project,
        kind=work.kind,
        name=work.name,
        engine=backends.engine.name,
        state=State.QUEUED,
        spec=dump(work),
        params=scope["params"],
        labels=dict(getattr(work, "labels", {})),
        created=backends.clock(),
    )
    if isinstance(work, Job):
        return _job(backends, run, work, folder, scope, wait=wait)
    if isinstance(work, Sweep):
        if work.prune is not None:
            raise UserError(f"prune: not supported by engine {backends.engine.name} yet")
        check_notify(backends, work.notify)
        pin = pin_body(backends, work.trial, folder, project, scope, wait=wait)
        _try(backends, run, work.trial, pin)
        return _with_code(_keeping(run, [pin], pin=pin), pin)
    if isinstance(work, Pipeline):
        check_notify(backends, work.notify)
        pins = _pins(backends, work, folder, run, scope, wait=wait)
        return _keeping(run, pins.values(), pins=pins)
    if isinstance(work, Service):
        service_models.refuse_unsupported(backends, work)
        pin = pin_body(backends, work, folder, project, scope, wait=wait)
        service_models.refuse_environment(work, pin["environment"])
        named = service_models.named(work, scope)
        # what is not there is told now
        service_models.resolve_versions(backends, project, work, named)
        return _with_code(_keeping(run, [pin], pin=pin, versions=named), pin)
    raise UserError(f"kind {work.kind}: not supported by engine {backends.engine.name} yet")


def _job(
    backends: Backends, run: Run, work: Job, folder: Path, scope: Mapping[str, Any], *, wait: bool
) -> Run:
    pin = pin_body(backends, work, folder, run.project, scope, wait=wait)
    spec = resolve(work, scope, run.params)
    run = dataclasses.replace(_keeping(run, [pin], pin=pin), spec=spec, state=State.PENDING)
    run = _with_code(run, pin)
    ready = job.prepared(backends, run)  # also when it must wait: what cannot run is refused now
    if job.waits_for_tracking(run):
        return run
    # its request holds all that was the caller's
    return dataclasses.replace(ready, extra={k: v for k, v in run.extra.items() if k != "caller"})


def _keeping(run: Run, all_pins: Iterable[Pin], **more: Any) -> Run:
    """Keep pins with a run; where one has no Python of its own, also what the caller's holds."""
    bare = any(pin["called_from"] for pin in all_pins)
    installed = {"packages": caller.packages()} if bare else {}
    return dataclasses.replace(run, extra={**run.extra, **installed, **more})


def _with_code(run: Run, pin: Pin) -> Run:
    return dataclasses.replace(run, code=pin["tree"], environment=key_of_environment(pin))


def _pins(
    backends: Backends,
    work: Pipeline,
    folder: Path,
    run: Run,
    scope: Mapping[str, Any],
    *,
    wait: bool,
) -> dict[str, Pin]:
    """Pin every step: the code folder of each is looked at once, however many steps share it."""
    pins: dict[str, Pin] = {}
    for name, step in {**work.steps, **work.finally_}.items():
        if isinstance(step, SweepStep) and step.prune is not None:
            raise UserError(
                f"steps.{name}.prune: not supported by engine {backends.engine.name} yet"
            )
        body = step.trial if isinstance(step, SweepStep) else step
        try:
            pins[name] = pin_body(backends, body, folder, run.project, scope, wait=wait)
            if isinstance(body, JobBody):
                _try(backends, run, body, pins[name])
            else:
                service_models.refuse_unsupported(backends, body)
                service_models.refuse_environment(body, pins[name]["environment"])
                service_models.check_models(backends, run.project, body, _made(work))
        except UserError as error:
            between = "." if _OF_FIELD.match(str(error)) else ": "
            raise type(error)(f"steps.{name}{between}{error}", hint=error.hint) from error
    return pins


def _made(work: Pipeline) -> set[str]:
    """Name the models that steps of a pipeline make: they need not be there before it runs."""
    bodies = [getattr(step, "trial", step) for step in work.steps.values()]
    return {it.name for body in bodies for it in getattr(body, "outputs", {}).values()}


def _try(backends: Backends, run: Run, body: JobBody, pin: Pin) -> None:
    """Let the engine refuse now what it could else only refuse in the middle of the work."""
    spec = {**dump(body), "command": ["true"], "env": {}, "params": {}, "secrets": {}}
    trial = dataclasses.replace(
        run, spec=spec, params={}, extra={"pin": {**pin, "data": {}, "tracked": False}}
    )
    backends.engine.prepare(task_of(backends, trial), backends.facts)


def record(backends: Backends, run: Run) -> None:
    """Write a drafted run down; ConflictError if its token has a run already."""
    now = backends.clock()
    changes: list[Change] = [AddRun(run), AddEvents((Event(run.id, str(run.state), now),))]
    if run.kind == "job":
        changes += job.input_links(run)
    changes += messages(run, "started", now)
    backends.store.commit(changes)
    if run.code:
        backends.code.pin(run.code, f"refs/runs/{run.id}")
    for pin in run.extra.get("pins", {}).values():
        if pin["tree"]:
            backends.code.pin(pin["tree"], f"refs/runs/{run.id}")


def send(backends: Backends, run: Run) -> None:
    """Send a recorded job to the engine; other kinds are sent by their driver."""
    if run.kind == "job" and run.state is State.QUEUED:
        job.send(backends, [run])
