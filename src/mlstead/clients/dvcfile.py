"""Reads ``.dvc`` files: what a DVC repository says a piece of data is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlstead.errors import NotFoundError, UserError

_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class DvcOut:
    """The data that a ``.dvc`` file names.

    Attributes:
        md5: DVC's address, with ``.dir`` for a folder.
        path: the name of the file or folder, beside the ``.dvc`` file.
        size: bytes; 0 where the file does not say.
        nfiles: files in the folder; 0 where the file does not say, 1 for a single file.
    """

    md5: str
    path: str
    size: int = 0
    nfiles: int = 0


def read_dvc(path: Path) -> DvcOut:
    """Read the one output of a ``.dvc`` file.

    Raises:
        NotFoundError: there is no such file.
        UserError: it is not a ``.dvc`` file with exactly one output kept by md5.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise UserError(f"{path}: too large for a .dvc file")
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as a .dvc file: {reason}") from error
    return _out(path, document)


def _out(path: Path, document: Any) -> DvcOut:
    outs = document.get("outs") if isinstance(document, dict) else None
    if not isinstance(outs, list) or len(outs) != 1 or not isinstance(outs[0], dict):
        raise UserError(f"{path}: names no data, or more than one", hint="one output per .dvc file")
    out = outs[0]
    md5, name = str(out.get("md5", "")), str(out.get("path", ""))
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5):
        raise UserError(f"{path}: has no md5", hint="data that DVC keeps by md5 can be used")
    if not name or name in (".", "..") or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{path}: its path {name!r} leaves the folder")
    folder = md5.endswith(".dir")
    return DvcOut(md5, name, _number(out.get("size")), _number(out.get("nfiles")) if folder else 1)


def _number(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
