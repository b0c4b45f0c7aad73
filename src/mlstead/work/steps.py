"""Writes down a pipeline's steps as child runs: conditions, fan-out, inputs from other steps."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlstead.errors import UserError
from mlstead.records.base import Link, Point, Run, State
from mlstead.spec.expressions import expand
from mlstead.spec.record import dump
from mlstead.spec.work import Data, JobBody, JobStep, ServiceStep, Step, SweepStep, When
from mlstead.work.base import Backends, child_id
from mlstead.work.inputs import parts_pin
from mlstead.work.pins import expanded, key_of_environment, pin_data
from mlstead.work.task import resolve

LAST = 1 << 60
Scope = dict[str, Any]
Links = Mapping[str, Sequence[Link]]
Family = Mapping[str, Sequence[Run]]


@dataclasses.dataclass(frozen=True, slots=True)
class Sofar:
    """What a pipeline has come to: its run, its steps' runs by step, and what those left."""

    backends: Backends
    pipeline: Run
    family: Family
    links: Links


def step_name(run: Run) -> str:
    """Give the step a child run belongs to."""
    return run.key.split("[")[0]


def place(run: Run) -> int:
    """Give the index of an instance of a fan-out; one that is no instance comes last."""
    _, found, index = run.key.partition("[")
    return int(index.rstrip("]")) if found else LAST


def scope_of(sofar: Sofar) -> Scope:
    """Gather what expressions of a step may name: params, run, and what steps have left."""
    steps: dict[str, Any] = {}
    for name, runs in sofar.family.items():
        if len(runs) == 1 and "[" not in runs[0].key:
            steps[name] = _left(runs[0], sofar.links)
        else:
            steps[name] = {
                "values": {"all": [dict(run.values) for run in runs]},
                "outputs": {},
            }
    run = {"id": sofar.pipeline.id, "name": sofar.pipeline.name, "project": sofar.pipeline.project}
    return {"params": dict(sofar.pipeline.params), "run": run, "steps": steps}


def _left(run: Run, links: Links) -> dict[str, Any]:
    outputs = {
        link.slot: link.ref or link.digest
        for link in links.get(run.id, ())
        if link.direction == "output"
    }
    return {"values": dict(run.values), "outputs": outputs}


def holds(when: When, scope: Scope) -> bool:
    """Say whether a step's condition holds; all comparisons given must.

    Raises:
        UserError: the values cannot be compared.
    """
    value = expand(when.value, scope)
    tests: dict[str, Callable[[Any], bool]] = {
        "gt": lambda other: value > other,
        "lt": lambda other: value < other,
        "ge": lambda other: value >= other,
        "le": lambda other: value <= other,
        "eq": lambda other: value == other,
        "ne": lambda other: value != other,
        "in_": lambda other: value in other,
    }
    given = [name for name in tests if getattr(when, name) is not None]
    try:
        return all(tests[name](getattr(when, name)) for name in given)
    except TypeError as error:
        raise UserError(f"when: cannot compare {value!r}: {error}") from error


def items_of(step: Step, scope: Scope) -> list[Any] | None:
    """Give the items a step fans out over; None for a step that runs once.

    Raises:
        UserError: the expression does not give a list.
    """
    if step.foreach is None:
        return None
    items = expand(step.foreach, scope)
    if not isinstance(items, list | tuple):
        raise UserError(f"foreach: wants a list, got {items!r}")
    return list(items)


def instances(sofar: Sofar, name: str, step: Step, scope: Scope) -> list[Run]:
    """Write down the instances of a step, none of them started yet."""
    items = items_of(step, scope)
    # once for all: a step that fans out wide is itself long
    spec = as_work(step, name)
    if items is None:
        return [_instance(sofar, name, step, scope, spec)]
    if not items:
        row = bare(sofar.backends, sofar.pipeline, name, step, State.SUCCEEDED)
        return [dataclasses.replace(row, detail="nothing to do")]
    return [
        _instance(sofar, f"{name}[{index}]", step, {**scope, "item": item}, spec)
        for index, item in enumerate(items)
    ]


def bare(backends: Backends, pipeline: Run, key: str, step: Step, state: State) -> Run:
    """Make the run of a step that has nothing to run, such as a skipped one."""
    return _row(backends, pipeline, key, state, as_work(step, key))


def _row(backends: Backends, pipeline: Run, key: str, state: State, spec: Mapping[str, Any]) -> Run:
    now = backends.clock()
    return Run(
        id=child_id(pipeline.id, key, generation(pipeline)),
        project=pipeline.project,
        kind=spec["kind"],
        name=key.split("[")[0],
        engine=pipeline.engine,
        state=state,
        parent=pipeline.id,
        key=key,
        spec=spec,
        created=now,
        ended=now if state.final else None,
    )


RULES = frozenset(
    {"use", "needs", "foreach", "max_parallel", "when", "run_if", "cache", "lifetime"}
)


def as_work(step: Step, name: str) -> dict[str, Any]:
    """Give a step as the record of a work of its own, without the rules of its pipeline."""
    fields = {key: value for key, value in dump(step).items() if key not in RULES}
    return {**fields, "mlstead": 1, "name": fields.get("name") or name}


TAKEN_UP = "taken_up"


def current(parent: Run, child: Run) -> bool:
    """Say whether a child was made, or taken up again, since its parent was taken up last."""
    now = generation(parent)
    if now == 1 or child.extra.get(TAKEN_UP) == now:
        return True
    return child.id == child_id(parent.id, child.key, now)


