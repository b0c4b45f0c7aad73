"""Helm releases as apps want them, and what is not so in the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlstead.plan import CLUSTER, Component, Facts, Release, SecretRef, Step, chart_of, mark
from mlstead.spec.site import Site


@dataclass(frozen=True, slots=True)
class Wanted:
    """A release: its name, its namespace, the name of its chart, and its values."""

    name: str
    namespace: str
    chart: str
    values: Mapping[str, Any]


def helm_steps(
    name: str, component: Component, site: Site, facts: Facts, wanted: Wanted
) -> list[Step]:
    """Give one step if a release is missing, half done, of another chart, or was changed.

    The chart is that of the bundle, byte for byte. Any value that was not given here is a change,
    too.
    """
    chart = charted(facts, wanted.chart)
    found = (facts.releases or {}).get(f"{wanted.namespace}/{wanted.name}")
    reasons = _reasons(wanted, chart, found)
    labels = mark(site, name)
    if found and any(found.labels.get(key) != value for key, value in labels.items()):
        reasons.append(f"release {wanted.namespace}/{wanted.name} is not marked as ours")
    if not reasons:
        return []
    stuck = found.revision if found and found.status.startswith("pending") else 0
    arguments = {
        "release": wanted.name,
        "namespace": wanted.namespace,
        "chart": chart.file,
        "version": chart.version,
        "sha256": chart.sha256,
        "labels": labels,
        "values": wanted.values,
        "stuck": stuck,
    }
    return [Step(component.title, CLUSTER, name, "helm", arguments, tuple(reasons))]


@dataclass(frozen=True, slots=True)
class Charted:
    """A chart of the bundle: the name of its file, its version, and the file's hash."""

    file: str = ""
    version: str = ""
    sha256: str = ""


def charted(facts: Facts, chart: str) -> Charted:
    """Find a chart in the bundle; an empty one if it is not there."""
    for file in facts.bundle.under("charts") if facts.bundle else ():
        name, version = chart_of(file.path)
        if name == chart:
            return Charted(file.path.rsplit("/", 1)[-1], version, file.sha256)
    return Charted()


def _reasons(wanted: Wanted, chart: Charted, found: Release | None) -> list[str]:
    where = f"release {wanted.namespace}/{wanted.name}"
    if found is None:
        return [f"{where} is not there"]
    reasons = []
    if found.status != "deployed":
        reasons.append(f"{where} is {found.status}")
    if (found.chart, found.version) != (wanted.chart, chart.version):
        told = f"{found.chart} {found.version}, not {wanted.chart} {chart.version}"
        reasons.append(f"{where}: {told}")
    elif found.status == "deployed" and found.source != chart.sha256:
        told = "it was made of another file of its chart" if found.source else "somebody changed it"
        reasons.append(f"{where}: {told}")
    if lost := unequal(wanted.values, found.values):
        reasons.append(f"{where}: the value {lost} was changed")
    return [*reasons, *(f"{where}: {words}" for words in found.drift)]


def unequal(wanted: object, found: object, path: str = "") -> str:
    """Give the path of the first value that is not the same on both sides; "" if all are.

    A secret is the same as any text: what it is stands in no plan.
    """
    if isinstance(wanted, SecretRef):
        return "" if isinstance(found, str) and found else path
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in sorted({*wanted, *found}):
            lost = unequal(wanted.get(key), found.get(key), f"{path}.{key}".lstrip("."))
            if lost:
                return lost
        return ""
    if isinstance(wanted, list | tuple) and isinstance(found, list | tuple):
        if len(wanted) != len(found):
            return path or "."
        pairs = enumerate(zip(wanted, found, strict=True))
        return next((lost for at, (one, other) in pairs
                     if (lost := unequal(one, other, f"{path}[{at}]"))), "")  # fmt: skip
    return "" if wanted == found else path or "."
