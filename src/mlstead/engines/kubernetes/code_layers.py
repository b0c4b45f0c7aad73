"""Code as layers: a git tree in buckets, so that a changed file makes one small layer anew."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mlstead.clients import git_read
from mlstead.clients.git_read import Entry
from mlstead.engines.base import Code
from mlstead.engines.kubernetes.layers import Part, Tar

FOLDER: Final = "/mlstead/code"
"""Where the code is in an image."""
_WHOLE: Final = 4 << 20  # bytes; a tree up to this is one layer
_LARGE: Final = 1 << 20  # bytes; such files do not travel with small ones
_BUCKETS: Final = 16
_LINK: Final = "120000"
_PROGRAM: Final = "100755"


def code_parts(code: Code) -> list[Part]:
    """Say which layers hold a tree; which bucket a file is in depends on its path.

    Raises:
        NotFoundError: the store has no such tree.
    """
    store = Path(code.store)
    entries = git_read.files(store, code.tree)
    buckets = _split(entries)
    several = f" of {len(buckets)}" if len(buckets) > 1 else ""
    return [
        Part(f"code{several and f' {number}{several}'}", _key(bucket), _Files(store, bucket))
        for number, bucket in enumerate(buckets, 1)
    ]


def _split(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Divide files; the first bucket is there even if there are none."""
    if sum(entry.size for entry in entries) <= _WHOLE:
        return [list(entries)]
    found: dict[tuple[bool, int], list[Entry]] = {}
    for entry in entries:
        place = (entry.size >= _LARGE, hashlib.sha256(entry.path).digest()[0] % _BUCKETS)
        found.setdefault(place, []).append(entry)
    return [found[place] for place in sorted(found)]


def _key(bucket: Sequence[Entry]) -> str:
    text = b"\0".join(f"{it.mode} {it.blob} ".encode() + it.path for it in bucket)
    return hashlib.sha256(FOLDER.encode() + b"\0" + text).hexdigest()


class _Files:
    """Writes the files of one bucket."""

    def __init__(self, store: Path, bucket: Sequence[Entry]) -> None:
        self._store, self._bucket = store, bucket

    def __call__(self, tar: Tar) -> None:
        tar.folder(FOLDER[1:])
        if not self._bucket:
            return
        with git_read.contents(self._store, [entry.blob for entry in self._bucket]) as files:
            for entry, file in zip(self._bucket, files, strict=True):
                path = f"{FOLDER[1:]}/{_text(entry.path)}"
                if entry.mode == _LINK:
                    tar.link(path, _text(file.read(entry.size)))
                else:
                    tar.file(path, file, entry.size, program=entry.mode == _PROGRAM)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
