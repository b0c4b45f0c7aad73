"""Brings pinned inputs to a place where the engine's tasks can read them."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlstead.records.base import from_json, to_json
from mlstead.work.base import Backends

Pin = Mapping[str, Any]


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
    # before anything is made: a store that does not answer is asked again later
    sources = {it["index"]: backends.artifacts.materialize(it["digest"]) for it in pin["parts"]}
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    for place, source in sources.items():
        (aside / str(place)).symlink_to(source)
    (aside / "index.json").write_text(text, encoding="utf-8")
    try:
        os.rename(aside, folder)  # noqa: PTH104 must fail when another made it meanwhile
    except OSError:
        shutil.rmtree(aside)
    return folder
