"""The one file that uses dvc-data: DVC's object database on S3, with errors translated.

Pinned exactly in the locks. ``HashFileDB`` gives the layout, the batched question which objects
exist, and the parallel upload; s3fs gives plain objects, listings and downloads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import s3fs
from botocore.exceptions import (
    BotoCoreError,
    NoCredentialsError,
    PartialCredentialsError,
)
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.base import ObjectFileSystem
from dvc_objects.fs.local import LocalFileSystem

from mlstead.artifacts._hashing import Hashes
from mlstead.errors import NotFoundError, UnavailableError, UserError

_BLOCK = 8 << 20
_BATCH = 500


class _S3(ObjectFileSystem):  # type: ignore[misc] # dvc-objects is not typed for us
    protocol = "s3"
    PARAM_CHECKSUM: ClassVar[str] = "etag"


@dataclass(frozen=True, slots=True)
class Stat:
    """An object of the bucket: its key below the prefix, bytes, and when it was written."""

    key: str
    size: int
    modified: float


class Bucket:
    """A prefix of a bucket, in DVC's layout below ``files/md5``.

    Args:
        location: ``s3://bucket/prefix``.
        endpoint: the server; None for what the environment says (``AWS_ENDPOINT_URL``).
        key: the access key; None for what the environment says.
        secret: the secret key; None for what the environment says.
    """

    def __init__(
        self,
        location: str,
        *,
        endpoint: str | None = None,
        key: str | None = None,
        secret: str | None = None,
    ) -> None:
        self.location = location.rstrip("/")
        self.root = self.location.removeprefix("s3://")
        if not self.location.startswith("s3://") or not self.root:
            raise UserError(f"{location!r} is no place in S3", hint="s3://BUCKET/PREFIX")
        with self.reached():
            raw: Any = s3fs.S3FileSystem(
                endpoint_url=endpoint or None,
                key=key or None,
                secret=secret or None,
                use_listings_cache=False,
                skip_instance_cache=True,
                config_kwargs={"connect_timeout": 5, "retries": {"max_attempts": 2}},
            )
        self.raw = raw
        self.objects: Any = HashFileDB(_S3(fs=raw), f"{self.root}/files/md5", hash_name="md5")

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Translate what the libraries raise.

        Raises:
            NotFoundError: no such object or bucket.
            UserError: no credentials, or no right.
            UnavailableError: the server does not answer, or fails.
        """
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise UserError(
                f"{self.location}: no credentials",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error
        except PermissionError as error:
            raise UserError(
                f"{self.location}: not allowed: {error}", hint="check the keys"
            ) from error
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.location}: {error}", hint="is the bucket there?") from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise UnavailableError(f"{self.location}: {error}") from error
        except ValueError as error:
            raise UserError(f"{self.location}: {error}") from error

    def present(self, addresses: Iterable[str]) -> set[str]:
        """Tell which objects exist."""
        with self.reached():
            return set(self.objects.oids_exist(list(addresses)))

    def upload(self, paths: Sequence[str], addresses: Sequence[str]) -> None:
        """Send files as objects; what exists is written again with the same bytes."""
        with self.reached():
            self.objects.add(list(paths), LocalFileSystem(), list(addresses), check_exists=False)

    def write(self, key: str, content: bytes) -> None:
        """Write a small object under a key below the prefix."""
        with self.reached():
            self.raw.pipe_file(f"{self.root}/{key}", content)

    def read(self, key: str) -> bytes:
        """Read a small object."""
        with self.reached():
            return bytes(self.raw.cat_file(f"{self.root}/{key}"))

    def list(self, folder: str) -> list[Stat]:
        """List all objects below a folder of the prefix."""
        place = f"{self.root}/{folder}"
        with self.reached():
            found = self.raw.find(place, detail=True)
        return [
            Stat(path.removeprefix(self.root + "/"), row["size"], row["LastModified"].timestamp())
            for path, row in found.items()
        ]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are gone already do not matter."""
        for start in range(0, len(keys), _BATCH):
            part = [f"{self.root}/{key}" for key in keys[start : start + _BATCH]]
            with self.reached():
                self.raw.rm(part)

    def set_aside(self, addresses: Iterable[str]) -> None:
        """Take damaged objects out of the way of a new addition."""
        for address in addresses:
            with self.reached():
                place = f"{self.root}/{object_key(address)}"
                self.raw.cp_file(place, f"{self.root}/damaged/{address}")
                self.raw.rm([place])

    def hash(self, address: str) -> Hashes:
        """Read an object and hash it twice, without keeping it."""
        md5 = hashlib.md5(usedforsecurity=False)
        sha256 = hashlib.sha256(usedforsecurity=False)
        size = 0
        path = f"{self.root}/{object_key(address)}"
        with self.reached(), self.raw.open(path, "rb", block_size=_BLOCK) as file:
            while chunk := file.read(_BLOCK):
                md5.update(chunk)
                sha256.update(chunk)
                size += len(chunk)
        return Hashes(md5.hexdigest(), sha256.hexdigest(), size)

    def download(self, key: str, target: Path) -> None:
        """Bring an object to a file, which may be left incomplete on failure."""
        with self.reached():
            self.raw.get_file(f"{self.root}/{key}", os.fspath(target))


def object_key(address: str) -> str:
    """Give the key of an object below the prefix, as DVC lays it out."""
    return f"files/md5/{address[:2]}/{address[2:]}"
