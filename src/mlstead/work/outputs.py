"""Keeps what a program wrote: blobs first, then versions and links in the commit that ends it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mlstead.artifacts.base import Manifest
from mlstead.errors import NotFoundError, UserError
from mlstead.records.base import AddLinks, AddVersion, Change, Link, Run, SetAlias, Version
from mlstead.work.base import Backends

VALUES = "values.json"


def read_values(folder: Path) -> dict[str, Any]:
    """Read the small values a program left; {} if it left none or left nonsense."""
    try:
        values = json.loads((folder / VALUES).read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def leaves_nothing(backends: Backends, run: Run) -> bool:
    """Say whether a program that has ended left no output, so that its run can end at once."""
    return backends.engine.leaves_nothing(run.id)


def keep(backends: Backends, run: Run, folder: Path, *, partial: bool, now: float) -> list[Change]:
    """Store a run's output folder; give the changes that make it visible.

    Declared data and models become numbered versions, unless ``partial``. What was not declared
    is kept together as the output ``files``; links in it, such as ``latest -> model``, are kept
    as copies of what they lead to, also where that is a declared output. (The store holds equal
    bytes once.) Nothing is moved or changed, so that keeping may be tried again.

    Raises:
        UserError: something in it cannot be kept, such as a link that leads out of it.
    """
    declared: Mapping[str, Any] = run.spec["outputs"]
    if folder.is_symlink():
        raise UserError("outputs: the program put a link in place of $MLSTEAD_OUTPUTS")
    if not folder.is_dir():
        return []
    there = {path.name: path for path in folder.iterdir() if path.name != VALUES}
    for name, entry in there.items():
        # a link at the top would be followed by who stores it: to any folder of the user
        if entry.is_symlink() and not entry.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"outputs: {name}: the link points outside the folder",
                hint="cp -rL copies what links lead to, such as inputs",
            )
    changes: list[Change] = []
    links: list[Link] = []
    for slot, output in declared.items():
        path = there.pop(slot, None)
        if path is None or output["kind"] == "value":
            continue
        manifest = backends.artifacts.add(path)
        ref = ""
        if output["name"] and not partial and output["kind"] in ("data", "model"):
            version, more = _version(backends, run, slot, output, manifest, now)
            changes += more
            ref = f"{version.name}@{version.number}"
        links.append(Link(run.id, "output", slot, output["kind"], manifest.digest, ref, partial))
    if there:
        rest = backends.artifacts.add(folder, without={VALUES, *declared})
        links.append(Link(run.id, "output", "files", "files", rest.digest, "", partial))
    if links:
        changes.append(AddLinks(tuple(links)))
    return changes


def _version(
    backends: Backends,
    run: Run,
    slot: str,
    output: Mapping[str, Any],
    manifest: Manifest,
    now: float,
) -> tuple[Version, list[Change]]:
    kind: Literal["data", "model"] = output["kind"]
    try:
        last = backends.store.version(run.project, kind, output["name"])
        if kind == "data" and last.digest == manifest.digest:
            return last, []
    except NotFoundError:
        pass
    version = Version(
        run.project,
        kind,
        output["name"],
        backends.store.next_number(run.project, kind, output["name"]),
        manifest.digest,
        manifest.size,
        manifest.files,
        run.id,
        slot,
        now,
        meta={"code": run.code, "environment": run.environment, "params": dict(run.params)},
    )
    aliases = [
        SetAlias(run.project, kind, version.name, alias, version.number)
        for alias in output["alias"]
    ]
    return version, [AddVersion(version), *aliases]
