"""Brings pinned inputs to a place where the engine's tasks can read them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlstead.records.base import from_json, to_json
from mlstead.work.base import Backends

Pin = Mapping[str, Any]
_INDEX = "index.json"


def parts_pin(parts: list[dict[str, Any]], mode: str) -> dict[str, Any]:
    """Make one pin of the outputs of all instances of a foreach step.

    Each part has ``index`` (int), ``item``, ``digest`` and ``values``; all of them are what the
    program reads, so all of them make the digest.
    """
    plain = from_json(to_json({"parts": parts}))["parts"]
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return {"digest": digest, "ref": "", "kind": "parts", "mode": mode, "parts": plain}


def locate(backends: Backends, pin: Pin) -> str:
    """Give the path of an input, made ready if it is not there yet."""
    if "parts" in pin:
        return str(_gather(backends, pin))
    return str(backends.artifacts.materialize(pin["digest"]))


def _gather(backends: Backends, pin: Pin) -> Path:
    """Make the folder with one entry per index and an ``index.json``, or mend it.

    It is looked at every time: a program may have written to it or to what it links to, and a
    home may have been moved.
    """
    index = [
        {"index": part["index"], "item": part["item"], "values": part["values"]}
        for part in pin["parts"]
    ]
    text = json.dumps(index, sort_keys=True)
    name = hashlib.sha256((pin["digest"] + text).encode()).hexdigest()[:32]
    folder = backends.home / "cache" / "parts" / name
    # before anything is made: a store that does not answer is asked again later
    wanted = {
        str(part["index"]): str(backends.artifacts.materialize(part["digest"]))
        for part in pin["parts"]
    }
    _mend(folder, {**wanted, _INDEX: text})
    return folder


def _mend(folder: Path, wanted: Mapping[str, str]) -> None:
    """Make a folder hold these links, and this text as ``index.json``, and nothing else.

    Entries that are right stay, and each other one is replaced at once: a running program may
    read them, or another driver may be doing the same.
    """
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    found = _look(folder)
    wrong = [name for name, content in wanted.items() if found.get(name) != content]
    surplus = found.keys() - wanted.keys()
    if not wrong and not surplus:
        return
    folder.chmod(0o755)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=".new-", ignore_cleanup_errors=True
    ) as aside:
        new, old = Path(aside, "new"), Path(aside, "old")
        old.mkdir()
        for name in surplus:
            with suppress(FileNotFoundError):
                (folder / name).rename(old / name)
        for name in wrong:
            if name == _INDEX:
                new.write_text(wanted[name], encoding="utf-8")
            else:
                new.symlink_to(wanted[name])
            place = folder / name
            if place.is_dir() and not place.is_symlink():
                with suppress(FileNotFoundError):
                    place.rename(old / name)
            new.replace(place)


def _look(folder: Path) -> dict[str, str]:
    """Give where each link of a folder leads, what ``index.json`` says, and "" for all else."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            found[entry.name] = ""
            if entry.is_symlink():
                found[entry.name] = os.readlink(entry.path)  # noqa: PTH115
            elif entry.name == _INDEX and entry.is_file():
                found[entry.name] = Path(entry.path).read_text("utf-8", errors="replace")
    return found
