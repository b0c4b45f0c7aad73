"""What a run needs of the process that submitted it: its Python, its packages, its environment.

A driver may live in another virtual environment than the person who submits; what it starts must
run where it was asked for. Values with passwords in them are not kept, only their names.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from mlstead.records.base import Run
from mlstead.work.base import Backends

OWN = ("interpreter", "python", "uv", "git", "environment", "private")
"""The facts that are the caller's and not the machine's."""
_INSTALLED = (".dist-info", ".egg-info", ".egg-link")


def told(backends: Backends) -> dict[str, Any]:
    """Give what must be kept so that a driver prepares tasks as the caller would."""
    details = backends.facts.details
    return {name: details[name] for name in OWN if name in details}


def packages() -> list[str]:
    """List what is installed where this process runs: ``numpy-2.1.0``, by name."""
    found: set[str] = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder)  # noqa: PTH208 one of them may be no folder
        except OSError:
            continue
        found |= {name.rsplit(".", 1)[0] for name in names if name.endswith(_INSTALLED)}
    return sorted(found)


def environment_key(backends: Backends) -> str:
    """Hash the environment of the caller: which Python, where, with which packages."""
    details = backends.facts.details
    parts = [
        str(details.get("interpreter", "")),
        str(details.get("python", "")),
        str(details.get("platform", "")),
        packages(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def as_submitted(backends: Backends, run: Run) -> Backends:
    """Give backends whose facts are those that the submitter of a run had."""
    caller: Mapping[str, Any] | None = run.extra.get("caller")
    if not caller:
        return backends
    details = {**backends.facts.details, **caller}
    return dataclasses.replace(backends, facts=dataclasses.replace(backends.facts, details=details))
