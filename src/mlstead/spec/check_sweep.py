"""What must hold in a sweep beyond the types of its fields."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlstead.spec.check_job import collisions, job_problems
from mlstead.spec.problems import Problem, nearest
from mlstead.spec.sweep import Search, Space, SweepBody

MOST_POINTS: Final = 100_000
"""Points of a grid."""


def sweep_problems(sweep: SweepBody) -> Iterator[Problem]:
    """Check one sweep, and the job it tries."""
    yield from (it.under(("trial",)) for it in job_problems(sweep.trial))
    params = {**sweep.trial.params, **sweep.params}
    if not set(sweep.params) <= set(sweep.trial.params):
        yield from collisions(params)
    yield from (it.under(("search",)) for it in _search_problems(sweep.search, params))
    if sweep.search.points:
        return
    method = sweep.search.method
    if sweep.metric is None and (method in ("tpe", "cmaes") or sweep.prune is not None):
        by = method if method in ("tpe", "cmaes") else "prune"
        yield Problem(("metric",), f"is required: {by} goes by it")
    if sweep.trials is None and method != "grid":
        yield Problem(("trials",), f"is required: {method} has no end of its own")


def _search_problems(search: Search, params: Mapping[str, object]) -> Iterator[Problem]:
    if bool(search.space) == bool(search.points):
        if search.space:
            yield Problem(("points",), "stands beside space; only one of them", at_key=True)
        else:
            yield Problem(("space",), "is empty: there is nothing to search")
    for index, point in enumerate(search.points):
        if not point:
            yield Problem(("points", index), "is empty")
        for name in point:
            yield from _param_problems(("points", index, name), name, params)
    for name, space in search.space.items():
        yield from _param_problems(("space", name), name, params)
        yield from (it.under(("space", name)) for it in _space_problems(space, search.method))
    if search.method == "grid" and search.space:
        size = math.prod(_width(space) for space in search.space.values())
        if math.isfinite(size) and size > MOST_POINTS:
            yield Problem(("space",), f"a grid of {size:,} points; at most {MOST_POINTS:,}")


def _param_problems(
    path: tuple[str | int, ...], name: str, params: Mapping[str, object]
) -> Iterator[Problem]:
    if name not in params:
        hint = nearest(name, params) or "add it to trial.params"
        yield Problem(path, f"{name} is not a param of the trial", hint, at_key=True)


def _space_problems(space: Space, method: str) -> Iterator[Problem]:
    kinds = {"float": space.float_, "int": space.int_, "choice": space.choice}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        yield Problem((), f"needs exactly one of float, int, choice; found {found}")
        return
    if space.choice is not None:
        yield from _choice_problems(space, method)
        return
    low, high = space.float_ or space.int_ or (0, 0)
    if low > high:
        yield Problem((given[0],), f"the lowest, {low}, is more than the highest, {high}")
    if space.log and low <= 0:
        yield Problem((given[0],), f"log needs a lowest above 0; found {low}")
    if space.log and space.step is not None:
        yield Problem(("step",), "cannot stand beside log")
    yield from _step_problems(space, method)


def _step_problems(space: Space, method: str) -> Iterator[Problem]:
    if space.int_ and space.step is not None and space.step != int(space.step):
        yield Problem(("step",), "must be a whole number for int")
    if method == "grid" and space.float_ and space.step is None and not space.log:
        hint = "add step, or use choice"
        yield Problem((), "a grid of floats without step has no end", hint)
    if method == "grid" and space.log:
        hint = "use choice"
        yield Problem(("log",), "a grid cannot be searched by order of magnitude", hint)


def _choice_problems(space: Space, method: str) -> Iterator[Problem]:
    choice: tuple[Any, ...] = space.choice or ()
    if not choice:
        yield Problem(("choice",), "is empty: there is nothing to choose")
    for name in ("log", "step"):
        if getattr(space, name):
            yield Problem((name,), "is only for float and int")
    if method == "cmaes":
        hint = "use float or int, or method tpe"
        yield Problem(("choice",), "cmaes searches numbers only", hint)


def _width(space: Space) -> float:
    """Count the values of a space; infinite where they cannot be counted."""
    if space.choice is not None:
        return len(space.choice)
    low, high = space.float_ or space.int_ or (0, 0)
    step = space.step or (1 if space.int_ else 0)
    return math.floor((high - low) / step + 1e-9) + 1 if step and high >= low else math.inf
