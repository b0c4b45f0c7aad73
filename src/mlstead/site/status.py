"""Says how a site is: machines, versions, certificates, disk, pressure, what drifted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from mlstead.plan import CLUSTER, HostFacts
from mlstead.site.facts import Gathered
from mlstead.site.options import app_options
from mlstead.site.planning import plan_site
from mlstead.spec.site import Site

SECONDS_A_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """How one machine is.

    Attributes:
        state: ok, drift (no longer as applied), missing parts, or unreachable.
        node: what the cluster says of it: Ready, NotReady, cordoned, or "".
        kubernetes: the kubelet's version, "" if it is no node.
        memory, disk: used shares, 0 to 1, None: not known; pressure: per cent of the last minute,
            by resource.
        certificates: days until the first certificate ends; None if none are known.
        words: what is wrong, in words.
    """

    name: str
    address: str
    state: str
    system: str = ""
    node: str = ""
    kubernetes: str = ""
    memory: float | None = None
    disk: float | None = None
    pressure: Mapping[str, float] | None = None
    certificates: int | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppStatus:
    """How an app of the site is: ok, not as described, or unknown; ``words`` say why."""

    name: str
    state: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """How a site is.

    Attributes:
        machines: of the site file; of an existing cluster, its nodes.
        strangers: nodes of the cluster that the site file does not name.
        apps: those of the site file, and what is left of others.
    """

    name: str
    machines: tuple[MachineStatus, ...]
    strangers: tuple[str, ...] = ()
    apps: tuple[AppStatus, ...] = ()


def status(site: Site, gathered: Gathered) -> Status:
    """Make the status of a site from facts; a pure function."""
    nodes = nodes_of(gathered)
    apps = _apps(site, gathered)
    if not site.machines:
        return Status(site.name, _cluster(gathered, nodes), apps=apps)
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
    return Status(site.name, tuple(machines), strangers, apps)


def _cluster(
    gathered: Gathered, nodes: Mapping[str, Mapping[str, Any]]
) -> tuple[MachineStatus, ...]:
    """Give how the nodes of an existing cluster are, as it tells of them itself."""
    if problem := gathered.problems.get(CLUSTER):
        return (MachineStatus(CLUSTER, "", "unreachable", words=(str(problem),)),)
    found = []
    for name, node in nodes.items():
        addresses = node["status"].get("addresses", ())
        address = next((it["address"] for it in addresses if it["type"] == "InternalIP"), "")
        info, ready = node["status"]["nodeInfo"], _node_words(node)
        state = "ok" if ready == "Ready" else "not ready"
        system = str(info.get("osImage", ""))
        found.append(
            MachineStatus(name, address, state, system, ready, str(info["kubeletVersion"]))
        )
    return tuple(found)


def _apps(site: Site, gathered: Gathered) -> tuple[AppStatus, ...]:
    """Give how the site's apps are, by what a plan would change of them."""
    facts = gathered.facts
    words: dict[str, tuple[str, ...]] = {}
    for step in plan_site(site, facts):
        if step.target == CLUSTER:
            words[step.component] = words.get(step.component, ()) + step.reasons
    left = [name for name in words if name not in site.apps and name in app_options()]
    if facts.objects is None or facts.releases is None:
        return tuple(AppStatus(name, "unknown") for name in site.apps)
    return tuple(
        AppStatus(name, "not as described" if name in words else "ok", words.get(name, ()))
        for name in (*site.apps, *left)
    )


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
