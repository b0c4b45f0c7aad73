"""Does the steps of a plan, group by group, and tells what happens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import mlstead.clients
from mlstead import discover
from mlstead.clients.ssh import Ssh
from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.plan import SecretRef, Step
from mlstead.site import cluster, releases, taking
from mlstead.site.cluster import OnHead, Reach
from mlstead.site.components import ansible_folder
from mlstead.site.facts import target
from mlstead.site.planning import groups
from mlstead.spec.site import Site

CANCELLED: Final = "stopped before it was done"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while steps were done.

    Attributes:
        kind: ``step`` (a group begins or ends) or ``task`` (of a role, on one machine).
        title: of the step or task; targets: the machines.
        state: began, done, failed; of a task also ok, changed, skipped, unreachable.
        detail: the last lines of what failed.
    """

    kind: str
    title: str
    targets: tuple[str, ...]
    state: str
    component: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Doing:
    """What steps are done with.

    Attributes:
        secret: gives the value of a secret of the site, which is made if it is not there.
        told: is given every event; cancelled: asked often, True ends the work after a task.
        local: does a step on the laptop, by component.
        keep_data: a removal leaves what people stored.
        reach: the way to the cluster, if it is not by its control plane.
    """

    site: Site
    ssh: Ssh
    bundle: str
    secret: Callable[[str], str]
    told: Callable[[Event], None]
    cancelled: Callable[[], bool] = lambda: False
    local: Mapping[str, Callable[[Step], None]] = field(default_factory=dict)
    keep_data: bool = False
    reach: Reach | None = None

    @property
    def way(self) -> Reach:
        """The way to the cluster."""
        return self.reach or OnHead(self.site, self.ssh)


def run_steps(doing: Doing, steps: Sequence[Step]) -> int:
    """Do all steps in order; give how many changes were made.

    Raises:
        PlatformError: a step failed; those before it are done, those after it were not begun.
    """
    changes = 0
    for group in groups(steps):
        first = group[0]
        names = tuple(step.target for step in group)
        event = Event("step", first.title, names, "began", first.component)
        doing.told(event)
        try:
            changes += _do(doing, group)
        except PlatformError as error:
            doing.told(Event("step", first.title, names, "failed", first.component, str(error)))
            raise
        doing.told(Event("step", first.title, names, "done", first.component))
    return changes


def _do(doing: Doing, group: Sequence[Step]) -> int:
    first = group[0]
    if first.action == "role":
        return _role(doing, group)
    for step in group:
        if step.action == "local":
            doing.local[step.component](step)
        elif step.tasks == "remove":
            _take(doing, step)
        elif step.action == "helm":
            releases.upgrade(doing.way, step.arguments, doing.secret)
        else:
            cluster.put(doing.way, resolved(step.arguments, doing.secret))
    return len(group)


def _take(doing: Doing, step: Step) -> None:
    """Take a release or objects out of the cluster, and tell what of it stays."""
    if step.action == "helm":
        releases.uninstall(doing.way, step.arguments)
        return
    for words in taking.take(doing.way, step.arguments):
        doing.told(Event("task", words, (step.target,), "ok", step.component))


def _role(doing: Doing, group: Sequence[Step]) -> int:
    ansible: ModuleType = discover.part(mlstead.clients, "ansible")
    first, site = group[0], doing.site
    names = [step.target for step in group]

    def machine(name: str, variables: Mapping[str, Any]) -> Any:
        here = site.machines[name]
        key = str(Path(site.key_of(name)).expanduser()) if site.key_of(name) else ""
        arguments = tuple(doing.ssh.arguments(target(site, name)))
        return ansible.Machine(
            name,
            here.address,
            site.port_of(name),
            site.user_of(name),
            key,
            arguments,
            variables,
        )

    def told(event: Any) -> None:
        at = (event.host,) if event.host else tuple(names)
        doing.told(Event("task", event.task, at, event.state, first.component, event.detail))

    common = {"mlstead_bundle": doing.bundle, "mlstead_keep_data": doing.keep_data}
    play = ansible.Play(
        first.component,
        tuple(
            machine(it.target, {**common, **resolved(it.arguments, doing.secret)}) for it in group
        ),
        tuple(machine(name, {}) for name in site.machines if name not in names),
        first.tasks,
    )
    outcome = ansible.run_play(ansible_folder(), play, told=told, cancelled=doing.cancelled)
    if outcome.cancelled:
        raise UserError(f"{first.title}: {CANCELLED}", hint="apply again: it goes on from there")
    if outcome.failures:
        raise _failed(first, outcome.failures)
    return sum(outcome.changed.values())


def _failed(step: Step, failures: Sequence[Any]) -> PlatformError:
    """Make one error of what failed: where, in which task, and what was written last."""
    worst = failures[0]
    hosts = ", ".join(dict.fromkeys(event.host or step.target for event in failures))
    text = f"{hosts}: {step.title}: {worst.task}"
    if worst.detail:
        text += "\n" + "\n".join(f"  {line}" for line in worst.detail.splitlines())
    if all(event.state == "unreachable" for event in failures):
        return UnavailableError(text, hint="when it answers again, apply again: it goes on there")
    return UserError(text, hint="put it right and apply again: it goes on from there")


def resolved(value: Any, secret: Callable[[str], str]) -> Any:
    """Put the values of secrets in the place of their names."""
    if isinstance(value, SecretRef):
        return secret(value.name)
    if isinstance(value, Mapping):
        return {key: resolved(item, secret) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(item, secret) for item in value]
    return value
