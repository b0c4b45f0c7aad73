"""All parts of machines and cluster, in the order in which they are installed."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, cast

import mlstead.apps
import mlstead.machines
from mlstead import discover
from mlstead.plan import PHASES, Component
from mlstead.spec.site import Site

LEAVING: Final = ("remove.yml", "drain.yml", "forget.yml")


@cache
def machine_parts() -> Mapping[str, Component]:
    """Give every part of a machine by name, in the order of an install."""
    found = {
        name: discover.part(mlstead.machines, name).PART
        for name in discover.names(mlstead.machines)
    }
    return ordered(found)


@cache
def apps() -> Mapping[str, Component]:
    """Give everything that can be installed in the cluster by name, in the order of an install."""
    found = {name: discover.part(mlstead.apps, name).PART for name in discover.names(mlstead.apps)}
    return ordered(found)


def charts_of(site: Site) -> tuple[str, ...]:
    """Name the Helm charts that the apps of a site are made of."""
    return tuple(chart for name, app in apps().items() if name in site.apps for chart in app.charts)


def ordered(parts: Mapping[str, Component]) -> dict[str, Component]:
    """Sort parts by phase, then so that each comes after what it needs, then by name.

    Raises:
        ValueError: parts need each other, or one needs a part of a later phase or an unknown one.
    """
    left = sorted(parts, key=lambda name: (PHASES.index(parts[name].phase), name))
    done: dict[str, Component] = {}
    while left:
        ready = next((name for name in left if set(parts[name].needs) <= set(done)), None)
        if ready is None:
            raise ValueError(f"parts that cannot be ordered: {', '.join(left)}")
        if PHASES.index(parts[ready].phase) < max(
            (PHASES.index(part.phase) for part in done.values()), default=0
        ):
            raise ValueError(f"{ready} needs a part of a later phase")
        done[ready] = parts[ready]
        left.remove(ready)
    return done


def ansible_folder() -> Path:
    """Give the folder of our Ansible roles, modules and plugins."""
    return Path(cast("str", files("mlstead") / "ansible"))


@cache
def role_digests() -> Mapping[str, str]:
    """Give the hash of each role as it is shipped: one that changed is applied again.

    What drains and removes is left out: nothing on a machine depends on it.
    """
    roles = files("mlstead") / "ansible" / "roles"
    return {role.name: _hash(role) for role in roles.iterdir() if role.is_dir()}


def _hash(folder: Traversable) -> str:
    found = hashlib.sha256()
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.name in LEAVING:
            continue
        content = _hash(entry).encode() if entry.is_dir() else entry.read_bytes()
        found.update(f"{entry.name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()
