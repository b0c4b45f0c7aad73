"""Checkpoints that survive a kill at any moment: complete, or not there.

A checkpoint ``model.pt`` is a file ``<number>-<sha256, 32 digits>-model.pt`` in the run's
checkpoint folder. Content and checksum thus appear by one rename, and the content is exactly
what the program gave.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlstead.errors import UserError
from mlstead.runner.folders import checkpoints

_CHUNK = 1 << 20  # bytes
_DIGITS = 32
_ABANDONED = 3600.0  # seconds after which a half-written file is nobody's any more


def save_checkpoint(content: bytes | str | os.PathLike[str], name: str, *, keep: int = 2) -> Path:
    """Keep bytes, or a copy of a file, as the newest checkpoint of that name; give its path.

    The ``keep`` newest ones stay. Save from one worker only, or use a name per worker.

    Raises:
        UserError: the name is no plain file name, or ``keep`` is less than 1.
        OSError: the disk is full or not writable; older checkpoints are untouched.
    """
    if keep < 1 or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise UserError(
            f"cannot keep {keep} of checkpoint {name!r}",
            hint="a name is letters, digits, '.', '_' and '-'; keep at least one",
        )
    folder = checkpoints()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            digest = hashlib.sha256()
            for chunk in _chunks(content):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        older = _found(folder, name)
        number = older[0][0] + 1 if older else 1
        path = folder / f"{number:08d}-{digest.hexdigest()[:_DIGITS]}-{name}"
        os.replace(temporary, path)  # noqa: PTH105 a name, not a Path
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    _sync(folder)
    _drop([file for _, file in older[keep - 1 :]] + _abandoned(folder, name))
    return path


def latest_checkpoint(name: str) -> Path | None:
    """Give the newest complete checkpoint of that name, or None; damaged ones are passed over.

    Its whole content is read once, to compare the checksum.
    """
    for _, path in _found(checkpoints(), name):
        with contextlib.suppress(OSError):
            digest = hashlib.sha256()
            for chunk in _chunks(path):
                digest.update(chunk)
            if digest.hexdigest()[:_DIGITS] == path.name.split("-", 2)[1]:
                return path
    return None


def _found(folder: Path, name: str) -> list[tuple[int, Path]]:
    """List the checkpoints of a name with their numbers, newest first, unchecked."""
    pattern = re.compile(rf"(\d{{8,}})-[0-9a-f]{{{_DIGITS}}}-{re.escape(name)}")
    matches = ((pattern.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _chunks(content: bytes | str | os.PathLike[str]) -> Iterator[bytes]:
    if isinstance(content, (bytes, bytearray, memoryview)):
        yield content
        return
    with open(content, "rb") as file:  # noqa: PTH123 a name, not a Path
        while True:
            chunk = file.read(_CHUNK)
            if not chunk:
                return
            yield chunk


def _abandoned(folder: Path, name: str) -> list[Path]:
    """List what programs killed while writing left behind, long enough ago."""
    before = time.time() - _ABANDONED
    left = []
    for path in folder.glob(f".{name}-*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                left.append(path)
    return left


def _drop(files: list[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()


def _sync(folder: Path) -> None:
    """Make the rename last; not every file system can, which costs only a power cut's luck."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
