"""Says what keeps a site from being installed, before anything is changed: pure over facts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlstead.plan import CLUSTER, LAPTOP, Facts, HostFacts, Port
from mlstead.site.components import apps, machine_parts
from mlstead.site.fitness import unfit
from mlstead.site.planning import ports
from mlstead.site.pruning import lost_with
from mlstead.spec.site import Site

GIB: Final = 1 << 30
MOST_SKEW: Final = 5.0  # seconds; certificates and etcd suffer from more
LEAST_MEMORY: Final = {"control-plane": 1.7, "worker": 0.7, "registry": 0.4}  # GiB
SPARE_DISK: Final = 2 * GIB
SYSTEMS: Final = ("debian", "ubuntu")
ARCHITECTURES: Final = ("x86_64",)
BUNDLE: Final = "mlstead bundle create --help"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a machine that people must know.

    Attributes:
        target: the machine, ``cluster`` or ``laptop``.
        message: what it is; hint: what to do.
        stops: whether nothing can be done until it is put right.
    """

    target: str
    message: str
    hint: str = ""
    stops: bool = True


def preflight(site: Site, facts: Facts, skew: Mapping[str, float]) -> list[Finding]:
    """Find everything that would make an apply fail, or that people should know before it."""
    found: list[Finding] = []
    for name, host in facts.hosts.items():
        if not host.system.get("os"):
            continue  # no Python yet: the first part brings it, and the next look tells more
        found += _system(site, name, host)
        found += _dirt(name, host)
        found += _room(site, facts, name, host)
        found += _ports(site, name, host)
        found += _clock(name, host, skew.get(name, 0.0))
    found += [Finding(CLUSTER, it.message, it.hint, it.stops) for it in unfit(site, facts)]
    found += _unmet(site, facts)
    hint = "take it away yourself, or leave the app in the site file"
    return found + [Finding(CLUSTER, message, hint) for message in lost_with(site, facts)]


def _system(site: Site, name: str, host: HostFacts) -> Iterator[Finding]:
    system = host.system
    distribution = str(system["os"].get("id", ""))
    if distribution not in SYSTEMS:
        called = system["os"].get("pretty_name", distribution) or "an unknown system"
        yield Finding(name, f"runs {called}", "Debian or Ubuntu is needed")
    if system["arch"] not in ARCHITECTURES:
        yield Finding(name, f"has the architecture {system['arch']}", "x86_64 is needed")
    if "systemctl" not in system["has"]:
        yield Finding(
            name, "has no systemd", "a machine or virtual machine is needed, no container"
        )
    address = site.machines[name].address
    if address not in system["addresses"]:
        has = ", ".join(it for it in system["addresses"] if not it.startswith("127."))
        yield Finding(name, f"does not have the address {address} itself; it has {has or 'none'}",
                      "give the address of its network interface")  # fmt: skip


def _dirt(name: str, host: HostFacts) -> Iterator[Finding]:
    """Name what others installed, which would get in the way."""
    for other in host.system["foreign"]:
        yield Finding(name, f"{other} is or was installed here", f"remove {other} and its data")
    ours = {"kubelet", "kubeadm"} & set(host.parts)
    if host.system["kubernetes"] and not ours:
        message = "belongs to a Kubernetes cluster that mlstead did not make"
        yield Finding(name, message, "kubeadm reset on it, if that cluster is not needed")
    if host.system["swap"] and "network" not in host.parts:
        devices = ", ".join(host.system["swap"])
        yield Finding(name, f"uses swap ({devices})", "it will be turned off", stops=False)
    if not host.system["apt"]:
        yield Finding(name, "its package database is not whole", "dpkg --configure -a", stops=False)


def _room(site: Site, facts: Facts, name: str, host: HostFacts) -> Iterator[Finding]:
    memory = host.system["memory"]["total"] / GIB
    least = max(LEAST_MEMORY[role] for role in site.machines[name].roles)
    if memory < least:
        yield Finding(name, f"has {memory:.1f} GiB of memory", f"its roles need {least} GiB")
    if "kubelet" in host.parts or facts.bundle is None:
        return
    needed = 3 * sum(file.size for file in facts.bundle.files) + SPARE_DISK
    for path in ("/", "/var/lib"):
        free = host.system["disks"].get(path, {}).get("free", needed)
        if free < needed:
            message = f"{path} has {free / GIB:.1f} GiB free"
            yield Finding(name, message, f"{needed / GIB:.1f} GiB are needed")


def _ports(site: Site, name: str, host: HostFacts) -> Iterator[Finding]:
    taken = {(it[0], it[2]): it[3] for it in host.system["listening"]}
    for port in ports(site):
        if port.target != name or port.owner == "sshd":
            continue
        program = taken.get((port.protocol, port.number))
        if program is not None and not _is_ours(port, program, list(host.parts)):
            message = f"{port.protocol} port {port.number} is taken by {program or 'a program'}"
            yield Finding(name, message, f"{port.owner} needs it")


def _is_ours(port: Port, program: str, parts: Sequence[str]) -> bool:
    """Say whether what listens there is what we installed."""
    same = program in port.owner or port.owner.startswith(program)
    return bool(parts) and (same or program == "")


def _clock(name: str, host: HostFacts, skew: float) -> Iterator[Finding]:
    if abs(skew) > MOST_SKEW:
        way = "ahead of" if skew > 0 else "behind"
        message = f"its clock is {abs(skew):.0f} s {way} this machine's"
        yield Finding(name, message, "set it, and let it follow a time server")
    elif host.system["synchronised"] is False:
        yield Finding(name, "its clock follows no time server", "timedatectl set-ntp true", False)


def _unmet(site: Site, facts: Facts) -> Iterator[Finding]:
    said: set[str] = set()
    parts: dict[str, Any] = {**machine_parts(), **apps()}
    for component in parts.values():
        for message in component.unmet(site, facts):
            if message not in said:
                said.add(message)
                here = component.phase == "access"
                hint = "put it right, or name another by KUBECONFIG" if here else BUNDLE
                yield Finding(LAPTOP if here else CLUSTER, message, hint)
