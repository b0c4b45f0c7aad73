"""The container runtime on every node, trusting the site's registry."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlstead.machines._sources import lacking, plugins, programs
from mlstead.machines.registry import address
from mlstead.plan import Component, Facts, SecretRef
from mlstead.spec.site import Site

PROGRAMS: Final = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
PAUSE: Final = "registry.k8s.io/pause:3.10.2"


def _machines(site: Site) -> Sequence[str]:
    return site.nodes


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    found = facts.hosts[machine].system if machine in facts.hosts else {}
    registry = address(site)
    return {
        "containerd_files": programs(facts, *PROGRAMS) + plugins(facts),
        "containerd_pause": PAUSE,
        # In a container of the machine's own (the lab) runc may not lower the score.
        "containerd_restricted": not found.get("resources", True),
        "containerd_registry": registry,
        "containerd_authority": SecretRef("authority.crt") if registry else "",
        "containerd_password": SecretRef("registry.password") if registry else "",
    }


def _unmet(site: Site, facts: Facts) -> list[str]:
    return lacking(facts, *PROGRAMS) if _machines(site) else []


PART = Component(
    "Install the container runtime",
    "runtime",
    machines=_machines,
    inputs=_inputs,
    needs=("network",),
    unmet=_unmet,
)
