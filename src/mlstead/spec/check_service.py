"""What must hold in a service beyond the types of its fields."""

from collections.abc import Iterator

from mlstead.spec.check_job import VERSION, collisions, data_problems, python_problems
from mlstead.spec.job import Data
from mlstead.spec.problems import Path, Problem, nearest
from mlstead.spec.service import Rollout, ServiceBody


def service_problems(service: ServiceBody) -> Iterator[Problem]:
    """Check one service: its models, traffic, rollout and replicas."""
    yield from collisions(service.params)
    yield from python_problems(service.python)
    if bool(service.model) == bool(service.versions):
        found = "both" if service.model else "none"
        yield Problem(("model",), f"needs exactly one of model, versions; found {found}")
    yield from _model_problems(("model",), service.model)
    for name, version in service.versions.items():
        yield from _model_problems(("versions", name, "model"), version.model)
    yield from _traffic_problems(service)
    if service.rollout is not None:
        yield from (it.under(("rollout",)) for it in _rollout_problems(service.rollout))
    if service.replicas.min > service.replicas.max:
        message = f"{service.replicas.min} is more than max, {service.replicas.max}"
        yield Problem(("replicas", "min"), message)
    for name in service.env.keys() & service.secrets.keys():
        yield Problem(("secrets", name), f"{name} stands in env too", at_key=True)


def _model_problems(path: Path, model: str | Data) -> Iterator[Problem]:
    if isinstance(model, Data):
        yield from (it.under(path) for it in data_problems(model))
    elif model and "${{" not in model and not VERSION.fullmatch(model):
        hint = "write name@3, or name@production"
        yield Problem(path, f"{model!r} does not say which version", hint)


def _traffic_problems(service: ServiceBody) -> Iterator[Problem]:
    if not service.traffic:
        return
    for name in service.traffic:
        if name not in service.versions:
            hint = nearest(name, service.versions) or "add versions"
            yield Problem(("traffic", name), f"there is no version {name}", hint, at_key=True)
    total = sum(service.traffic.values())
    if total != 100:
        yield Problem(("traffic",), f"sums to {total}, not to 100")


def _rollout_problems(rollout: Rollout) -> Iterator[Problem]:
    steps = rollout.steps
    if not steps or list(steps) != sorted(set(steps)) or steps[-1] != 100:
        yield Problem(("steps",), "must rise and end with 100")
    gate = rollout.gate
    if gate is not None and gate.at_least is None and gate.at_most is None:
        yield Problem(("gate",), "needs at_least or at_most")
