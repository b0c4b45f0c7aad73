"""Writes the folder (or file) of a version from objects on this disk, checking every byte."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from mlstead.artifacts import _disk, _hashing
from mlstead.artifacts._manifest import check_digest
from mlstead.artifacts.base import Entry, Manifest
from mlstead.errors import ConflictError, UserError

Blob = Callable[[Entry], Path]
"""Gives the place on this disk of the bytes of a file."""

_LOOK_SECONDS = 10.0
_DAY = 86400.0
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
_THREADS = min(4, os.cpu_count() or 1)


def checkout(manifest: Manifest, blob: Blob, target: Path, mode: str) -> None:
    """Write a version to a place of the caller's, whole or not at all.

    Raises:
        ConflictError: the target exists and is not empty.
        UserError: the mode is unknown, an object is corrupt or missing, or the disk is full.
    """
    if mode not in ("copy", "link"):
        raise UserError(f"no mode {mode!r}", hint="copy or link")
    if manifest.single and target.is_dir() and not target.is_symlink():
        target = target / manifest.entries[0].path
    _free(target)
    aside = _disk.beside(target)
    with _disk.plain_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _lay_out(manifest, blob, aside, link=mode == "link")
            _put(aside, target)
        finally:
            _disk.remove_tree(aside)


def _free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise ConflictError(f"{target}: exists already", hint="choose another place")


def _put(aside: Path, target: Path) -> None:
    try:
        if aside.is_dir():
            aside.rename(target)
        else:
            target.hardlink_to(aside)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise ConflictError(f"{target}: exists already", hint="choose another place") from error
        raise


def _lay_out(manifest: Manifest, blob: Blob, place: Path, *, link: bool) -> None:
    if manifest.single:
        _bring(manifest.entries[0], blob, str(place), link)
        return
    place.mkdir()
    for folder in sorted({os.path.dirname(entry.path) for entry in manifest.entries}):  # noqa: PTH120
        (place / folder).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        todo = [
            pool.submit(_bring, entry, blob, f"{place}/{entry.path}", link)
            for entry in manifest.entries
        ]
        try:
            for done in todo:
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _bring(entry: Entry, blob: Blob, place: str, link: bool) -> None:
    source = blob(entry)
    try:
        if link and not entry.executable and _link(source, place):
            sha256 = _hashing.sha256_of(place)
        else:
            sha256 = _hashing.copy_checked(str(source), place)
            mode = 0o755 if entry.executable else 0o644
            os.chmod(place, mode & ~0o222 if link else mode)  # noqa: PTH101
    except FileNotFoundError as error:
        raise damaged(entry.path, gone=True) from error
    if sha256 != entry.sha256:
        raise damaged(entry.path)


def _link(source: Path, place: str) -> bool:
    try:
        os.link(source, place)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def damaged(path: str, *, gone: bool = False) -> UserError:
    """Say that an object of the store has other bytes, or is gone (``verify`` sets it aside)."""
    return UserError(
        f"{path}: damaged in the store: its bytes are {'gone' if gone else 'others'}",
        hint="mlstead data verify names all that is; add the same bytes once more to heal it",
    )


class Shelf:
    """The read-only trees that a store's local cache holds, each made once.

    Programs read them in place. Their files share no inode with the store, and a tree that a
    program wrote to all the same (as root can) is made again from the store's objects. The
    spoilt one stays beside it for a day: a program may stand in it, and shall not lose its files
    under its feet.
    """

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "trees"
        self.locks = cache / "locks"
        self._seen: dict[str, float] = {}

    def ready(self, digest: str) -> Path | None:
        """Give the tree of a version if it is there; only looks, and notes the time."""
        check_digest(digest)
        tree = self.folder / digest
        if not self._intact(tree):
            return None
        inside = tree / "data"
        if (tree / "single").exists():
            return next(inside.iterdir())
        return inside

    def _intact(self, tree: Path) -> bool:
        """Say whether nothing in a tree was changed since it was made; looks every ten seconds."""
        try:
            os.utime(tree)
            now = time.monotonic()
            if now - self._seen.get(tree.name, -_LOOK_SECONDS) < _LOOK_SECONDS:
                return True
            if (tree / "stamp").read_text() != _stamp(tree / "data"):
                return False
        except FileNotFoundError:
            return False
        self._seen[tree.name] = now
        return True

    def make(self, manifest: Manifest, blob: Blob) -> Path:
        """Give the tree of a version, making it if nobody has.

        Raises:
            UserError: an object is corrupt or missing, or the disk is full.
        """
        with _disk.plain_errors(self.folder), _disk.locked(self.locks / manifest.digest):
            ready = self.ready(manifest.digest)
            if ready is not None:
                return ready
            tree = self.folder / manifest.digest
            aside = _disk.beside(tree)
            try:
                aside.mkdir(parents=True)
                inside = aside / "data"
                if manifest.single:
                    (aside / "single").touch()
                    inside.mkdir()
                    inside = inside / manifest.entries[0].path
                _lay_out(manifest, blob, inside, link=False)
                _protect(aside)
                (aside / "stamp").write_text(_stamp(aside / "data"))
                self._set_aside(tree)
                aside.rename(tree)
            except BaseException:
                _disk.remove_tree(aside)
                raise
        return tree / "data" if not manifest.single else tree / "data" / manifest.entries[0].path

    def drop(self, digest: str) -> None:
        """Forget the tree of a version whose bytes have turned out to be damaged."""
        self._set_aside(self.folder / check_digest(digest))

    def _set_aside(self, tree: Path) -> None:
        """Take a tree from its place; remove what was set aside of it more than a day ago."""
        for spoilt in self.folder.glob(f".{tree.name}.*"):
            _remove_if_unused(spoilt, _DAY)
        spoilt = _disk.beside(tree)
        with suppress(FileNotFoundError):
            os.utime(tree)
            tree.rename(spoilt)

    def collect(self, keep: Container[str], older_than: float, *, dry_run: bool) -> None:
        """Remove trees that nobody needs and nobody used lately."""
        if dry_run or not self.folder.is_dir():
            return
        for tree in list(self.folder.iterdir()):
            if tree.name not in keep:
                _remove_if_unused(tree, older_than)


def _remove_if_unused(tree: Path, seconds: float) -> None:
    with suppress(FileNotFoundError):
        if time.time() - tree.stat().st_mtime > seconds:
            _disk.remove_if_old(tree, seconds)


def _protect(tree: Path) -> None:
    """Take the right to write from all inside; the outer folder must stay movable."""
    for place, folders, files in os.walk(tree / "data"):
        for name in (*folders, *files):
            path = f"{place}/{name}"
            os.chmod(path, os.stat(path).st_mode & ~0o222)  # noqa: PTH101, PTH116
    (tree / "data").chmod(0o555)


def _stamp(folder: Path) -> str:
    """Sum up all names, sizes and times of change below a folder; no bytes are read."""
    told = hashlib.sha256(usedforsecurity=False)
    todo = [str(folder)]
    while todo:
        place = todo.pop()
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                todo.append(entry.path)
                continue
            line = f"{entry.path[len(str(folder)) :]}\0{status.st_size}\0{status.st_ctime_ns}\n"
            told.update(line.encode(errors="surrogateescape"))
    return told.hexdigest()
