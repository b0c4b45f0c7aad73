"""The order between steps: what each needs, and whether that goes round in a circle."""

import graphlib
from collections.abc import Mapping

from mlstead.spec.base import Model
from mlstead.spec.expressions import references
from mlstead.spec.job import Data, JobBody
from mlstead.spec.notebook import Notebook
from mlstead.spec.pipeline import JobStep, ServiceStep, StepRules, SweepStep
from mlstead.spec.problems import Path
from mlstead.spec.service import ServiceBody
from mlstead.spec.sweep import SweepBody

AnyStep = JobStep | SweepStep | ServiceStep


def sources(body: Model) -> dict[Path, Data]:
    """Give every data source of a job, sweep, service or notebook, by the path of its field."""
    if isinstance(body, JobBody | Notebook):
        return {("data", name): data for name, data in body.data.items()}
    if isinstance(body, SweepBody):
        return {("trial", "data", name): data for name, data in body.trial.data.items()}
    found: dict[Path, Data] = {}
    if isinstance(body, ServiceBody):
        if isinstance(body.model, Data):
            found["model",] = body.model
        for name, version in body.versions.items():
            if isinstance(version.model, Data):
                found["versions", name, "model"] = version.model
    return found


def needs_of(step: StepRules) -> frozenset[str]:
    """Give the steps that come before this one: named, read as data, or in an expression."""
    paths = (path.split(".") for path in references(step))
    mentioned = (parts[1] for parts in paths if parts[0] == "steps" and len(parts) > 1)
    read = (data.step for data in sources(step).values() if data.step)
    return frozenset((*step.needs, *mentioned, *read))


def order(steps: Mapping[str, StepRules]) -> tuple[str, ...]:
    """Give the steps so that each comes after all it needs.

    Raises:
        graphlib.CycleError: they need each other; ``cycle`` names them.
    """
    needs = {name: needs_of(step) & steps.keys() for name, step in steps.items()}
    return tuple(graphlib.TopologicalSorter(needs).static_order())


def cycle(steps: Mapping[str, StepRules]) -> tuple[str, ...]:
    """Name the steps of a circle, each before the one it needs; empty if there is none."""
    try:
        order(steps)
    except graphlib.CycleError as error:
        # The sorter names each step before those that need it.
        return tuple(reversed(error.args[1]))
    return ()
