"""What the machine that mlstead is called on knows of a site's cluster: its context of kubectl."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import mlstead.clients
from mlstead import discover
from mlstead.clients import kubeconfig
from mlstead.errors import PlatformError
from mlstead.machines.laptop import NAME, fingerprint
from mlstead.spec.site import Site


def entry(site: Site) -> str:
    """Give the name of the site's cluster and user in a kubeconfig."""
    return f"mlstead-{site.name}"


def look(site: Site, path: Path | None = None) -> Mapping[str, Any]:
    """Gather the facts of this machine, by component; nothing is changed.

    Args:
        site: whose context.
        path: the kubeconfig, if not the user's own.
    """
    path = path or kubeconfig.find()
    try:
        return {NAME: _context(site, path)}
    except PlatformError as error:
        return {NAME: {"file": str(path), "context": False, "problem": str(error)}}


def _context(site: Site, path: Path) -> Mapping[str, Any]:
    ours = entry(site)
    context = next((it for it in kubeconfig.contexts(path) if it.name == site.name), None)
    access = kubeconfig.access(path, site.name)
    facts: dict[str, Any] = {"file": str(path), "context": context is not None, "now": time.time()}
    if context is None:
        return facts
    found = None
    if access and access.certificate and access.key:
        reader: ModuleType = discover.part(mlstead.clients, "certificate")
        found = reader.read(access.certificate)
    return {
        **facts,
        "ours": context.cluster == ours and context.user == ours and access is not None,
        "server": access.server if access else "",
        "authority": fingerprint(access.authority) if access else "",
        "user": found.name if found else "",
        "groups": found.groups if found else (),
        "expires": found.expires if found else 0.0,
    }


def forget(site: Site, path: Path | None = None) -> bool:
    """Take the site's context, cluster and user out of the kubeconfig; say whether one was there.

    Raises:
        UserError: the file is damaged, no kubeconfig, or cannot be changed; it stays as it is.
        UnavailableError: another program is changing it.
    """
    return kubeconfig.remove(path or kubeconfig.find(), site.name, entry=entry(site))
