"""The folder of volumes on every node's own disk, where the site has the app local_path."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlstead.plan import VOLUMES, Component, Facts
from mlstead.spec.site import Site


def _machines(site: Site) -> Sequence[str]:
    return site.nodes if "local_path" in site.apps else ()


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    return {"local_volumes_path": VOLUMES}


PART = Component(
    "Make the folder of volumes", "cluster", machines=_machines, inputs=_inputs, needs=("kubelet",)
)
