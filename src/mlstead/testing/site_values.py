"""Sites and facts to plan with: nothing installed, all installed, and what lies between."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mlstead.plan import (
    Bundle,
    BundleFile,
    Facts,
    HostFacts,
    PartFacts,
    Release,
    Step,
    chart_of,
    object_key,
)
from mlstead.site.components import charts_of, role_digests
from mlstead.spec.base import FrozenDict, freeze
from mlstead.spec.site import Kubernetes, Machine, Registry, Role, Site

SYSTEM: Final[Mapping[str, Any]] = {
    "python": "3.11.2",
    "os": {"id": "debian", "version_id": "12"},
    "arch": "x86_64",
    "nameservers": ["192.168.10.1"],
    "fstab": True,
    "cgroups": 2,
    "resources": True,
    "addresses": ["127.0.0.1", *(f"192.168.10.{50 + at}" for at in range(9))],
    "apt": True,
    "disks": {"/": {"size": 1 << 40, "free": 1 << 39}},
    "foreign": [],
    "has": ["nft", "systemctl"],
    "kubernetes": False,
    "listening": [["tcp", "0.0.0.0", 22, "sshd"]],
    "memory": {"total": 16 << 30, "available": 12 << 30},
    "swap": [],
    "synchronised": True,
}
"""A plain Debian machine as ``site/_probe.py`` tells it, less what nothing looks at."""

PROGRAMS: Final = (
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "helm",
    "hyperkube",
    "registry",
    "runc",
)
CHARTS: Final = ("metallb-0.16.1", "metrics-server-3.13.0")
IMAGES: Final = (
    "docker.io/library/busybox:1",
    "docker.io/rancher/local-path-provisioner:v0.0.37",
    "quay.io/metallb/controller:v0.16.1",
    "quay.io/metallb/speaker:v0.16.1",
    "registry.k8s.io/coredns/coredns:v1.14.2",
    "registry.k8s.io/kindnet:v1",
    "registry.k8s.io/kube-apiserver:v1.36.3",
    "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
)
APPS: Final[Mapping[str, Any]] = {
    "local_path": None,
    "metallb": {"addresses": ["192.168.10.200-192.168.10.220"]},
    "metrics_server": None,
}
"""Every app that a site names, with the least options: a new one is added here, too."""


def a_site(name: str, machines: Mapping[str, Sequence[Role]], **fields: Any) -> Site:
    """Make a site of machines with roles; their addresses count up from 192.168.10.50."""
    found = {
        key: Machine(address=f"192.168.10.{50 + at}", roles=tuple(roles))
        for at, (key, roles) in enumerate(machines.items())
    }
    return Site(name=name, machines=FrozenDict(found), **fields)


def sites() -> dict[str, Site]:
    """Give sites of every shape: one machine, several, a registry of its own, no machines."""
    existing = Kubernetes(distribution="existing", kubeconfig="~/.kube/config")
    kubelet = Kubernetes(kubelet=FrozenDict({"maxPods": 200}), pods="10.200.0.0/16")
    return {
        "one": a_site("one", {"box": ["control-plane"]}),
        "three": a_site(
            "three",
            {"head": ["control-plane", "worker", "registry"], "w1": ["worker"], "w2": ["worker"]},
            apps=freeze(APPS),
        ),
        "apart": a_site(
            "apart",
            {"images": ["registry"], "n2": ["worker"], "n1": ["control-plane"]},
            kubernetes=kubelet,
            registry=Registry(port=5443, path="/srv/images"),
        ),
        "existing": Site(name="existing", kubernetes=existing, apps=freeze(APPS)),
    }


def a_bundle() -> Bundle:
    """Give a bundle with everything that parts ask for, as ``site.bundle`` would read it."""
    paths = [f"bin/{name}" for name in PROGRAMS]
    paths += ["cni/bridge", "cni/cni-kindnet", "images/kube.tar"]
    paths += [f"charts/{name}.tgz" for name in CHARTS]
    files = tuple(BundleFile(path, f"{at:064x}", 100 + at) for at, path in enumerate(paths))
    links = {f"bin/{name}": "hyperkube" for name in ("kubeadm", "kubectl", "kubelet")}
    return Bundle("/bundle", {"kubernetes": "v1.36.3", "coredns": "v1.14.2"}, files, links, IMAGES)


def bare(site: Site, **system: Any) -> Facts:
    """Give the facts of machines on which nothing is installed, and a bundle."""
    hosts = {name: HostFacts({**SYSTEM, **system}) for name in site.machines}
    return Facts(hosts=hosts, bundle=a_bundle(), roles=role_digests(), charts=charts_of(site))


def after(facts: Facts, steps: Sequence[Step]) -> Facts:
    """Give the facts as they are when steps of roles, manifests and releases have been done."""
    parts = {name: dict(host.parts) for name, host in facts.hosts.items()}
    objects, releases = dict(facts.objects or {}), dict(facts.releases or {})
    for step in steps:
        if step.action == "role":
            parts[step.target][step.component] = PartFacts(step.arguments["mlstead_inputs"])
        elif step.tasks == "remove" and step.action == "manifest":
            for one in (*step.arguments["objects"], *step.arguments["namespaces"]):
                objects.pop(object_key(one), None)
        elif step.tasks == "remove":
            releases.pop(f"{step.arguments['namespace']}/{step.arguments['release']}", None)
        elif step.action == "manifest":
            objects |= {object_key(one): _stored(one) for one in step.arguments["objects"]}
        elif step.action == "helm":
            it = step.arguments
            release = Release(
                *chart_of(it["chart"]),
                "deployed",
                1,
                it["values"],
                labels=it["labels"],
                source=it["sha256"],
            )
            releases[f"{it['namespace']}/{it['release']}"] = release
    hosts = {name: replace(host, parts=parts[name]) for name, host in facts.hosts.items()}
    return replace(facts, hosts=hosts, objects=objects, releases=releases)


def drifted(facts: Facts, machine: str, component: str, found: PartFacts) -> Facts:
    """Give facts in which one part of one machine is otherwise."""
    host = facts.hosts[machine]
    host = replace(host, parts={**host.parts, component: found})
    return replace(facts, hosts={**facts.hosts, machine: host})


def edits(one: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give an object with each of its values changed in turn, and the path of the change.

    What names the object stays as it is.
    """
    for path in _leaves(one):
        if path not in (("kind",), ("metadata", "name"), ("metadata", "namespace")):
            changed = json.loads(json.dumps(one))
            place: Any = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = "changed by hand"
            yield ".".join(str(key) for key in path), changed


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list | tuple) and value:
        for at, item in enumerate(value):
            yield from _leaves(item, (*path, at))
    else:
        yield path


def _stored(one: Mapping[str, Any]) -> dict[str, Any]:
    """Give an object as the API server gives it back: with fields of its own."""
    found = copy.deepcopy(dict(one))
    found["metadata"] = {**found["metadata"], "uid": "0b8e", "resourceVersion": "7"}
    found["status"] = {"observed": True}
    return found
