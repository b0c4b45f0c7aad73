"""Says how a site is: machines, versions, certificates, disk, pressure, what drifted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from mlstead.plan import HostFacts
from mlstead.site.facts import Gathered
from mlstead.spec.site import Site

SECONDS_A_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """How one machine is.

    Attributes:
        state: ok, drift (no longer as applied), missing parts, or unreachable.
        node: what the cluster says of it: Ready, NotReady, cordoned, or "".
        kubernetes: the kubelet's version, "" if it is no node.
        memory, disk: used shares, 0 to 1; pressure: per cent of the last minute, by resource.
        certificates: days until the first certificate ends; None if none are known.
        words: what is wrong, in words.
    """

    name: str
    address: str
    state: str
    system: str = ""
    node: str = ""
    kubernetes: str = ""
    memory: float = 0.0
    disk: float = 0.0
    pressure: Mapping[str, float] | None = None
    certificates: int | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """How a site is; ``strangers`` are nodes of the cluster that the site file does not name."""

    name: str
    machines: tuple[MachineStatus, ...]
    strangers: tuple[str, ...] = ()


def status(site: Site, gathered: Gathered) -> Status:
    """Make the status of a site from facts; a pure function."""
    nodes = nodes_of(gathered)
    machines = []
    for name, machine in site.machines.items():
        host = gathered.facts.hosts.get(name)
        node = nodes.get(name)
        if host is None:
            words = (str(gathered.problems.get(name, "does not answer")),)
            ready = _node_words(node)
            machines.append(
                MachineStatus(name, machine.address, "unreachable", node=ready, words=words)
            )
        else:
            machines.append(_machine(name, machine.address, host, node))
    strangers = tuple(sorted(set(nodes) - set(site.machines)))
    return Status(site.name, tuple(machines), strangers)


def nodes_of(gathered: Gathered) -> dict[str, Mapping[str, Any]]:
    """Give the nodes of the cluster by name, as a control plane tells them; none if none does."""
    for host in gathered.facts.hosts.values():
        answer = host.answers.get("nodes")
        if answer and answer.code == 0:
            return {it["metadata"]["name"]: it for it in json.loads(answer.out)["items"]}
    return {}


def _machine(
    name: str, address: str, host: HostFacts, node: Mapping[str, Any] | None
) -> MachineStatus:
    system = host.system
    drift = [f"{part}: {line}" for part, found in host.parts.items() for line in found.drift]
    missing = not host.parts
    state = "drift" if drift else "not installed" if missing else "ok"
    ready = _node_words(node)
    if state == "ok" and ready not in ("", "Ready"):
        state = "not ready"
    disks = system.get("disks", {}).values()
    memory = system.get("memory", {})
    return MachineStatus(
        name,
        address,
        state,
        system=str(system.get("os", {}).get("pretty_name", "")),
        node=ready,
        kubernetes=str(node["status"]["nodeInfo"]["kubeletVersion"]) if node else "",
        memory=1 - memory["available"] / memory["total"] if memory.get("total") else 0.0,
        disk=max((1 - it["free"] / it["size"] for it in disks if it["size"]), default=0.0),
        pressure=system.get("pressure"),
        certificates=_certificates(host),
        words=tuple(drift),
    )


def _node_words(node: Mapping[str, Any] | None) -> str:
    if node is None:
        return ""
    if node.get("spec", {}).get("unschedulable"):
        return "cordoned"
    conditions = node.get("status", {}).get("conditions", ())
    ready = next((it["status"] for it in conditions if it["type"] == "Ready"), "Unknown")
    return "Ready" if ready == "True" else "NotReady"


def _certificates(host: HostFacts) -> int | None:
    """Give the days until the first certificate of the control plane ends."""
    answer = host.answers.get("certificates")
    if answer is None or answer.code != 0:
        return None
    try:
        found = json.loads(answer.out)["certificates"]
        ends = [datetime.fromisoformat(it["expirationDate"]) for it in found if not it["missing"]]
    except (ValueError, KeyError, TypeError):
        return None
    now = datetime.now(UTC)
    return min((int((end - now).total_seconds() // SECONDS_A_DAY) for end in ends), default=None)
