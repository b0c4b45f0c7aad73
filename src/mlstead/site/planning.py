"""Asks every part what it would change, and where it listens: pure functions over facts."""

from collections.abc import Sequence

from mlstead.plan import Facts, Port, Step, steps_of
from mlstead.site.components import apps, machine_parts
from mlstead.site.pruning import prune_steps
from mlstead.spec.site import Site


def plan_site(site: Site, facts: Facts) -> list[Step]:
    """List all steps in the order in which they are done; none: everything is as described."""
    steps: list[Step] = []
    for name, component in machine_parts().items():
        steps += steps_of(name, component, site, facts)
    steps += prune_steps(site, facts)
    for name, component in apps().items():
        steps += steps_of(name, component, site, facts)
    return steps


def first_steps(steps: Sequence[Step], facts: Facts) -> list[Step]:
    """Give the steps that bring Python to machines of which nothing is known without it.

    What other parts are given depends on what such a machine is: look again after these.
    """
    blind = {name for name, host in facts.hosts.items() if not host.system.get("python")}
    return [step for step in steps if step.component == "python" and step.target in blind]


def ports(site: Site) -> Sequence[Port]:
    """List every port that the site's parts listen on."""
    found = [
        port
        for component in {**machine_parts(), **apps()}.values()
        for port in component.ports(site)
    ]
    found += [Port(name, site.port_of(name), "sshd", "anywhere", "a key") for name in site.machines]
    return sorted(found, key=lambda port: (port.target, port.number))


def groups(steps: Sequence[Step]) -> list[list[Step]]:
    """Put steps together that are done side by side: one part, one kind, several machines.

    The control plane comes before those that join it; two steps on one machine are two groups.
    """
    found: list[list[Step]] = []
    for step in steps:
        last = found[-1] if found else []
        alone = step.target in {one.target for one in last}
        if last and not alone and _together(last[-1], step):
            last.append(step)
        else:
            found.append([step])
    return found


def _together(one: Step, other: Step) -> bool:
    kind = (one.component, one.action, one.tasks, one.arguments.get("kubeadm_mode"))
    return kind == (
        other.component,
        other.action,
        other.tasks,
        other.arguments.get("kubeadm_mode"),
    )
