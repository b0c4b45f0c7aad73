"""Addresses of the site's own network for services of type LoadBalancer, by MetalLB over ARP."""

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from mlstead.apps._objects import image_parts, labelled, namespace, objects_probe
from mlstead.apps._options import chosen
from mlstead.apps._releases import Wanted, helm_steps
from mlstead.plan import Component, Facts, Port, Probe, Step, object_steps
from mlstead.spec.base import List, Model
from mlstead.spec.site import Site

NAME: Final = "metallb"
NAMESPACE: Final = "metallb-system"
POOL: Final = "site"
KINDS: Final = ",".join(
    f"{kind}.metallb.io"
    for kind in ("ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers",
                 "bfdprofiles", "communities")
)  # fmt: skip
IMAGES: Final = ("controller", "speaker")
SMALL: Final = {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"memory": "192Mi"}}


def ends(text: str) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """Give the first and the last address of ``a-b`` or of a network ``a/n``.

    Raises:
        ValueError: it is neither.
    """
    if "/" in text:
        network = ipaddress.IPv4Network(text)
        return network[0], network[-1]
    first, _, last = text.partition("-")
    found = ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip())
    if found[0] > found[1]:
        raise ValueError("its end comes before its start")
    return found


def _range(value: str) -> str:
    try:
        ends(value)
    except ValueError as error:
        example = "192.168.10.200-192.168.10.220 or 192.168.10.200/29"
        raise ValueError(f"must be addresses such as {example}; found {value}") from error
    return value


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    # Not min_length: pydantic does not count items that are wrong, and would tell both.
    if not value:
        raise ValueError("must not be empty")
    return value


Range = Annotated[str, AfterValidator(_range)]


class Options(Model):
    """The addresses that it may give away."""

    addresses: Annotated[List[Range], AfterValidator(_some)] = Field(
        description="Free addresses of the machines' own network: from-to, or a network.",
        json_schema_extra={"minItems": 1},
    )


OPTIONS: Final = Options


def _plan(site: Site, facts: Facts) -> list[Step]:
    options = chosen(site, NAME, Options)
    if options is None:
        return []
    # The speaker listens for ARP on the nodes' own network.
    place = labelled(site, NAME, [namespace(NAMESPACE, "privileged")])
    first = object_steps(NAME, PART, place, facts)
    release = helm_steps(NAME, PART, site, facts, Wanted(NAME, NAMESPACE, NAME, _values(facts)))
    pool = object_steps(NAME, PART, labelled(site, NAME, _pool(options)), facts)
    named = (("namespace", first), ("release", release), ("addresses", pool))
    return [replace(step, what=what) for what, steps in named for step in steps]


def _values(facts: Facts) -> dict[str, Any]:
    image = {name: image_parts(_image(facts, name)) for name in IMAGES}
    return {
        "controller": {"image": image["controller"], "resources": SMALL},
        "speaker": {
            "image": image["speaker"],
            "resources": SMALL,
            "frr": {"enabled": False},
        },
        "frrk8s": {"enabled": False},
    }


def _image(facts: Facts, name: str) -> str:
    images = facts.bundle.images if facts.bundle else ()
    return next((it for it in images if it.split(":")[0].endswith(f"/metallb/{name}")), "")


def _pool(options: Options) -> list[dict[str, Any]]:
    metadata = {"name": POOL, "namespace": NAMESPACE}
    version = "metallb.io/v1beta1"
    pool = {"addresses": [_written(text) for text in options.addresses]}
    return [
        {"apiVersion": version, "kind": "IPAddressPool", "metadata": metadata, "spec": pool},
        {
            "apiVersion": version,
            "kind": "L2Advertisement",
            "metadata": metadata,
            "spec": {"ipAddressPools": [POOL]},
        },
    ]


def _written(text: str) -> str:
    return text if "/" in text else "-".join(part.strip() for part in text.split("-"))


def _probes(site: Site, machine: str) -> Sequence[Probe]:
    return objects_probe(site, machine, NAME, KINDS)


def _ports(site: Site) -> Sequence[Port]:
    if chosen(site, NAME, Options) is None:
        return ()
    owner = "MetalLB's speaker"
    return [
        port
        for node in site.nodes
        for port in (
            Port(node, 9120, owner, "anywhere", "a token of the cluster"),
            Port(node, 7946, owner, "anywhere", "a key that the speakers share"),
            Port(node, 7946, owner, "anywhere", "a key that the speakers share", "udp"),
            Port(node, 17472, owner, "loopback", ""),
        )
    ]


def _unmet(site: Site, facts: Facts) -> list[str]:
    options = chosen(site, NAME, Options)
    if options is None:
        return []
    found = []
    for text in options.addresses:
        first, last = ends(text)
        found += [
            f"metallb: {text} holds the address of {name}, {machine.address}"
            for name, machine in site.machines.items()
            if first <= ipaddress.IPv4Address(machine.address) <= last
        ]
    if facts.bundle is not None:
        lacks = [name for name in IMAGES if not _image(facts, name)]
        found += [f"the bundle has no image metallb/{name}" for name in lacks]
    return found


PART = Component(
    "Give services addresses of the site",
    "apps",
    plan=_plan,
    needs=("pod_network",),
    ports=_ports,
    probes=_probes,
    unmet=_unmet,
    charts=(NAME,),
    kinds=KINDS,
)
