"""The site's image registry: TLS by the site's authority, one login."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlstead.machines._sources import lacking, programs
from mlstead.plan import Component, Facts, Port, SecretRef
from mlstead.spec.site import Site


def address(site: Site) -> str:
    """Give host and port of the registry; "" if the site has none."""
    found = site.with_role("registry")
    return f"{site.machines[found[0]].address}:{site.registry.port}" if found else ""


def _machines(site: Site) -> Sequence[str]:
    return site.with_role("registry")


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    return {
        "registry_files": programs(facts, "registry"),
        "registry_address": address(site),
        "registry_path": site.registry.path,
        "registry_certificate": SecretRef("registry.crt"),
        "registry_key": SecretRef("registry.key"),
        "registry_password": SecretRef("registry.password"),
    }


def _ports(site: Site) -> Sequence[Port]:
    login = "user mlstead and the site's password"
    return [
        Port(name, site.registry.port, "registry", "anywhere", login) for name in _machines(site)
    ]


def _unmet(site: Site, facts: Facts) -> list[str]:
    return lacking(facts, "registry") if _machines(site) else []


PART = Component(
    "Install the image registry",
    "registry",
    machines=_machines,
    inputs=_inputs,
    needs=("network",),
    ports=_ports,
    unmet=_unmet,
)
