"""Brings an image to its registry; asks little, for a login costs a registry more than a file.

A registry checks the password at each request, by a hash that is slow on purpose (0.07 s). What was
sent to a repository is noted, so that it is not asked for; a manifest that is refused since the
registry has lost something makes all of it be looked for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlstead.clients.registry import OCI_MANIFEST, Blob, Registry
from mlstead.engines.kubernetes.layers import Layer, LayerCache
from mlstead.engines.kubernetes.notes import read_note, write_note
from mlstead.errors import NotFoundError, UserError

_SENDERS: Final = 4
_SMALL: Final = 1 << 16  # bytes: sent without asking whether they are there


@dataclass(frozen=True, slots=True)
class Way:
    """From which repository the base comes, and to which one the image goes."""

    source: Registry
    origin: str
    target: Registry
    repository: str


@dataclass(frozen=True, slots=True)
class Load:
    """What an image is made of: the base's layers (digest, size), ours, its configuration."""

    base: Sequence[tuple[str, int]]
    layers: Sequence[Layer]
    config: Blob


class Sending:
    """Sends images one way; ``notes`` is the folder that says what was sent."""

    def __init__(self, way: Way, notes: Path, told: Callable[[str], None]) -> None:
        self._way, self._notes, self._told = way, notes, told
        place = f"{way.target.login.url}/{way.repository}"
        self._place = hashlib.sha256(place.encode()).hexdigest()[:16]

    def send(self, load: Load, digest: str, manifest: bytes) -> None:
        """Send what the registry lacks, then the manifest.

        Raises:
            UserError: the registry refuses.
            UnavailableError: it does not answer.
        """
        way = self._way
        self._blobs(load, sure=False)
        try:
            way.target.put(way.repository, digest, OCI_MANIFEST, manifest)
        except NotFoundError:
            self._blobs(load, sure=True)
            way.target.put(way.repository, digest, OCI_MANIFEST, manifest)

    def _blobs(self, load: Load, *, sure: bool) -> None:
        """Send blobs, several at a time; ``sure`` asks for those that were sent before, too."""
        with ThreadPoolExecutor(_SENDERS) as pool:
            jobs = [pool.submit(self._theirs, one, size, sure=sure) for one, size in load.base]
            jobs += [pool.submit(self._ours, layer, sure=sure) for layer in load.layers]
            jobs.append(pool.submit(self._send, load.config, "", sure=sure))
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ours(self, layer: Layer, *, sure: bool) -> None:
        try:
            self._send(Blob.of_file(layer.path, layer.digest), layer.title, sure=sure)
        except UserError as error:
            if LayerCache.forget(layer):
                raise UserError(f"{layer.path} was damaged", hint="try again") from error
            raise

    def _theirs(self, digest: str, size: int, *, sure: bool) -> None:
        """Take a layer of the base over, within the registry if that can be."""
        way = self._way
        here = way.source is way.target
        if (here and way.origin == way.repository) or self._is_there(digest, size, sure=sure):
            return
        if not (here and way.target.mount(way.repository, digest, way.origin)):
            self._told(f"sending a layer of the base: {size / 1e6:.1f} MB")
            blob = Blob(digest, size, lambda: way.source.stream(way.origin, digest))
            way.target.upload(way.repository, blob)
        self._note(digest)

    def _send(self, blob: Blob, title: str, *, sure: bool) -> None:
        if self._is_there(blob.digest, blob.size, sure=sure):
            return
        if title:
            self._told(f"sending {title}: {blob.size / 1e6:.1f} MB")
        self._way.target.upload(self._way.repository, blob)
        self._note(blob.digest)

    def _is_there(self, digest: str, size: int, *, sure: bool) -> bool:
        if not sure and read_note(self._path(digest)):
            return True
        if size <= _SMALL or not self._way.target.has(self._way.repository, digest):
            return False
        self._note(digest)
        return True

    def _note(self, digest: str) -> None:
        write_note(self._path(digest), "sent")

    def _path(self, digest: str) -> Path:
        return self._notes / f"{self._place}-{digest.removeprefix('sha256:')}"
