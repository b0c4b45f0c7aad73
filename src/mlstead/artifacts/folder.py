"""The store in a folder: DVC's layout, so that it can also be a remote of a DVC repository.

``files/md5/ab/cdef…`` holds bytes and folder listings as DVC does, ``manifests/`` what each
version is made of, ``tmp/`` what is being written.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlstead.artifacts import _adopt, _disk, _hashing, _intake, _manifest, _trees, _walk
from mlstead.artifacts._hashing import Hashes, Told
from mlstead.artifacts._walk import Found
from mlstead.artifacts.base import ArtifactStore, Collected, Entry, Manifest, Progress
from mlstead.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from mlstead.clients.dvcfile import DvcOut


class FolderStore(ArtifactStore):
    """Keeps versions in a folder of this machine, or of a mounted file server."""

    def __init__(self, location: Path, cache: Path) -> None:
        self.location = location
        self.blobs = location / "files" / "md5"
        self.manifests = location / "manifests"
        self.tmp = location / "tmp"
        self.shelf = _trees.Shelf(cache)

    def add(
        self, source: Path, *, progress: Progress | None = None, without: Container[str] = ()
    ) -> Manifest:
        found, single = _walk.find(source, without)
        real = str(self.location.absolute())
        if any(file.real.startswith(real + "/") for file in found):
            raise UserError(f"{source}: holds the store itself", hint="add a folder inside it")
        return self._keep(found, single, progress)

    def adopt(self, repo_cache: Path, out: DvcOut, *, progress: Progress | None = None) -> Manifest:
        with _disk.plain_errors(repo_cache):
            found = _adopt.find(repo_cache, out)
        return self._keep(found, not out.md5.endswith(".dir"), progress)

    def _keep(self, found: Sequence[Found], single: bool, progress: Progress | None) -> Manifest:
        with _disk.plain_errors(self.location), _Intake(self) as intake:
            entries = _intake.take_in(found, intake.keep, progress)
            manifest = _manifest.build(entries, single=single)
            if not single:
                intake.keep_bytes(_manifest.listing(entries), manifest.address)
            _disk.settle(self.blobs, intake.written)
            _disk.write(self._manifest_path(manifest.digest), _manifest.dump(manifest))
            if not all(self._blob_path(md5).exists() for md5 in intake.reused):
                return self._keep(found, single, progress)  # a collection ran meanwhile
        return manifest

    def manifest(self, digest: str) -> Manifest:
        try:
            content = self._manifest_path(_manifest.check_digest(digest)).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"no version {digest[:12]} in {self.location}") from error
        return _manifest.parse(digest, content)

    def checkout(self, digest: str, target: Path, mode: str = "copy") -> None:
        _trees.checkout(self.manifest(digest), self._blob, target, mode)

    def materialize(self, digest: str) -> Path:
        ready = self.shelf.ready(digest)
        return ready or self.shelf.make(self.manifest(digest), self._blob)

    def verify(self, digest: str) -> tuple[str, ...]:
        manifest = self.manifest(digest)
        wrong = {entry.md5 for entry in manifest.entries if not self._good(entry)}
        bad = [entry.path for entry in manifest.entries if entry.md5 in wrong]
        if not manifest.single:
            path = self._blob_path(manifest.address)
            listing = path.read_bytes() if path.is_file() else b""
            if _manifest.folder_address(listing) != manifest.address:
                bad.append(manifest.address)
                wrong.add(manifest.address)
        self._set_aside(digest, wrong)
        return tuple(bad)

    def _set_aside(self, digest: str, addresses: Iterable[str]) -> None:
        """Take damaged objects, and the tree made of them, out of the way of a new addition."""
        for address in addresses:
            with suppress(OSError):  # missing, or a store that may only be read
                (self.location / "damaged").mkdir(exist_ok=True)
                self._blob_path(address).rename(self.location / "damaged" / address)
            self.shelf.drop(digest)

    def _good(self, entry: Entry) -> bool:
        try:
            hashes = _hashing.of_file(str(self._blob(entry)))
        except OSError:
            return False
        return (hashes.md5, hashes.sha256, hashes.size) == (entry.md5, entry.sha256, entry.size)

    def digests(self) -> Iterator[str]:
        for path in self.manifests.glob("??/*.json"):
            yield path.parent.name + path.stem

    def collect(
        self, keep: Iterable[str], *, older_than: float = 86400.0, dry_run: bool = False
    ) -> Collected:
        kept = frozenset(keep)
        stale = [
            path
            for path in self.manifests.glob("??/*.json")
            if path.parent.name + path.stem not in kept and _old(path, older_than)
        ]
        gone = [self._remove(path, older_than, dry_run) for path in stale]
        needed: set[str] = set()
        for digest in set(self.digests()) - {path.parent.name + path.stem for path in stale}:
            with suppress(NotFoundError):
                manifest = self.manifest(digest)
                needed |= {entry.md5 for entry in manifest.entries} | {manifest.address}
        for path in self.blobs.glob("??/*"):
            if path.parent.name + path.name not in needed and _old(path, older_than):
                gone.append(self._remove(path, older_than, dry_run))
        self.shelf.collect(kept, older_than, dry_run=dry_run)
        self._sweep(older_than, dry_run)
        sizes = [size for size in gone if size is not None]
        return Collected(len(sizes), sum(sizes))

    def _remove(self, path: Path, older_than: float, dry_run: bool) -> int | None:
        if dry_run:
            return path.stat().st_size
        with _disk.plain_errors(path):
            return _disk.remove_if_old(path, older_than)

    def _sweep(self, older_than: float, dry_run: bool) -> None:
        """Remove what killed processes left."""
        for path in self.tmp.glob("*") if not dry_run else ():
            if _old(path, older_than):
                _disk.remove_tree(path)

    def _blob(self, entry: Entry) -> Path:
        return self._blob_path(entry.md5)

    def _blob_path(self, address: str) -> Path:
        return self.blobs / address[:2] / address[2:]

    def _manifest_path(self, digest: str) -> Path:
        return self.manifests / digest[:2] / f"{digest[2:]}.json"


def _old(path: Path, older_than: float) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > older_than
    return False


class _Intake:
    """One addition: what it writes stands in a folder of its own until it has its address."""

    def __init__(self, store: FolderStore) -> None:
        self.store = store
        self.folder = store.tmp / uuid.uuid4().hex
        self.written: list[str] = []
        self.reused: list[str] = []
        self.made: set[str] = set()

    def __enter__(self) -> _Intake:
        self.folder.mkdir(parents=True)
        self.store.blobs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        _disk.remove_tree(self.folder)

    def keep(self, found: Found, told: Told) -> Hashes:
        """Copy a file into the store."""
        aside = f"{self.folder}/{uuid.uuid4().hex}"
        if found.size > _hashing.SMALL:
            hashes = _hashing.copy(found.real, aside, told)
            if not self._reuse(hashes.md5, aside):
                self._rename(hashes.md5, aside)
            return hashes
        with open(found.real, "rb", buffering=0) as file:  # noqa: PTH123
            content = file.read(found.size + 1)
        hashes = _hashing.of_bytes(content)
        told(hashes.size)
        if not self._reuse(hashes.md5, content):
            self._write(aside, content)
            self._rename(hashes.md5, aside)
        return hashes

    def keep_bytes(self, content: bytes, address: str) -> None:
        """Store a folder listing."""
        if not self._reuse(address, content):
            aside = f"{self.folder}/{address}"
            self._write(aside, content)
            self._rename(address, aside)

    def _write(self, aside: str, content: bytes) -> None:
        with open(aside, "xb", buffering=0) as file:  # noqa: PTH123
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]

    def _reuse(self, address: str, wanted: bytes | str) -> bool:
        """Take an object that is there if it has the wanted bytes (or those of the file so named).

        It is touched, so that a collection spares it. A damaged one (torn by a power cut, written
        to by root, lost by the disk) gives its place to the new one.
        """
        path = f"{self.store.blobs}/{address[:2]}/{address[2:]}"
        try:
            if not _hashing.same(path, wanted):
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        self.reused.append(address)
        return True

    def _rename(self, address: str, aside: str) -> None:
        folder = f"{self.store.blobs}/{address[:2]}"
        if folder not in self.made:
            Path(folder).mkdir(exist_ok=True)
            self.made.add(folder)
        os.chmod(aside, 0o444)  # noqa: PTH101 many thousand times
        path = f"{folder}/{address[2:]}"
        os.replace(aside, path)  # noqa: PTH105
        self.written.append(path)


def create(location: str, cache: Path) -> FolderStore:
    """Make the store of a folder; nothing is written before something is added."""
    return FolderStore(Path(location).expanduser().absolute(), cache)


PART = create
