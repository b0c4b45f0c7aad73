"""What must hold in a work file beyond the types of its fields."""

from collections.abc import Iterator

from mlstead.spec.check_expressions import Scope, expression_problems
from mlstead.spec.check_job import data_problems, job_problems
from mlstead.spec.check_pipeline import pipeline_problems
from mlstead.spec.check_service import service_problems
from mlstead.spec.check_sweep import sweep_problems
from mlstead.spec.graph import sources
from mlstead.spec.problems import Problem, line, spec_error
from mlstead.spec.work import Job, Notebook, Pipeline, Service, Sweep, Work


def problems(work: Work) -> list[Problem]:
    """Find everything in a work that cannot be right, in no order."""
    return list(_pipeline_or_one(work))


def verify(work: Work) -> None:
    """Check a work that was made in Python; files are checked when they are loaded.

    Raises:
        SpecError: something in it cannot be right; one line for each problem.
    """
    found = problems(work)
    if found:
        raise spec_error([line(work.name, it.path, it.message, it.hint) for it in found])


def _pipeline_or_one(work: Work) -> Iterator[Problem]:
    if isinstance(work, Pipeline):
        yield from pipeline_problems(work)
        return
    for path, data in sources(work).items():
        if data.step:
            yield Problem((*path, "step"), "is only known in a pipeline", at_key=True)
    if isinstance(work, Job):
        yield from job_problems(work)
        yield from expression_problems(work, Scope(frozenset(work.params)))
    elif isinstance(work, Sweep):
        yield from sweep_problems(work)
        names = frozenset((*work.params, *work.trial.params))
        yield from expression_problems(work, Scope(names, trial=True))
    elif isinstance(work, Service):
        yield from service_problems(work)
        yield from expression_problems(work, Scope(frozenset(work.params)))
    else:
        yield from _notebook_problems(work)


def _notebook_problems(notebook: Notebook) -> Iterator[Problem]:
    for name, data in notebook.data.items():
        yield from (it.under(("data", name)) for it in data_problems(data))
    yield from expression_problems(notebook, Scope())
