"""The site's image registry: TLS by the site's authority, one login."""

import re
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from mlstead.machines._sources import lacking, programs
from mlstead.plan import Component, Facts, Port, Probe, SecretRef, Step, role_steps
from mlstead.spec.site import Site

CERTIFICATE: Final = "registry_certificate"
"""The probe whose answer is the certificate that the registry shows."""
RENEW: Final = 29  # days before its end; the site's secrets make a new one a day earlier
_UNTIL: Final = re.compile(
    rb"\x30[\x1e-\x22](?:\x17\x0d\d{12}|\x18\x0f\d{14})Z(?:\x17\x0d(\d{12})|\x18\x0f(\d{14}))Z"
)
"""The period of a certificate in DER: two times, of which the second is wanted."""


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


def _probes(site: Site, machine: str) -> Sequence[Probe]:
    known = machine in _machines(site)
    return (Probe(CERTIFICATE, ("cat", "/etc/mlstead/registry/tls.crt")),) if known else ()


def _plan(site: Site, facts: Facts) -> list[Step]:
    reasons = {}
    for name in _machines(site):
        days = _days_left(facts, name)
        if days is not None and days < RENEW:
            soon = f"its certificate ends in {days} day{'s' if days != 1 else ''}"
            reasons[name] = (soon if days >= 0 else "its certificate has ended",)
    return role_steps("registry", PART, site, facts, reasons)


def _days_left(facts: Facts, machine: str) -> int | None:
    """Give the whole days until the registry's certificate ends; None if that is not known."""
    host = facts.hosts.get(machine)
    answer = host.answers.get(CERTIFICATE) if host else None
    if host is None or answer is None or answer.code or "clock" not in host.system:
        return None
    try:
        found = _UNTIL.search(ssl.PEM_cert_to_DER_cert(answer.out.strip() + "\n"))
        text = "" if found is None else (found[2] or b"20" + found[1]).decode()
        ends = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int((ends.timestamp() - host.system["clock"]) // 86400)


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
    plan=_plan,
    needs=("network",),
    ports=_ports,
    probes=_probes,
    unmet=_unmet,
)
