"""Brings pinned inputs to a place where the engine's tasks can read them."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlstead.work.base import Backends

Pin = Mapping[str, Any]


def parts_pin(parts: list[dict[str, Any]], mode: str) -> dict[str, Any]:
    """Make one pin of the outputs of all instances of a foreach step.

    Each part has ``index`` (int), ``item``, ``digest`` and ``values``.
    """
    text = json.dumps([[part["index"], part["digest"]] for part in parts])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"digest": digest, "ref": "", "kind": "parts", "mode": mode, "parts": parts}


def locate(backends: Backends, pin: Pin) -> str:
    """Give the path of an input, made ready if it is not there yet."""
    if "parts" in pin:
        return str(_gather(backends, pin))
    return str(backends.artifacts.materialize(pin["digest"]))


def _gather(backends: Backends, pin: Pin) -> Path:
    """Make the folder with one entry per index and an ``index.json``; once."""
    index = [
        {"index": part["index"], "item": part["item"], "values": part["values"]}
        for part in pin["parts"]
    ]
    text = json.dumps(index, sort_keys=True)
    name = hashlib.sha256((pin["digest"] + text).encode()).hexdigest()[:32]
    folder = backends.home / "cache" / "parts" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    for part in pin["parts"]:
        source = backends.artifacts.materialize(part["digest"])
        (aside / str(part["index"])).symlink_to(source)
    (aside / "index.json").write_text(text, encoding="utf-8")
    try:
        os.rename(aside, folder)  # noqa: PTH104 must fail when another made it meanwhile
    except OSError:
        shutil.rmtree(aside)
    return folder
