"""What must hold in a pipeline beyond the types of its fields."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from mlstead.spec.base import NAME_PATTERN
from mlstead.spec.check_expressions import Scope, expression_problems, outputs_of
from mlstead.spec.check_job import collisions, job_problems
from mlstead.spec.check_service import service_problems
from mlstead.spec.check_sweep import sweep_problems
from mlstead.spec.graph import AnyStep, cycle, sources
from mlstead.spec.job import Data
from mlstead.spec.pipeline import JobStep, Pipeline, SweepStep, When
from mlstead.spec.problems import Problem, nearest

MOST_STEPS: Final = 1_000
MOST_ITEMS: Final = 10_000
_COMPARISONS = ("gt", "lt", "ge", "le", "eq", "ne", "in_")


def pipeline_problems(pipeline: Pipeline) -> Iterator[Problem]:
    """Check a pipeline, its steps, and the order between them."""
    yield from collisions(pipeline.params)
    total = len(pipeline.steps) + len(pipeline.finally_)
    if total > MOST_STEPS:
        yield Problem(("steps",), f"{total:,} steps; at most {MOST_STEPS:,}", at_key=True)
    yield from expression_problems(pipeline.params, Scope(), ("params",))
    both = {**pipeline.steps, **pipeline.finally_}
    for name in pipeline.finally_.keys() & pipeline.steps.keys():
        yield Problem(("finally", name), f"{name} stands in steps too", at_key=True)
    for field, steps, visible in (
        ("steps", pipeline.steps, pipeline.steps),
        ("finally", pipeline.finally_, both),
    ):
        for name, step in steps.items():
            found = _step_problems(step, pipeline, visible)
            yield from (it.under((field, name)) for it in found)
            yield from (it.under((field, name)) for it in _need_problems(step, steps))
        round_trip = cycle(steps)
        if round_trip:
            message = "a cycle: " + " needs ".join(round_trip)
            yield Problem((field, round_trip[0]), message, at_key=True)


def _step_problems(
    step: AnyStep, pipeline: Pipeline, visible: Mapping[str, AnyStep]
) -> Iterator[Problem]:
    yield from _body_problems(step)
    yield from expression_problems(step, _scope(step, pipeline, visible))
    for path, data in sources(step).items():
        if data.step:
            yield from (it.under(path) for it in _source_problems(data, visible))
    if isinstance(step.foreach, tuple):
        if not step.foreach:
            yield Problem(("foreach",), "is empty: there is nothing to run")
        if len(step.foreach) > MOST_ITEMS:
            message = f"{len(step.foreach):,} items; at most {MOST_ITEMS:,}"
            yield Problem(("foreach",), message)
    elif step.foreach is not None and "${{" not in step.foreach:
        yield Problem(("foreach",), "must be a list, or one expression and nothing else")
    if step.max_parallel is not None and step.foreach is None:
        yield Problem(("max_parallel",), "is only for a step with foreach")
    if step.when is not None:
        yield from _when_problems(step.when)


def _body_problems(step: AnyStep) -> Iterator[Problem]:
    if isinstance(step, JobStep):
        yield from job_problems(step)
    elif isinstance(step, SweepStep):
        yield from sweep_problems(step)
    else:
        yield from service_problems(step)
        if step.cache:
            yield Problem(("cache",), "a service cannot be cached")
        if step.name and "${{" not in step.name and not re.fullmatch(NAME_PATTERN, step.name):
            yield Problem(("name",), f"{step.name!r} is not a name")


def _scope(step: AnyStep, pipeline: Pipeline, visible: Mapping[str, AnyStep]) -> Scope:
    outer = frozenset(pipeline.params)
    inner = outer.union(step.params)
    if isinstance(step, SweepStep):
        inner = inner.union(step.trial.params)
    many = step.foreach is not None
    return Scope(inner, outer, visible, item=many, trial=isinstance(step, SweepStep))


def _source_problems(data: Data, visible: Mapping[str, AnyStep]) -> Iterator[Problem]:
    if data.step not in visible:
        hint = nearest(data.step, visible)
        yield Problem(("step",), f"there is no step {data.step}", hint)
        return
    source = visible[data.step]
    known = outputs_of(source)
    if data.output and "${{" not in data.output and data.output not in known:
        message = f"step {data.step} has no output {data.output}"
        yield Problem(("output",), message, nearest(data.output, known))
    if data.pick and source.foreach is None:
        yield Problem(("pick",), f"step {data.step} has no foreach to pick from", at_key=True)


def _need_problems(step: AnyStep, steps: Mapping[str, AnyStep]) -> Iterator[Problem]:
    for index, need in enumerate(step.needs):
        if need not in steps:
            hint = nearest(need, steps)
            yield Problem(("needs", index), f"there is no step {need}", hint)


def _when_problems(when: When) -> Iterator[Problem]:
    given = [name.strip("_") for name in _COMPARISONS if getattr(when, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        message = f"needs exactly one of gt, lt, ge, le, eq, ne, in; found {found}"
        yield Problem(("when",), message)
