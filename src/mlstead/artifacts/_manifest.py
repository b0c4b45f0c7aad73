"""The manifest of a version: its identity, its file format, and DVC's folder listing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

from mlstead.artifacts.base import Entry, Manifest
from mlstead.errors import NotFoundError, UserError

_FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_path(path: str) -> None:
    """Refuse a name that climbs out, is absolute, or that some disk or tool cannot hold.

    Raises:
        UserError: the name is not allowed.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{path!r}: the name is not UTF-8", hint="rename the file") from error
    if any(ord(letter) < 32 or letter in "\\\x7f" for letter in path):
        raise UserError(
            f"{path!r}: the name has a backslash or a control character", hint="rename the file"
        )
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise UserError(f"{path!r}: the name leaves the folder")


def check_digest(digest: str) -> str:
    """Refuse what is not a digest, so that it never becomes part of a path.

    Raises:
        NotFoundError: it is no digest, so there is no such version.
    """
    if not _DIGEST.fullmatch(digest):
        raise NotFoundError(f"no version {digest[:80]!r}")
    return digest


def build(entries: Iterable[Entry], *, single: bool) -> Manifest:
    """Make the manifest of a folder, or of a single file."""
    ordered = tuple(sorted(entries, key=lambda entry: entry.path))
    address = ordered[0].md5 if single else folder_address(listing(ordered))
    return Manifest(_identity(ordered, single), address, ordered)


def listing(entries: Iterable[Entry]) -> bytes:
    """Write the folder listing (``.dir`` object) exactly as DVC does."""
    rows = [{"md5": entry.md5, "relpath": entry.path} for entry in entries]
    rows.sort(key=lambda row: row["relpath"])
    return json.dumps(rows, sort_keys=True).encode()


def folder_address(content: bytes) -> str:
    """Give the address of a folder listing."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"


def dump(manifest: Manifest) -> bytes:
    """Write a manifest as JSON."""
    document = {
        "format": _FORMAT,
        "address": manifest.address,
        "entries": [
            [entry.path, entry.size, entry.md5, entry.sha256, entry.executable]
            for entry in manifest.entries
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def parse(digest: str, content: bytes) -> Manifest:
    """Read a manifest and check that it is the one that its digest names.

    Raises:
        UserError: it was changed in the store, or is of a newer format.
    """
    try:
        document = json.loads(content)
        if document["format"] != _FORMAT:
            raise UserError(f"version {digest[:12]} was written by a newer mlstead")
        entries = tuple(Entry(*row) for row in document["entries"])
        manifest = Manifest(digest, str(document["address"]), entries)
        for entry in entries:
            check_path(entry.path)
        single = manifest.single
        good = _identity(entries, single) == digest and (len(entries) == 1 or not single)
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(digest) from error
    expected = entries[0].md5 if single else folder_address(listing(entries))
    if not good or expected != manifest.address:
        raise _corrupt(digest)
    return manifest


def _corrupt(digest: str) -> UserError:
    return UserError(
        f"the manifest of version {digest[:12]} is corrupt", hint="add the data once more"
    )


def _identity(entries: tuple[Entry, ...], single: bool) -> str:
    rows = [[entry.path, entry.size, entry.sha256, entry.executable] for entry in entries]
    text = json.dumps(["file" if single else "folder", rows], separators=(",", ":"))
    return hashlib.sha256(text.encode(), usedforsecurity=False).hexdigest()
