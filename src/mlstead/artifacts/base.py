"""What an artifact is, and what every store of artifacts promises."""

from __future__ import annotations

import abc
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlstead.clients.dvcfile import DvcOut  # brings a YAML parser that most callers never need

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a version.

    Attributes:
        path: where it stands in the version, with forward slashes.
        size: bytes.
        md5: the address of its bytes in the store.
        sha256: the identity of its bytes.
        executable: the owner may run it.
    """

    path: str
    size: int
    md5: str
    sha256: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is made of.

    Attributes:
        digest: sha256 over the sorted entries: the identity of the version.
        address: what DVC calls it: an md5 (a single file) or an md5 with ``.dir`` (a folder).
        entries: every file, sorted by path; a single file is one entry with the file's name.
    """

    digest: str
    address: str
    entries: tuple[Entry, ...]

    @property
    def single(self) -> bool:
        """Whether the version is one file rather than a folder."""
        return not self.address.endswith(".dir")

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.entries)

    @property
    def files(self) -> int:
        """How many files there are."""
        return len(self.entries)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, or would remove.

    Attributes:
        objects: how many objects (files, folder listings, manifests).
        bytes: their size together.
    """

    objects: int
    bytes: int


class ArtifactStore(abc.ABC):
    """Keeps folders and files by the hash of their bytes, in DVC's layout."""

    @abc.abstractmethod
    def add(
        self, source: Path, *, progress: Progress | None = None, without: Container[str] = ()
    ) -> Manifest:
        """Store a file or a folder; the bytes first, then the manifest.

        What stands directly in the folder under a name in ``without`` is left out; links to it
        are kept like all others.

        Adding what is there already changes nothing. Links that stay inside the folder are kept
        as copies of what they point to; empty folders are not kept.

        Raises:
            NotFoundError: the source does not exist.
            UserError: a link points outside, a name is not allowed, something is neither a file
                nor a folder, a file changed while it was read, or the disk is full.
        """

    @abc.abstractmethod
    def adopt(self, repo_cache: Path, out: DvcOut, *, progress: Progress | None = None) -> Manifest:
        """Store what a ``.dvc`` file names, taken from that repository's ``.dvc/cache``.

        Raises:
            NotFoundError: the cache lacks an object (``dvc fetch`` brings it).
            UserError: an object does not have the bytes its name promises, or a name climbs.
        """

    @abc.abstractmethod
    def manifest(self, digest: str) -> Manifest:
        """Read what a version is made of.

        Raises:
            NotFoundError: the store has no such version.
            UserError: the manifest was changed in the store.
        """

    @abc.abstractmethod
    def checkout(self, digest: str, target: Path, mode: str = "copy") -> None:
        """Write a version to a place of the caller's, whole or not at all.

        A single file becomes ``target`` itself, or a file in it where ``target`` is a folder.

        Args:
            digest: the version.
            target: where to; what is there already must be an empty folder.
            mode: ``copy`` (writable), or ``link`` (read-only, shares the store's bytes where
                the disk allows it).

        Raises:
            ConflictError: the target exists and is not empty.
            UserError: an object in the store is corrupt or missing.
        """

    @abc.abstractmethod
    def materialize(self, digest: str) -> Path:
        """Give a read-only folder (or file) with the version, made once and shared by all.

        Raises:
            NotFoundError: the store has no such version.
            UserError: an object in the store is corrupt or missing.
        """

    @abc.abstractmethod
    def verify(self, digest: str) -> tuple[str, ...]:
        """Hash everything again; give the paths that are bad or missing (none: all is well).

        A damaged folder listing of a version is named by its address.
        """

    @abc.abstractmethod
    def collect(
        self, keep: Iterable[str], *, older_than: float = 86400.0, dry_run: bool = False
    ) -> Collected:
        """Remove what no version in ``keep`` needs, and spare what is young.

        Everything under the store's objects belongs to the store: objects that another tool
        put there go too.

        Args:
            keep: digests of the versions that stay.
            older_than: seconds an object must have been there.
            dry_run: only count.
        """

    @abc.abstractmethod
    def digests(self) -> Iterator[str]:
        """Give the digest of every version in the store, in no order."""
