"""Finds the files of a folder that is to be stored, and refuses what cannot be."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from mlstead.artifacts._manifest import check_path
from mlstead.errors import NotFoundError, UserError

_DEEPEST = 200
_MOST_FILES = 5_000_000  # links to folders can multiply without end


@dataclass(frozen=True, slots=True)
class Found:
    """A file to store.

    Attributes:
        path: where it shall stand in the version.
        real: where its bytes are, links followed.
        size: bytes.
        executable: the owner may run it.
        md5: the md5 that it must have; empty where nobody promised one.
        legacy: the md5 was perhaps taken with line ends made uniform (DVC before 3).
    """

    path: str
    real: str
    size: int
    executable: bool = False
    md5: str = ""
    legacy: bool = False


def find(source: Path, without: Container[str] = ()) -> tuple[list[Found], bool]:
    """List the files of a folder, or the one file; tell which of the two it was.

    Args:
        source: the folder or file; a link is followed.
        without: names to leave out where they stand directly in the folder.

    Raises:
        NotFoundError: the source does not exist.
        UserError: something in it cannot be stored.
    """
    try:
        root = os.path.realpath(source, strict=True)
        status = Path(root).stat()
    except FileNotFoundError as error:
        raise NotFoundError(f"{source}: no such file or folder") from error
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from error
    if stat.S_ISREG(status.st_mode):
        check_path(source.name or Path(root).name)
        return [_found(source.name or Path(root).name, root, status)], True
    if not stat.S_ISDIR(status.st_mode):
        raise UserError(f"{source}: {_what(status)}, neither a file nor a folder")
    found: list[Found] = []
    try:
        with os.scandir(root) as entries:
            top = [entry for entry in entries if entry.name not in without]
        _walk(root, top, "", (root,), found)
    except UserError as error:
        # whoever did not choose the folder, such as that of a run's outputs, learns which it is
        raise UserError(f"{error} (in {root})", hint=error.hint) from error
    except OSError as error:
        raise UserError(f"{error.filename or source}: {error.strerror}") from error
    return found, False


def _walk(
    root: str,
    entries: Iterable[os.DirEntry[str]],
    prefix: str,
    above: tuple[str, ...],
    found: list[Found],
) -> None:
    if len(above) > _DEEPEST or len(found) > _MOST_FILES:
        raise UserError(f"{prefix}: too deep, or too many files", hint="pack it into an archive")
    for entry in entries:
        path = prefix + entry.name
        check_path(path)
        real = _inside(root, entry.path, path) if entry.is_symlink() else entry.path
        status = entry.stat()
        if stat.S_ISREG(status.st_mode):
            found.append(_found(path, real, status))
        elif not stat.S_ISDIR(status.st_mode):
            raise UserError(
                f"{path}: {_what(status)} cannot be kept", hint="remove it, or leave it out"
            )
        elif real in above:
            raise UserError(f"{path}: a link to a folder that it stands in")
        else:
            with os.scandir(real) as below:
                _walk(root, below, path + "/", (*above, real), found)


def _what(status: os.stat_result) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")


def _inside(root: str, link: str, path: str) -> str:
    try:
        real = os.path.realpath(link, strict=True)
    except OSError as error:
        raise UserError(f"{path}: the link points to nothing") from error
    if not real.startswith(root.rstrip("/") + "/") and real != root:
        raise UserError(
            f"{path}: the link points outside the folder",
            hint="copy what it points to, or leave it out",
        )
    return real


def _found(path: str, real: str, status: os.stat_result) -> Found:
    return Found(path, real, status.st_size, bool(status.st_mode & stat.S_IXUSR))
