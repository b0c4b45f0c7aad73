"""Helm releases as apps want them, and what is not so in the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlstead.plan import CLUSTER, Component, Facts, Release, SecretRef, Step, chart_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """A release: its name, its namespace, the name of its chart, and its values."""

    name: str
    namespace: str
    chart: str
    values: Mapping[str, Any]


def helm_steps(name: str, component: Component, wanted: Wanted, facts: Facts) -> list[Step]:
    """Give one step if a release is missing, half done, of another version, or was changed.

    The version is that of the bundle. Any value that was not given here is a change, too.
    """
    file, version = charted(facts, wanted.chart)
    found = (facts.releases or {}).get(f"{wanted.namespace}/{wanted.name}")
    reasons = _reasons(wanted, version, found)
    if not reasons:
        return []
    stuck = found.revision if found and found.status.startswith("pending") else 0
    arguments = {
        "release": wanted.name,
        "namespace": wanted.namespace,
        "chart": file,
        "version": version,
        "values": wanted.values,
        "stuck": stuck,
    }
    return [Step(component.title, CLUSTER, name, "helm", arguments, tuple(reasons))]


def charted(facts: Facts, chart: str) -> tuple[str, str]:
    """Give file name and version of a chart of the bundle; empty ones if it is not there."""
    paths = [file.path for file in facts.bundle.under("charts")] if facts.bundle else []
    for path in paths:
        name, version = chart_of(path)
        if name == chart:
            return path.rsplit("/", 1)[-1], version
    return "", ""


def _reasons(wanted: Wanted, version: str, found: Release | None) -> list[str]:
    where = f"release {wanted.namespace}/{wanted.name}"
    if found is None:
        return [f"{where} is not there"]
    reasons = []
    if found.status != "deployed":
        reasons.append(f"{where} is {found.status}")
    if (found.chart, found.version) != (wanted.chart, version):
        reasons.append(f"{where}: {found.chart} {found.version}, not {wanted.chart} {version}")
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
