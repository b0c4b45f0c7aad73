"""Helm on the control plane, with the charts of the bundle; only for apps that are charts."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import mlstead.machines
from mlstead.machines._sources import NO_BUNDLE, charts, lacking, programs
from mlstead.plan import (
    KUBECTL,
    Component,
    Facts,
    Probe,
    Step,
    asks_cluster,
    chart_of,
    role_steps,
)
from mlstead.spec.site import Site

RELEASES: Final = "releases"
"""The probe whose answer is a list of all releases; see ``_helm_probe.py``."""


def _machines(site: Site) -> Sequence[str]:
    return site.with_role("control-plane")


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    return {"helm_files": programs(facts, "helm") + charts(facts, *facts.charts)}


def _plan(site: Site, facts: Facts) -> list[Step]:
    return role_steps("helm", PART, site, facts) if facts.charts else []


@cache
def _program() -> str:
    return files(mlstead.machines).joinpath("_helm_probe.py").read_text(encoding="utf-8")


def _probes(site: Site, machine: str) -> Sequence[Probe]:
    if not asks_cluster(site, machine):
        return ()
    program = _program() + "\nmain(*sys.argv[1:])\n"
    return (Probe(RELEASES, ("python3", "-I", "-c", program, *KUBECTL)),)


def _unmet(site: Site, facts: Facts) -> list[str]:
    if not facts.charts:
        return []
    if facts.bundle is None:
        return [NO_BUNDLE]
    there = {chart_of(file.path)[0] for file in facts.bundle.under("charts")}
    absent = [
        f"the bundle has no charts/{name}-….tgz" for name in facts.charts if name not in there
    ]
    return (lacking(facts, "helm") if _machines(site) else []) + absent


PART = Component(
    "Install Helm and its charts",
    "cluster",
    machines=_machines,
    inputs=_inputs,
    plan=_plan,
    needs=("kubeadm",),
    probes=_probes,
    unmet=_unmet,
)
