"""Takes machines out of a site, or the whole site away: the parts backwards, hosts as before."""

from collections.abc import Sequence

from mlstead.errors import NotFoundError, UserError
from mlstead.plan import VOLUMES, Component, Facts, Step
from mlstead.site.components import machine_parts
from mlstead.site.facts import Gathered
from mlstead.site.status import nodes_of
from mlstead.spec.site import Site

PATIENCE = "120s"


def check_worker(site: Site, name: str) -> None:
    """See that a machine can leave.

    Raises:
        NotFoundError: there is none of that name.
        UserError: the cluster would not go on without it.
    """
    if name not in site.machines:
        known = ", ".join(site.machines)
        raise NotFoundError(f"the site has no machine {name!r}", hint=f"known: {known}")
    if name in site.with_role("control-plane"):
        hint = "mlstead site remove takes the whole site away"
        raise UserError(f"{name} is the control plane: the cluster lives on it", hint=hint)


def drain_steps(site: Site, names: Sequence[str], *, dead: bool = False) -> list[Step]:
    """Give the steps that move what runs on workers elsewhere."""
    head = site.with_role("control-plane")[0]
    return [
        Step(
            f"Move what runs on {name} elsewhere",
            head,
            "kubeadm",
            "role",
            {
                "kubeadm_node": name,
                "kubeadm_head": head,
                "kubeadm_dead": dead,
                "kubeadm_patience": "20s" if dead else PATIENCE,
            },
            ("it leaves",),
            "drain",
        )
        for name in names
    ]


def forget_steps(site: Site, gathered: Gathered, names: Sequence[str]) -> list[Step]:
    """Give the steps that take nodes out of the cluster."""
    head = site.with_role("control-plane")[0]
    there = nodes_of(gathered)
    return [
        Step(f"Forget {name}", head, "kubeadm", "role", {"kubeadm_node": name}, (), "forget")
        for name in names
        if name in there
    ]


def remove_steps(site: Site, facts: Facts, names: Sequence[str]) -> list[Step]:
    """Give the steps that take every part off machines, the last one first.

    A part that has no stamp is removed, too: an install may have been cut short in it.
    """
    steps = []
    for part, component in reversed(list(machine_parts().items())):
        if component.phase == "access":
            continue
        for name in reversed(names):
            if name in facts.hosts and name in _had(component, site, facts, part):
                variables = {**_variables(component, site, facts, name), "kubeadm_node": name}
                title = f"Remove: {component.title[:1].lower()}{component.title[1:]}"
                steps.append(Step(title, name, part, "role", variables, (), "remove"))
    return steps


def _had(component: Component, site: Site, facts: Facts, part: str) -> set[str]:
    """Name the machines that have, had, or were to have a part."""
    stamped = {name for name, host in facts.hosts.items() if part in host.parts}
    return stamped | set(component.machines(site))


def _variables(component: Component, site: Site, facts: Facts, name: str) -> dict[str, object]:
    """Give a role's variables without secrets: a removal needs none."""
    wanted = component.inputs(site, facts, name) if name in component.machines(site) else {}
    plain = {key: value for key, value in wanted.items() if type(value).__name__ != "SecretRef"}
    always = {
        "kubeadm_pods": site.kubernetes.pods,
        "registry_path": site.registry.path,
        "local_volumes_path": VOLUMES,
    }
    return {**always, **plain}
