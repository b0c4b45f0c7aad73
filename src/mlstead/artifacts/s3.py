"""The store in S3: the same layout as the folder store, so that DVC can use it as a remote."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlstead.artifacts import _adopt, _disk, _hashing, _intake, _manifest, _trees, _walk
from mlstead.artifacts._dvc import Bucket, Stat, object_key
from mlstead.artifacts._hashing import Hashes, Told
from mlstead.artifacts._walk import Found
from mlstead.artifacts.base import ArtifactStore, Collected, Entry, Manifest, Progress
from mlstead.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from mlstead.clients.dvcfile import DvcOut


class S3Store(ArtifactStore):
    """Keeps versions in a bucket, and what was used here in a local cache."""

    def __init__(self, bucket: Bucket, cache: Path) -> None:
        self.bucket = bucket
        self.blobs = cache / "blobs"
        self.shelf = _trees.Shelf(cache)

    def add(
        self, source: Path, *, progress: Progress | None = None, without: Container[str] = ()
    ) -> Manifest:
        found, single = _walk.find(source, without)
        return self._keep(found, single, progress)

    def adopt(self, repo_cache: Path, out: DvcOut, *, progress: Progress | None = None) -> Manifest:
        with _disk.plain_errors(repo_cache):
            found = _adopt.find(repo_cache, out)
        return self._keep(found, not out.md5.endswith(".dir"), progress)

    def _keep(self, found: Sequence[Found], single: bool, progress: Progress | None) -> Manifest:
        before = {file.real: _stamp(file.real) for file in found}
        with _disk.plain_errors(self.bucket.location):
            entries = _intake.take_in(found, _hash, progress)
        manifest = _manifest.build(entries, single=single)
        # A collection spares what an addition announces, so nothing vanishes between the
        # question what is there already and the writing of the manifest.
        self.bucket.write(_pending_key(manifest.digest), _manifest.dump(manifest))
        self._send(manifest, {entry.md5: file.real for entry, file in _pairs(entries, found)})
        for path, stamp in before.items():
            if _stamp(path) != stamp:
                raise UserError(f"{path}: changed while it was read", hint="try again")
        self.bucket.write(_manifest_key(manifest.digest), _manifest.dump(manifest))
        self.bucket.delete([_pending_key(manifest.digest)])
        return manifest

    def _send(self, manifest: Manifest, sources: dict[str, str]) -> None:
        missing = sorted(set(sources) - self.bucket.present(sources)) if sources else []
        if missing:
            self.bucket.upload([sources[md5] for md5 in missing], missing)
        if not manifest.single:
            self.bucket.write(object_key(manifest.address), _manifest.listing(manifest.entries))

    def manifest(self, digest: str) -> Manifest:
        try:
            content = self.bucket.read(_manifest_key(_manifest.check_digest(digest)))
        except NotFoundError as error:
            raise NotFoundError(f"no version {digest[:12]} in {self.bucket.location}") from error
        return _manifest.parse(digest, content)

    def checkout(self, digest: str, target: Path, mode: str = "copy") -> None:
        _trees.checkout(self.manifest(digest), self._blob, target, mode)

    def materialize(self, digest: str) -> Path:
        ready = self.shelf.ready(digest)
        return ready or self.shelf.make(self.manifest(digest), self._blob)

    def _blob(self, entry: Entry) -> Path:
        """Bring an object into the cache, unless it is there and good."""
        place = self.blobs / entry.md5[:2] / entry.md5[2:]
        with suppress(FileNotFoundError):
            if _hashing.sha256_of(str(place)) == entry.sha256:
                os.utime(place)
                return place
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = _disk.beside(place)
        try:
            self.bucket.download(object_key(entry.md5), aside)
            if _hashing.sha256_of(str(aside)) != entry.sha256:
                raise _trees.damaged(entry.path)
            aside.chmod(0o444)
            aside.replace(place)
        except NotFoundError as error:
            raise _trees.damaged(entry.path, gone=True) from error
        finally:
            aside.unlink(missing_ok=True)
        return place

    def verify(self, digest: str) -> tuple[str, ...]:
        manifest = self.manifest(digest)
        wrong = {entry.md5 for entry in manifest.entries if not self._good(entry)}
        bad = [entry.path for entry in manifest.entries if entry.md5 in wrong]
        if not manifest.single:
            listing = b""
            with suppress(NotFoundError):
                listing = self.bucket.read(object_key(manifest.address))
            if _manifest.folder_address(listing) != manifest.address:
                bad.append(manifest.address)
                wrong.add(manifest.address)
        self.bucket.set_aside(self.bucket.present(wrong) if wrong else ())
        return tuple(bad)

    def _good(self, entry: Entry) -> bool:
        try:
            hashes = self.bucket.hash(entry.md5)
        except NotFoundError:
            return False
        return (hashes.md5, hashes.sha256, hashes.size) == (entry.md5, entry.sha256, entry.size)

    def digests(self) -> Iterator[str]:
        return (_digest(stat) for stat in self.bucket.list("manifests"))

    def collect(
        self, keep: Iterable[str], *, older_than: float = 86400.0, dry_run: bool = False
    ) -> Collected:
        kept = frozenset(keep)
        limit = time.time() - older_than
        gone = [
            stat
            for stat in self.bucket.list("manifests")
            if stat.modified < limit and _digest(stat) not in kept
        ]
        away = {_digest(stat) for stat in gone}
        if not dry_run:
            self.bucket.delete([stat.key for stat in gone])
        needed = self._needed(away, limit)
        blobs = [
            stat
            for stat in self.bucket.list("files/md5")
            if stat.modified < limit and _address(stat) not in needed
        ]
        gone += blobs
        if not dry_run:
            late = self._needed(away, limit)  # an addition may have begun meanwhile
            self.bucket.delete([stat.key for stat in blobs if _address(stat) not in late])
            self._tidy(limit, older_than)
        self.shelf.collect(kept, older_than, dry_run=dry_run)
        return Collected(len(gone), sum(stat.size for stat in gone))

    def _needed(self, away: set[str], limit: float) -> set[str]:
        """List the addresses that versions need, announced ones too."""
        needed: set[str] = set()
        announced = [stat for stat in self.bucket.list("pending") if stat.modified >= limit]
        for stat in [*self.bucket.list("manifests"), *announced]:
            if stat.key.startswith("pending/") or _digest(stat) not in away:
                with suppress(NotFoundError):
                    manifest = _manifest.parse(_digest(stat), self.bucket.read(stat.key))
                    needed |= {entry.md5 for entry in manifest.entries} | {manifest.address}
        return needed

    def _tidy(self, limit: float, older_than: float) -> None:
        """Remove what killed additions announced, and what the cache holds for nobody."""
        self.bucket.delete(
            [stat.key for stat in self.bucket.list("pending") if stat.modified < limit]
        )
        for path in self.blobs.glob("??/*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    _disk.remove_if_old(path, older_than)


def _hash(found: Found, told: Told) -> Hashes:
    return _hashing.of_file(found.real, told)


def _pairs(entries: Sequence[Entry], found: Sequence[Found]) -> list[tuple[Entry, Found]]:
    places = {file.path: file for file in found}
    return [(entry, places[entry.path]) for entry in entries]


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 many thousand times
    except FileNotFoundError:
        return (-1, -1)
    return status.st_mtime_ns, status.st_size


def _manifest_key(digest: str) -> str:
    return f"manifests/{digest[:2]}/{digest[2:]}.json"


def _pending_key(digest: str) -> str:
    return f"pending/{digest[:2]}/{digest[2:]}.json"


def _digest(stat: Stat) -> str:
    return "".join(stat.key.removesuffix(".json").split("/")[-2:])


def _address(stat: Stat) -> str:
    return "".join(stat.key.split("/")[-2:])


def create(
    location: str,
    cache: Path,
    *,
    endpoint: str | None = None,
    key: str | None = None,
    secret: str | None = None,
) -> S3Store:
    """Make the store of ``s3://bucket/prefix``.

    What is not given comes from the environment, as for every S3 program: ``AWS_ENDPOINT_URL``,
    ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``.

    Raises:
        UserError: the location is not one.
    """
    return S3Store(Bucket(location, endpoint=endpoint, key=key, secret=secret), cache)


def fetch_object(location: str, key: str, target: Path) -> None:
    """Bring one object, with the environment's endpoint and credentials, to a new file.

    Raises:
        NotFoundError: there is no such object.
        UserError: no credentials, or no right.
        UnavailableError: the server does not answer.
    """
    Bucket(location).download(key, target)


PART = create
