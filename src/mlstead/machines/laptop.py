"""The laptop's way into the cluster: a context of kubectl with a certificate of its own."""

import hashlib
import ssl
from collections.abc import Sequence
from typing import Any, Final

from mlstead.machines.kubeadm import API
from mlstead.plan import LAPTOP, SITE_LABEL, Component, Facts, Probe, Step, object_steps
from mlstead.spec.site import Site

NAME: Final = "laptop"
GROUP: Final = "mlstead:admins"
"""The group in the cluster that people of the laptop belong to; it is not kubeadm's own."""
RENEW: Final = 30 * 86400  # seconds before a certificate's end in which it is made anew
AUTHORITY: Final = "authority"
_RBAC: Final = "rbac.authorization.k8s.io"
_ROLE: Final = Component("Let administrators into the cluster", "access")


def _binding(site: Site) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "mlstead", SITE_LABEL: site.name}
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": GROUP, "labels": labels},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": GROUP}],
    }


def server(site: Site) -> str:
    """Give the address of the site's API server."""
    head = site.with_role("control-plane")[0]
    return f"https://{site.machines[head].address}:{API}"


def fingerprint(pem: str) -> str:
    """Give the SHA-256 of a certificate in PEM, whatever its line breaks; "" if it is none."""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip() + "\n")).hexdigest()
    except ValueError:
        return ""


def _probes(site: Site, machine: str) -> Sequence[Probe]:
    if machine not in site.with_role("control-plane"):
        return ()
    return (Probe(AUTHORITY, ("cat", "/etc/kubernetes/pki/ca.crt")),)


def _plan(site: Site, facts: Facts) -> list[Step]:
    if not site.with_role("control-plane"):
        return []
    steps = object_steps(NAME, _ROLE, [_binding(site)], facts)
    if reasons := _reasons(site, facts):
        arguments = {"server": server(site), "context": site.name, "group": GROUP}
        steps.append(Step(PART.title, LAPTOP, NAME, "local", arguments, reasons))
    return steps


def _reasons(site: Site, facts: Facts) -> tuple[str, ...]:
    """Say why the context is not as it must be."""
    found = facts.laptop.get(NAME, {})
    if found.get("problem"):
        return (str(found["problem"]),)
    if not found.get("context"):
        return (f"there is no context {site.name}",)
    if not found["ours"]:
        return (f"the context {site.name} leads to another cluster",)
    reasons = []
    if found["server"] != server(site):
        reasons.append(f"it leads to {found['server']}")
    authority = _authority(site, facts)
    if not found["authority"]:
        reasons.append("it does not verify the server")
    elif authority is not None and found["authority"] != authority:
        reasons.append("the cluster has another authority")
    if GROUP not in found["groups"]:
        reasons.append("it has no certificate of ours")
    elif found["expires"] - found["now"] < RENEW:
        days = int((found["expires"] - found["now"]) // 86400)
        soon = f"its certificate ends in {days} day{'s' if days != 1 else ''}"
        reasons.append(soon if days >= 0 else "its certificate has ended")
    return tuple(reasons)


def _authority(site: Site, facts: Facts) -> str | None:
    """Give the fingerprint of the cluster's authority, "" if it has none; None: not known."""
    host = facts.hosts.get(site.with_role("control-plane")[0])
    answer = host.answers.get(AUTHORITY) if host else None
    return None if answer is None else fingerprint(answer.out)


def _unmet(site: Site, facts: Facts) -> list[str]:
    problem = facts.laptop.get(NAME, {}).get("problem")
    return [str(problem)] if problem else []


PART = Component(
    "Let this machine into the cluster",
    "access",
    plan=_plan,
    needs=("kubeadm",),
    probes=_probes,
    unmet=_unmet,
)
