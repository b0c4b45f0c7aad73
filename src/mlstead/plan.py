"""What is there, what shall change, and what can be installed: all plain data."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from mlstead.spec.site import Site

PHASES: Final = ("python", "network", "registry", "runtime", "cluster", "access", "apps")
"""The order of an install; steps of one phase that do not need each other may run side by side."""
CLUSTER: Final = "cluster"
"""The target of what is installed in the cluster, not on one machine."""
LAPTOP: Final = "laptop"
"""The target of what changes where mlstead is called."""
KUBECTL: Final = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
"""How the cluster is asked on its control plane, as root."""
CHARTS: Final = "/var/lib/mlstead/charts"
"""Where the Helm charts of the bundle lie on the control plane."""
VOLUMES: Final = "/srv/mlstead-volumes"
"""Where volumes on a node's own disk lie."""
OURS: Final = "app.kubernetes.io/managed-by=mlstead"
"""The label by which our objects are found."""
SITE_LABEL: Final = "mlstead.io/site"
"""The label that says which site made an object or a release of Helm."""
APP_LABEL: Final = "mlstead.io/app"
"""The label that says which of its apps an object or a release belongs to."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Stands in a step for a secret of the site; the value is put in only when the step runs."""

    name: str

    def __str__(self) -> str:
        return f"<secret {self.name}>"


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a part listens on.

    Attributes:
        target: the machine; number, protocol: what is bound.
        owner: the program; sources: who may reach it: "loopback", "site" or "anywhere".
        login: what a caller must show.
    """

    target: str
    number: int
    owner: str
    sources: Literal["loopback", "site", "anywhere"]
    login: str
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True)
class Probe:
    """A program that is run on a machine, as root, to learn something; it changes nothing.

    ``argv[0]`` missing on the machine is an answer (code 127), no error.
    """

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe's program gave; values of releases are in it, so it shows in no traceback."""

    code: int
    out: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PartFacts:
    """A part as it is on one machine.

    Attributes:
        inputs: the hash of what it was installed from, "" if it was never finished.
        drift: what is no longer as the part left it, in words.
    """

    inputs: str = ""
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found on one machine; ``system`` has the figures of ``site/_probe.py``."""

    system: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, PartFacts] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle; ``path`` is relative to the bundle's folder."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with all that is installed: the only way without internet.

    Attributes:
        folder: where it lies on the laptop.
        versions: program → version, such as ``{"kubernetes": "v1.36.3"}``.
        files: all files, by path: ``bin/…``, ``cni/…``, ``images/….tar``, ``charts/….tgz``.
        links: path of a program that is another one's → name of that one.
        images: the references of the images in the archives.
    """

    folder: str
    versions: Mapping[str, str]
    files: tuple[BundleFile, ...]
    links: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()

    def under(self, *folders: str) -> tuple[BundleFile, ...]:
        """Give the files of some folders."""
        return tuple(file for file in self.files if file.path.split("/")[0] in folders)


@dataclass(frozen=True, slots=True)
class Release:
    """A Helm release as it is in the cluster.

    Attributes:
        chart, version: what it was made of; values: what was given to it.
        status: ``deployed``, ``failed``, ``pending-upgrade``…; revision: counts its changes.
        drift: objects of it that are gone or were changed, in words.
        labels: what marks it; source: the SHA-256 of the chart's file that we made it of last, ""
            if somebody else changed it since.
    """

    chart: str
    version: str
    status: str
    revision: int
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    drift: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found, read-only.

    Attributes:
        hosts: by machine; one that does not answer is missing. Of an existing cluster, what it
            answered is that of the machine ``cluster``.
        objects: what is in the cluster, by ``Kind/namespace/name``; None: not known, no cluster.
        releases: what Helm installed, by ``namespace/name``; None: not known, no cluster.
        foreign: objects of an app's own kinds that we did not make, by app.
        taken: of an existing cluster: what others made under names that the site's apps need.
        charts: the charts that the site's apps are made of.
        laptop: what a component's ``local`` action reads about this machine, by component.
        bundle: what is installed from, if not from package sources.
        roles: the hash of each Ansible role as it is shipped.
    """

    hosts: Mapping[str, HostFacts] = field(default_factory=dict)
    objects: Mapping[str, Mapping[str, Any]] | None = None
    laptop: Mapping[str, Any] = field(default_factory=dict)
    bundle: Bundle | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, Release] | None = None
    charts: tuple[str, ...] = ()
    foreign: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taken: tuple[str, ...] = ()

    def part(self, target: str, component: str) -> PartFacts:
        """Give what was found of a part; an empty one if it is not there."""
        host = self.hosts.get(target)
        return (host.parts.get(component) if host else None) or PartFacts()


Action = Literal["role", "manifest", "helm", "local"]


@dataclass(frozen=True, slots=True)
class Step:
    """One change as data; doing it twice changes nothing.

    Attributes:
        title: what it does, for people; reasons: why it is needed.
        target: a machine, ``cluster`` or ``laptop``; component: the part it belongs to.
        action: ``role`` (arguments: the role's variables), ``manifest`` (arguments: objects, and
            what is waited for), ``helm`` (arguments: release, namespace, chart, version, values),
            ``local`` (a function of ``site/``).
        tasks: the role's entry: ``main``, ``drain`` or ``remove``; ``remove`` also takes objects
            and releases away.
        what: tells steps apart that one component has for one target.
    """

    title: str
    target: str
    component: str
    action: Action
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    tasks: str = "main"
    what: str = ""

    @property
    def key(self) -> str:
        """Name the step within a plan."""
        return f"{self.component}:{self.target}" + (f"/{self.what}" if self.what else "")


def _no_ports(site: Site) -> Sequence[Port]:
    return ()


def _no_probes(site: Site, machine: str) -> Sequence[Probe]:
    return ()


def _nothing(site: Site, facts: Facts) -> list[str]:
    return []


def _no_inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    return {}


Machines = Callable[[Site], Sequence[str]]
Plan = Callable[[Site, Facts], list[Step]]


@dataclass(frozen=True, slots=True)
class Component:
    """Something that can be installed; all its functions are pure.

    Attributes:
        title: what it is; phase: one of ``PHASES``; needs: components that come before it.
        machines: the machines that have it; none for what is in the cluster.
        inputs: the variables of its role for one machine; a change of them is a step.
        plan: the steps, where a role for each machine is not all.
        ports: what it listens on; probes: what it must know of a machine.
        unmet: what keeps it from being installed, one line each, for the preflight.
        charts: of an app: the charts that it is made of; kinds: its own kinds of objects that
            people write, as kubectl names them, with commas between.
    """

    title: str
    phase: str
    machines: Machines = lambda site: ()
    inputs: Callable[[Site, Facts, str], Mapping[str, Any]] = _no_inputs
    plan: Plan | None = None
    needs: tuple[str, ...] = ()
    ports: Callable[[Site], Sequence[Port]] = _no_ports
    probes: Callable[[Site, str], Sequence[Probe]] = _no_probes
    unmet: Callable[[Site, Facts], list[str]] = _nothing
    charts: tuple[str, ...] = ()
    kinds: str = ""


def mark(site: Site, app: str) -> dict[str, str]:
    """Give the labels of what an app of a site consists of."""
    return {SITE_LABEL: site.name, APP_LABEL: app}


def asks_cluster(site: Site, machine: str) -> bool:
    """Say whether the cluster is asked from there: on its control plane, or as one that is there.

    Of an existing cluster ``machine`` is ``CLUSTER``, and it is asked from the laptop.
    """
    if site.kubernetes.distribution == "existing":
        return machine == CLUSTER
    return machine in site.with_role("control-plane")


def digest(value: object) -> str:
    """Give the hash of JSON-like data; secrets count by their names."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def chart_of(path: str) -> tuple[str, str]:
    """Split the file name of a packaged chart into name and version; empty ones if it is none."""
    match = re.fullmatch(r"(?:.*/)?([a-z0-9][a-z0-9-]*?)-(v?[0-9]+\.[0-9]+\.[0-9][^/]*)\.tgz", path)
    return (match[1], match[2]) if match else ("", "")