def outdated(parent: Run, child: Run) -> bool:
    """Say whether a child ended badly before its parent was taken up again: it gets a new try."""
    if not child.state.final or child.state is State.SUCCEEDED:
        return False
    return not current(parent, child)


def ended_before(parent: Run, child: Run) -> bool:
    """Say whether a child is a service that ended with its parent, which was taken up again."""
    if child.kind != "service" or child.extra.get("lifetime") != "pipeline":
        return False
    return child.state.final and not child.extra.get("serving") and not current(parent, child)


def generation(run: Run) -> int:
    """Say how often a run has been taken up again, from 1."""
    return int(run.extra.get("generation", 1))


def _instance(sofar: Sofar, key: str, step: Step, scope: Scope, spec: Mapping[str, Any]) -> Run:
    row = _row(sofar.backends, sofar.pipeline, key, State.PENDING, spec)
    params = expand(dict(step.params), scope)
    pin = sofar.pipeline.extra["pins"][row.name]
    extra: dict[str, Any] = {"pin": pin, "item": scope.get("item")}
    if not isinstance(step, JobStep):
        extra["caller"] = sofar.pipeline.extra.get("caller", {})
    if isinstance(step, ServiceStep):
        extra["versions"] = _models(sofar, step, scope)
        extra["lifetime"] = step.lifetime
        return dataclasses.replace(row, params=params, extra=extra)
    body = step.trial if isinstance(step, SweepStep) else step
    extra["pin"] = {**pin, "data": _inputs(sofar, pin, body, scope)}
    row = dataclasses.replace(
        row,
        params=params,
        code=pin["tree"],
        environment=key_of_environment(pin),
        labels=dict(step.labels),
    )
    if isinstance(step, SweepStep):
        extra["scope"] = {"steps": scope["steps"], "params": scope["params"]}
        return dataclasses.replace(row, extra=extra)
    return dataclasses.replace(row, spec=resolve(step, scope, params, spec), extra=extra)


def _models(sofar: Sofar, step: ServiceStep, scope: Scope) -> dict[str, Any]:
    """Resolve which model each version of a service step means."""
    wanted = {name: version.model for name, version in step.versions.items()}
    if step.model:
        wanted[""] = step.model
    resolved: dict[str, Any] = {}
    for name, model in wanted.items():
        if isinstance(model, str):
            resolved[name] = {"version": expand(model, scope)}
        elif model.step:
            link = _output(_picked(sofar, model), model.output, sofar.links)
            resolved[name] = {"digest": link.digest, "ref": link.ref}
        else:
            resolved[name] = {"version": expand(model.version, scope)}
    return resolved


def _inputs(sofar: Sofar, pin: Mapping[str, Any], body: JobBody, scope: Scope) -> dict[str, Any]:
    """Pin every input of a job: what was pinned at submission, and what steps have left since."""
    inputs = dict(pin["data"])
    for slot, data in body.data.items():
        if data.step:
            inputs[slot] = _from_step(sofar, data)
        elif slot not in inputs:
            folder, project = Path(pin["folder"]), sofar.pipeline.project
            inputs[slot] = pin_data(sofar.backends, expanded(data, scope), folder, project)
    return inputs


def _from_step(sofar: Sofar, data: Data) -> dict[str, Any]:
    runs = sofar.family[data.step]
    if data.pick is None and "[" in runs[0].key:
        parts = [
            {
                "index": place(run),
                "item": run.extra.get("item"),
                "digest": _output(run, data.output, sofar.links).digest,
                "values": dict(run.values),
            }
            for run in runs
            if run.state is State.SUCCEEDED
        ]
        return parts_pin(parts, data.mode)
    link = _output(_picked(sofar, data), data.output, sofar.links)
    return {"digest": link.digest, "ref": link.ref, "kind": link.kind, "mode": data.mode}


def _picked(sofar: Sofar, data: Data) -> Run:
    """Give the one run a data source means: the only one, or the best by a value or metric."""
    runs = [run for run in sofar.family[data.step] if run.state is State.SUCCEEDED]
    if data.pick is None:
        if len(runs) != 1:
            raise UserError(
                f"step {data.step} has {len(runs)} instances; one is wanted",
                hint="add `pick: {by: VALUE, goal: max}`",
            )
        return runs[0]
    by, sign = data.pick.by, 1 if data.pick.goal == "max" else -1
    metrics = sofar.backends.store.latest([run.id for run in runs])
    scored = [(_score(run, by, metrics.get(run.id, {})), run) for run in runs]
    finite = [(score, run) for score, run in scored if math.isfinite(score)]
    if not finite:
        raise UserError(
            f"step {data.step}: no instance has a value or metric {by!r}",
            hint=f'log it, or write {{"{by}": …}} to $MLSTEAD_OUTPUTS/values.json',
        )
    return max(finite, key=lambda pair: sign * pair[0])[1]


def _score(run: Run, by: str, metrics: Mapping[str, Point]) -> float:
    value = run.values.get(by)
    if isinstance(value, int | float):
        return float(value)
    return metrics[by].value if by in metrics else math.nan


def _output(run: Run, slot: str, links: Links) -> Link:
    for link in links.get(run.id, ()):
        if link.direction == "output" and link.slot == slot:
            return link
    raise UserError(f"step {run.key}: left no output {slot!r}")
