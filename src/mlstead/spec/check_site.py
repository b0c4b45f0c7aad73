"""What must hold in a site file beyond the types of its fields."""

import ipaddress
from collections.abc import Iterator

from mlstead.spec.problems import Problem
from mlstead.spec.site import Site


def site_problems(site: Site) -> Iterator[Problem]:
    """Find everything in a site that cannot be right, in no order."""
    if site.kubernetes.distribution == "existing":
        yield from _existing(site)
    else:
        yield from _machines(site)
        yield from _networks(site)
        yield from _ports(site)
        yield from _kubelet(site)


def _existing(site: Site) -> Iterator[Problem]:
    if not site.kubernetes.kubeconfig:
        yield Problem(("kubernetes", "kubeconfig"), "is required for an existing cluster")
    if site.machines:
        message = "an existing cluster has no machines here"
        yield Problem(
            ("machines",), message, "leave them out, or distribution: kubeadm", at_key=True
        )


def _machines(site: Site) -> Iterator[Problem]:
    for field in ("kubeconfig", "context"):
        if getattr(site.kubernetes, field):
            path = ("kubernetes", field)
            yield Problem(path, "is only for distribution: existing", at_key=True)
    heads = site.with_role("control-plane")
    if not site.machines:
        yield Problem(("machines",), "is required", "or kubernetes: {distribution: existing, …}")
    elif len(heads) != 1:
        found = ", ".join(heads) or "none"
        message = f"exactly one machine must have the role control-plane; found {found}"
        yield Problem(("machines",), message, at_key=True)
    registries = site.with_role("registry")
    if len(registries) > 1:
        message = f"only one machine can be the registry; found {', '.join(registries)}"
        yield Problem(("machines",), message, at_key=True)
    yield from _hosts(site)


def _hosts(site: Site) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, machine in site.machines.items():
        if name.endswith("-"):
            yield Problem(("machines", name), "a host name cannot end with -", at_key=True)
        if name == "localhost":
            message = "every machine calls itself localhost"
            yield Problem(("machines", name), message, "choose another name", at_key=True)
        at = ipaddress.IPv4Address(machine.address)
        if at.is_loopback or at.is_unspecified or at.is_multicast or at.is_reserved:
            message = f"{machine.address} cannot be reached from other machines"
            yield Problem(("machines", name, "address"), message)
        if machine.address in seen:
            message = f"{machine.address} is the address of {seen[machine.address]}, too"
            yield Problem(("machines", name, "address"), message)
        seen.setdefault(machine.address, name)
        for index, role in enumerate(machine.roles):
            if role in machine.roles[:index]:
                yield Problem(("machines", name, "roles", index), f"{role} stands here twice")


def _networks(site: Site) -> Iterator[Problem]:
    named = {"pods": site.kubernetes.pods, "services": site.kubernetes.services}
    for name, text in named.items():
        network = ipaddress.IPv4Network(text)
        if network.prefixlen > 20:
            yield Problem(("kubernetes", name), f"{text} is too small: at most /20")
        for machine, one in site.machines.items():
            if ipaddress.IPv4Address(one.address) in network:
                message = f"{text} holds the address of {machine}, {one.address}"
                yield Problem(("kubernetes", name), message, "choose another network")
    pods, services = ipaddress.IPv4Network(named["pods"]), ipaddress.IPv4Network(named["services"])
    if pods.overlaps(services):
        yield Problem(("kubernetes", "services"), f"{services} overlaps pods, {pods}")


def _ports(site: Site) -> Iterator[Problem]:
    """Find a port of the registry that something else on its machine listens on."""
    for name in site.with_role("registry"):
        taken = {site.port_of(name): "sshd"}
        if name in site.nodes:
            taken |= dict.fromkeys((10248, 10250), "the kubelet")
            taken |= dict.fromkeys((10249, 10256), "kube-proxy")
            taken[19080] = "the pod network"
        if name in site.with_role("control-plane"):
            taken |= {6443: "the API server", 10257: "the cluster's controllers"}
            taken |= dict.fromkeys((2379, 2380, 2381), "etcd") | {10259: "the scheduler"}
        if owner := taken.get(site.registry.port):
            message = f"{site.registry.port} is the port of {owner} on {name}"
            yield Problem(("registry", "port"), message, "choose another, such as 5000")


def _kubelet(site: Site) -> Iterator[Problem]:
    for field in ("apiVersion", "kind"):
        if field in site.kubernetes.kubelet:
            path = ("kubernetes", "kubelet", field)
            yield Problem(path, "cannot be chosen", "leave it out", at_key=True)
