"""What is installed, as files of the bundle."""

from collections.abc import Sequence
from typing import Any, Final

from mlstead.plan import CHARTS, Facts, chart_of

PROGRAMS: Final = "/usr/local/bin"
NO_BUNDLE: Final = "no bundle is given, and this version installs from bundles only"


def programs(facts: Facts, *names: str, folder: str = PROGRAMS) -> list[dict[str, str]]:
    """Give the programs of the bundle as the role copies them; none without a bundle."""
    wanted = {f"bin/{name}" for name in names}
    return _copies(facts, sorted(wanted), folder, "0755")


def plugins(facts: Facts) -> list[dict[str, str]]:
    """Give the CNI plugins of the bundle."""
    paths = [file.path for file in facts.bundle.under("cni")] if facts.bundle else []
    return _copies(facts, paths, "/opt/cni/bin", "0755")


def archives(facts: Facts) -> list[dict[str, str]]:
    """Give the archives of images in the bundle."""
    paths = [file.path for file in facts.bundle.under("images")] if facts.bundle else []
    return _copies(facts, paths, "/var/lib/mlstead/images", "0644")


def charts(facts: Facts, *names: str) -> list[dict[str, str]]:
    """Give the Helm charts of the bundle that have some names, whatever their versions."""
    found = facts.bundle.under("charts") if facts.bundle else ()
    paths = [it.path for it in found if chart_of(it.path)[0] in names]
    return _copies(facts, paths, CHARTS, "0644")


def links(facts: Facts, *names: str) -> list[dict[str, str]]:
    """Give the links among the bundle's programs."""
    known = facts.bundle.links if facts.bundle else {}
    found = [(name, known[f"bin/{name}"]) for name in names if f"bin/{name}" in known]
    return [{"dest": f"{PROGRAMS}/{name}", "to": to} for name, to in found]


def targets(facts: Facts, *names: str) -> list[str]:
    """Name the programs that some programs are, links followed."""
    known = facts.bundle.links if facts.bundle else {}
    return sorted({known.get(f"bin/{name}", name) for name in names})


def lacking(facts: Facts, *names: str) -> list[str]:
    """Name the programs that the bundle should have and does not."""
    if facts.bundle is None:
        return [NO_BUNDLE]
    there = {file.path for file in facts.bundle.files} | set(facts.bundle.links)
    return [f"the bundle has no bin/{name}" for name in names if f"bin/{name}" not in there]


def _copies(facts: Facts, paths: Sequence[str], folder: str, mode: str) -> list[dict[str, Any]]:
    known = {file.path: file for file in facts.bundle.files} if facts.bundle else {}
    return [
        {
            "src": path,
            "dest": f"{folder}/{path.rsplit('/', 1)[-1]}",
            "sha256": known[path].sha256,
            "mode": mode,
        }
        for path in paths
        if path in known
    ]
