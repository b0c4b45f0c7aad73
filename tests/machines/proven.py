"""What was run on hosts, and on what: kept by the tests, written into the README as a table.

``python -m tests.machines.proven [--readme]`` prints or writes what ``make machines`` left.
"""

from __future__ import annotations

import ast
import json
import platform
import sys
from pathlib import Path

from tests.machines import given

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build/machines.json"
BEGIN, END = "<!-- start of machines -->", "<!-- end of machines -->"

_counts: dict[str, dict[str, float]] = {}


def take(test: str, outcome: str, when: str | None, seconds: float) -> None:
    """Count one report of a test."""
    file = test.split("::")[0]
    found = _counts.setdefault(file, {"passed": 0, "failed": 0, "seconds": 0.0})
    found["seconds"] += seconds
    if outcome == "failed":
        found["failed"] += 1
    elif outcome == "passed" and when == "call":
        found["passed"] += 1


def write() -> None:
    """Keep what was counted, beside what other runs counted of other files."""
    if not _counts:
        return
    KEPT.parent.mkdir(exist_ok=True)
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    on = _system()
    kept.update({file: {**found, "on": on} for file, found in _counts.items()})
    KEPT.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _system() -> str:
    release = Path(given.ROOT or "/") / "usr/lib/os-release"
    lines = release.read_text(encoding="utf-8").splitlines() if release.exists() else []
    names = dict(line.split("=", 1) for line in lines if "=" in line)
    groups = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    manifest = given.BUNDLE / "bundle.json" if given.BUNDLE else None
    versions = json.loads(manifest.read_text()) if manifest and manifest.exists() else {}
    kubernetes = versions.get("versions", {}).get("kubernetes", "")
    hosts = names.get("PRETTY_NAME", "an unknown system").strip('"')
    kernel = platform.release().split("-")[0]
    return f"{hosts}, kernel {kernel}, control groups {groups}, Kubernetes {kubernetes}"


def table() -> str:
    """Give the table of all that was kept."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    rows = ["| what | tests | minutes | on |", "|---|---|---|---|"]
    for file, found in sorted(kept.items()):
        words = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or file
        what = words.splitlines()[0].rstrip(".")
        failed = f", **{found['failed']:.0f} failed**" if found["failed"] else ""
        name = file.rsplit("/", 1)[-1]
        rows.append(
            f"| {what} (`{name}`) | {found['passed']:.0f} passed{failed} "
            f"| {found['seconds'] / 60:.1f} | {found['on']} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Print the table, or put it into the README."""
    if sys.argv[1:] != ["--readme"]:
        print(table())
        return
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    readme.write_text(f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
