"""Programs and images of Kubernetes on every node."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlstead.machines._sources import archives, lacking, links, programs, targets
from mlstead.plan import Component, Facts, Port
from mlstead.spec.site import Site

PROGRAMS: Final = ("kubeadm", "kubelet", "kubectl")


def _machines(site: Site) -> Sequence[str]:
    return site.nodes


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    return {
        "kubelet_files": programs(facts, *targets(facts, *PROGRAMS)) + archives(facts),
        "kubelet_links": links(facts, *PROGRAMS),
        "kubelet_images": list(facts.bundle.images) if facts.bundle else [],
    }


def _ports(site: Site) -> Sequence[Port]:
    login = "a certificate or token of the cluster"
    return [Port(name, 10250, "kubelet", "anywhere", login) for name in site.nodes]


def _unmet(site: Site, facts: Facts) -> list[str]:
    return lacking(facts, *PROGRAMS) if _machines(site) else []


PART = Component(
    "Install Kubernetes' programs and images",
    "runtime",
    machines=_machines,
    inputs=_inputs,
    needs=("containerd",),
    ports=_ports,
    unmet=_unmet,
)
