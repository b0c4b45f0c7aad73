"""Finds in a DVC repository's cache the bytes that one of its ``.dvc`` files names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstead.artifacts._manifest import check_path
from mlstead.artifacts._walk import Found
from mlstead.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from mlstead.clients.dvcfile import DvcOut


def find(repo_cache: Path, out: DvcOut) -> list[Found]:
    """List the files of an output, with the md5 that each must have.

    Args:
        repo_cache: the repository's ``.dvc/cache``.
        out: what the ``.dvc`` file says.

    Raises:
        NotFoundError: the cache lacks an object.
        UserError: a listing is corrupt, or a name in it climbs.
    """
    if not out.md5.endswith(".dir"):
        name = Path(out.path).name
        check_path(name)
        return [_blob(repo_cache, out.md5, name)]
    listing, _ = _place(repo_cache, out.md5)
    content = listing.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir" != out.md5:
        raise UserError(f"{out.path}: its listing in {repo_cache} is corrupt")
    try:
        rows = [(str(row["relpath"]), str(row["md5"])) for row in _rows(json.loads(content))]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out.path}: its listing in {repo_cache} cannot be read") from error
    paths = [path for path, _ in rows]
    for path in paths:
        check_path(path)
    if len(set(paths)) != len(paths):
        raise UserError(f"{out.path}: its listing names a file twice")
    return [_blob(repo_cache, md5, path) for path, md5 in rows]


def _rows(document: Any) -> list[Any]:
    if not isinstance(document, list):
        raise ValueError("not a list")
    return document


def _blob(repo_cache: Path, md5: str, path: str) -> Found:
    place, legacy = _place(repo_cache, md5)
    status = place.stat()
    return Found(path, str(place), status.st_size, bool(status.st_mode & 0o100), md5, legacy)


def _place(repo_cache: Path, md5: str) -> tuple[Path, bool]:
    if not md5.removesuffix(".dir").isalnum():
        raise UserError(f"{md5!r} is not an md5")
    for folder, legacy in ((repo_cache / "files" / "md5", False), (repo_cache, True)):
        place = folder / md5[:2] / md5[2:]
        if place.is_file():
            return place, legacy
    raise NotFoundError(f"{md5} is not in {repo_cache}", hint="dvc fetch brings it there")
