"""Images of a bundle: read out of their archives, and brought into a registry."""

from __future__ import annotations

import hashlib
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from mlstead.clients.image_name import parse_image
from mlstead.clients.registry import INDEXES, OCI_MANIFEST, PLATFORM, Blob, Registry, sha256
from mlstead.errors import UserError

_CHUNK: Final = 1 << 20
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_GZIP: Final = b"\x1f\x8b"
_NAME: Final = "io.containerd.image.name"


@dataclass(frozen=True, slots=True)
class Archived:
    """An image in an archive: its names, its manifest, and all that the manifest names."""

    names: tuple[str, ...]
    media_type: str
    manifest: bytes
    blobs: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of one image: its name in the registry, its digest, and the bytes sent for it."""

    name: str
    digest: str
    sent: int


def load_images(
    folder: Path, names: Sequence[str], registry: Registry, told: Callable[[str], None]
) -> list[Loaded]:
    """Bring the images of archives into a registry, named as before but for the host.

    What the registry has is not sent again.

    Raises:
        UserError: an archive is damaged, or the registry refuses.
        UnavailableError: the registry does not answer.
    """
    found = []
    for name in names:
        for image in read_images(folder / name):
            before = ""
            for text in image.names:
                found.append(_push(image, text, before, registry, told))
                before = parse_image(text).repository
    return found


def _push(
    image: Archived, text: str, before: str, registry: Registry, told: Callable[[str], None]
) -> Loaded:
    """Bring an image under one name; ``before`` is a repository that has it already."""
    name = parse_image(text)
    repository = name.repository
    digest, count = sha256(image.manifest), 0
    if registry.digest(repository, name.reference) != digest:
        told(f"{repository}:{name.reference}")
        for blob in image.blobs:
            if registry.has(repository, blob.digest):
                continue
            if before and registry.mount(repository, blob.digest, before):
                continue
            registry.upload(repository, blob)
            count += blob.size
        registry.put(repository, name.reference, image.media_type, image.manifest)
    return Loaded(f"{registry.login.address}/{repository}:{name.reference}", digest, count)


def read_images(path: Path) -> list[Archived]:
    """Find the images of an archive, as ``docker save`` or ``ctr images export`` writes it.

    Raises:
        UserError: it is no such archive, or damaged.
    """
    try:
        with closing(_Archive(path)) as archive:
            index = archive.data("index.json")
            if index is not None and any(_named(row) for row in index["manifests"]):
                return [_of_layout(archive, row) for row in index["manifests"] if _named(row)]
            rows = archive.data("manifest.json")
            if rows is not None:
                return [_of_docker(archive, row) for row in rows if row.get("RepoTags")]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no archive of images") from error
    raise UserError(f"{path}: no archive of images")


class _Archive:
    """An archive, open; the files in it can be read again after it was closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _readable(path):
            self._tar = tarfile.open(path)  # noqa: SIM115 close() closes it
            self._names = {member.name.removeprefix("./") for member in self._tar}

    def close(self) -> None:
        self._tar.close()

    def data(self, name: str) -> Any:
        """Give what a JSON file says; None if there is none."""
        return json.loads(self.content(name)) if name in self._names else None

    def content(self, name: str) -> bytes:
        with _readable(self.path):
            return self._file(self._tar, name).read()

    def starts(self, name: str) -> bytes:
        with _readable(self.path):
            return self._file(self._tar, name).read(2)

    def blob(self, name: str, digest: str = "") -> Blob:
        """Give a file as a blob; its digest is reckoned if it is not known."""
        with _readable(self.path):
            file = self._file(self._tar, name)
            size = file.seek(0, 2)
        if not digest:
            running = hashlib.sha256()
            for chunk in self._pieces(name):
                running.update(chunk)
            digest = f"sha256:{running.hexdigest()}"
        return Blob(digest, size, lambda: self._pieces(name))

    def _pieces(self, name: str) -> Iterator[bytes]:
        with _readable(self.path), tarfile.open(self.path) as tar:
            file = self._file(tar, name)
            while chunk := file.read(_CHUNK):
                yield chunk

    @staticmethod
    def _file(tar: tarfile.TarFile, name: str) -> IO[bytes]:
        try:
            member = tar.getmember(name)
        except KeyError:
            member = tar.getmember(f"./{name}")
        file = tar.extractfile(member)
        if file is None:
            raise ValueError(f"{name} is no file")
        return file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}: no archive of images") from error


def _of_docker(archive: _Archive, row: Mapping[str, Any]) -> Archived:
    """Read an image that ``docker save`` wrote; plain layers have the digest that it names."""
    config = archive.blob(row["Config"])
    inner = archive.data(row["Config"])["rootfs"]["diff_ids"]
    layers, rows = [], []
    for name, digest in zip(row["Layers"], inner, strict=True):
        packed = archive.starts(name) == _GZIP
        blob = archive.blob(name, "" if packed else digest)
        layers.append(blob)
        rows.append(_row(_LAYER + "+gzip" * packed, blob))
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _row(_CONFIG, config),
        "layers": rows,
    }
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    return Archived(tuple(row["RepoTags"]), OCI_MANIFEST, content, (config, *layers))


def _of_layout(archive: _Archive, row: Mapping[str, Any]) -> Archived:
    """Read an image of an OCI layout: its manifest stays as it is, and so does its digest."""
    content = _checked(archive, row["digest"])
    data, kind = json.loads(content), row["mediaType"]
    if kind in INDEXES:
        one = next(
            it
            for it in [*data["manifests"], {}]
            if not it or f"{it['platform']['os']}/{it['platform']['architecture']}" == PLATFORM
        )
        if not one:
            raise UserError(f"{archive.path}: {_named(row)} is not for {PLATFORM}")
        content, kind = _checked(archive, one["digest"]), one["mediaType"]
        data = json.loads(content)
    blobs = [
        archive.blob(_place(it["digest"]), it["digest"]) for it in [data["config"], *data["layers"]]
    ]
    return Archived((_named(row),), kind, content, tuple(blobs))


def _checked(archive: _Archive, digest: str) -> bytes:
    content = archive.content(_place(digest))
    if sha256(content) != digest:
        raise UserError(f"{archive.path}: damaged: {digest} is not what it says")
    return content


def _named(row: Mapping[str, Any]) -> str:
    return str((row.get("annotations") or {}).get(_NAME, ""))


def _place(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _row(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}
