"""Certificates of the kubelets by the cluster's own authority, approved on the control plane."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlstead.plan import Component, Facts
from mlstead.spec.site import Site


def _machines(site: Site) -> Sequence[str]:
    return site.with_role("control-plane")


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    # What the site says counts, not what a node says about itself.
    return {
        "kubelet_certificates_nodes": {name: site.machines[name].address for name in site.nodes}
    }


PART = Component(
    "Sign the kubelets' certificates",
    "cluster",
    machines=_machines,
    inputs=_inputs,
    needs=("kubeadm",),
)