def steps_of(name: str, component: Component, site: Site, facts: Facts) -> list[Step]:
    """Ask a component what it would change."""
    if component.plan is not None:
        return component.plan(site, facts)
    return role_steps(name, component, site, facts)


def role_steps(
    name: str,
    component: Component,
    site: Site,
    facts: Facts,
    more: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> list[Step]:
    """Give one step for each machine whose part is missing, older, or no longer as it was left.

    Args:
        name: of the part.
        component: the part.
        site: what is wanted.
        facts: what is there.
        more: further reasons, by machine.
    """
    steps = []
    for machine in component.machines(site):
        arguments = component.inputs(site, facts, machine)
        wanted = digest([facts.roles.get(name, ""), arguments])
        found = facts.part(machine, name)
        if not found.inputs:
            reasons: tuple[str, ...] = ("not installed",)
        elif found.inputs != wanted:
            reasons = ("its settings or its version changed", *found.drift)
        else:
            reasons = found.drift
        if found.inputs:
            reasons = (*reasons, *more.get(machine, ()))
        if reasons:
            variables = {**arguments, "mlstead_inputs": wanted}
            steps.append(Step(component.title, machine, name, "role", variables, reasons))
    return steps


def object_steps(
    name: str,
    component: Component,
    objects: Sequence[Mapping[str, Any]],
    facts: Facts,
    wait: Sequence[Sequence[str]] = (),
) -> list[Step]:
    """Give one step if an object is not in the cluster, or is there with other fields.

    Fields that the objects do not name are the cluster's own business.
    """
    reasons = []
    for one in objects:
        key = object_key(one)
        found = (facts.objects or {}).get(key)
        if found is None:
            reasons.append(f"{key} is not there")
        elif lost := differing(one, found):
            reasons.append(f"{key}: {lost} was changed")
    if not reasons:
        return []
    arguments = {"objects": list(objects), "wait": [list(words) for words in wait]}
    return [Step(component.title, CLUSTER, name, "manifest", arguments, tuple(reasons))]


def object_key(one: Mapping[str, Any]) -> str:
    """Name an object: ``Kind/namespace/name``, or ``Kind/name`` where there is no namespace."""
    metadata = one["metadata"]
    return "/".join(filter(None, (one["kind"], metadata.get("namespace"), metadata["name"])))


def differing(wanted: object, found: object, path: str = "") -> str:
    """Give the path of the first field that is not as wanted; "" if all are, "." for the whole."""
    here = path.lstrip(".") or "."
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return here
        for key, value in wanted.items():
            if key not in found and value not in ({}, [], "", None, False):
                return f"{path}.{key}".lstrip(".")
            if key in found and (lost := differing(value, found[key], f"{path}.{key}")):
                return lost
        return ""
    if isinstance(wanted, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(wanted):
            return here
        pairs = enumerate(zip(wanted, found, strict=True))
        return next((lost for at, (one, other) in pairs
                     if (lost := differing(one, other, f"{path}[{at}]"))), "")  # fmt: skip
    return "" if wanted == found else here
