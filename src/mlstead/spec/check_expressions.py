"""Where expressions may stand, and whether what they name is there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mlstead.spec.expressions import (
    command_problems,
    expressions,
    is_path,
    syntax_problems,
    texts,
    whole,
)
from mlstead.spec.graph import AnyStep
from mlstead.spec.job import JobBody
from mlstead.spec.pipeline import JobStep, ServiceStep, StepRules, SweepStep
from mlstead.spec.problems import Path, Problem, nearest

ALLOWED: Final = "command, env, params, data, names of outputs, image, when, foreach"
_FIELDS = frozenset(
    {"command", "env", "params", "data", "image", "when", "foreach", "model", "versions"}
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions at some place may name.

    Attributes:
        params: the parameters that are known there.
        outer: the parameters that the values of ``params`` themselves may name.
        steps: the steps whose outputs may be named; None outside a pipeline.
        item: whether it stands in a foreach.
        trial: whether it stands in the trial of a sweep.
    """

    params: frozenset[str] = frozenset()
    outer: frozenset[str] = frozenset()
    steps: Mapping[str, AnyStep] | None = None
    item: bool = False
    trial: bool = False


def expression_problems(body: object, scope: Scope, at: Path = ()) -> Iterator[Problem]:
    """Check every expression of a body: a job, a sweep, a service, as work or as a step.

    Args:
        body: the body, or the part of it that stands at the path ``at``.
        scope: what its expressions may name.
        at: the path from the body to what is given.
    """
    for path, text in texts(body, at):
        yield from (it.under(path) for it in _text_problems(path, text, scope))


def _text_problems(path: Path, text: str, scope: Scope) -> Iterator[Problem]:
    yield from syntax_problems(text)
    found = list(expressions(text))
    if not found:
        return
    inner = path[1:] if path[0] == "trial" else path
    if not _allowed(inner):
        message = "an expression cannot stand here"
        yield Problem((), message, f"only in {ALLOWED}")
        return
    yield from _path_problems(inner, text, _narrow(path, scope))
    if inner == ("command",):
        yield from command_problems(text)
    if inner == ("foreach",) and not whole(text):
        yield Problem((), "must be a list, or one expression and nothing else")


def _allowed(path: Path) -> bool:
    if path[0] == "outputs":
        return len(path) > 2 and path[2] in ("name", "alias")
    return path[0] in _FIELDS


def _narrow(path: Path, scope: Scope) -> Scope:
    """Give what a field of the body may name: less than its neighbours, for some."""
    if path[0] == "params":
        return replace(scope, params=scope.outer, trial=False)
    if path[0] in ("foreach", "when"):
        return replace(scope, params=scope.outer, item=False, trial=False)
    if path[:2] == ("trial", "params"):
        return replace(scope, params=scope.outer)
    return scope if path[0] == "trial" else replace(scope, trial=False)


def _path_problems(inner: Path, text: str, scope: Scope) -> Iterator[Problem]:
    for nth, it in enumerate(expressions(text)):
        snippet = text[it.start : it.end]
        before = text[: it.start].count(snippet) if nth else 0
        told = _unknown(it.path, inner, scope) if is_path(it.path) else None
        if told:
            yield Problem((), told[0], told[1], snippet, before)


def _unknown(path: str, inner: Path, scope: Scope) -> tuple[str, str] | None:
    """Say what an expression names that is not there, with a hint; None if all is well."""
    root, _, rest = path.partition(".")
    if root == "params" and rest not in scope.params:
        if inner[0] == "params" and not scope.params:
            return f"{path}: params cannot be made of params here", ""
        return f"{path}: there is no param {rest}", nearest(rest, scope.params)
    if root == "item" and not scope.item:
        return f"{path}: is only known in a step with foreach", ""
    if root == "trial" and not scope.trial:
        return f"{path}: is only known in the trial of a sweep", ""
    if root == "steps":
        return _unknown_step(path, rest, scope)
    return None


def _unknown_step(path: str, rest: str, scope: Scope) -> tuple[str, str] | None:
    if scope.steps is None:
        return f"{path}: is only known in a pipeline", ""
    name, kind, output = rest.split(".")
    if name not in scope.steps:
        return f"{path}: there is no step {name}", nearest(name, scope.steps)
    step = scope.steps[name]
    if step.foreach is not None and (kind, output) == ("values", "all"):
        return None
    if step.foreach is not None:
        return f"{path}: step {name} has many outputs", "read them by data, with or without pick"
    known = outputs_of(step) if kind == "outputs" else values_of(step)
    if known is None or output in known:
        return None
    return f"{path}: step {name} has no {kind[:-1]} {output}", nearest(output, known)


def outputs_of(step: StepRules) -> frozenset[str]:
    """Name the outputs of a step: those it declares, and the rest as ``files``."""
    if isinstance(step, JobStep):
        return frozenset({*step.outputs, "files"})
    if isinstance(step, SweepStep):
        return frozenset({*step.trial.outputs, "files", "trials"})
    return frozenset()


def values_of(step: StepRules) -> frozenset[str] | None:
    """Name the small values of a step; None if they are not known before it runs."""
    if isinstance(step, ServiceStep):
        return frozenset({"url", "version"})
    if isinstance(step, JobBody):
        found = (name for name, output in step.outputs.items() if output.kind == "value")
        return frozenset(found)
    return None
