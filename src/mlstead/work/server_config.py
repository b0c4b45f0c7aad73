"""Writes down for a model server what it serves: folders of models and code, traffic, port."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlstead.errors import PlatformError
from mlstead.records.base import Run
from mlstead.spec.work import ServiceBody
from mlstead.work.base import Backends
from mlstead.work.generations import folder_of, name_of


@dataclass(frozen=True, slots=True)
class Parts:
    """What a generation is made of; ``kept`` names the versions of the generation before."""

    versions: Mapping[str, Mapping[str, Any]]
    traffic: Mapping[str, int]
    port: int
    kept: frozenset[str] = frozenset()


def server_config(backends: Backends, run: Run, spec: ServiceBody, parts: Parts) -> dict[str, Any]:
    """Lay out the code and the models, and give what the server's configuration file holds.

    Raises:
        PlatformError: a model or the code cannot be laid out; one kept from before is left out.
    """
    tree = run.extra.get("pin", {}).get("tree", "")
    versions = {}
    for name, version in parts.versions.items():
        try:
            versions[name] = _version(backends, run, version, tree)
        except PlatformError:
            if name not in parts.kept:
                raise
            continue
        versions[name]["optional"] = name in parts.kept
    return {
        "name": name_of(run),
        "host": "127.0.0.1",
        "port": parts.port,
        "ready_file": str(folder_of(backends, run) / "ready.json"),
        "versions": versions,
        "traffic": dict(parts.traffic),
        "code": _code(backends, run, tree),
        "params": dict(spec.params),
    }


def _version(backends: Backends, run: Run, version: Mapping[str, Any], tree: str) -> dict[str, Any]:
    """Describe one version; what it was made with is named only where the service's differs."""
    own = version.get("code", tree)
    return {
        "path": str(backends.artifacts.materialize(version["digest"])),
        "runtime": version["runtime"],
        "number": version["number"],
        "code": "" if own == tree else _code(backends, run, own),
        "params": version.get("params"),
    }


def _code(backends: Backends, run: Run, tree: str) -> str:
    if not tree:
        return ""
    target: Path = folder_of(backends, run) / f"code-{tree[:16]}"
    if not target.exists():
        backends.code.checkout(tree, target)
    return str(target)
