"""The bundle: a folder with all programs and images of a site, each with its checksum.

Layout: ``bin/`` programs (links among them allowed), ``cni/`` network plugins, ``images/*.tar``
archives as ``docker save`` or ``ctr images export`` write them, ``charts/*.tgz`` as
``helm package`` writes them, and ``bundle.json``.
"""

import hashlib
import json
import lzma
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from mlstead.errors import NotFoundError, UserError
from mlstead.plan import Bundle, BundleFile

MANIFEST: Final = "bundle.json"
FORMAT: Final = 1
FOLDERS: Final = ("bin", "cni", "images", "charts")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@:=-]*", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_VERSIONS: Final = {
    "kubernetes": "registry.k8s.io/kube-apiserver",
    "coredns": "registry.k8s.io/coredns/coredns",
    "etcd": "registry.k8s.io/etcd",
    "pause": "registry.k8s.io/pause",
}


def create(folder: Path) -> Bundle:
    """Write the manifest of a folder: what is in it, with checksums; read its images' names.

    Raises:
        UserError: it is no such folder, or something in it cannot be part of a bundle.
    """
    if not (folder / "bin").is_dir():
        raise UserError(f"{folder}: no bundle", hint="it needs bin/, cni/ and images/")
    paths = list(_entries(folder))
    links = {
        path: str((folder / path).readlink()) for path in paths if (folder / path).is_symlink()
    }
    for path, to in links.items():
        if "/" in to or not (folder / path).parent.joinpath(to).is_file():
            raise UserError(f"{folder / path}: links to {to}, which is no program beside it")
    plain = [path for path in paths if path not in links]
    with ThreadPoolExecutor(4) as pool:
        files = tuple(pool.map(lambda path: _described(folder, path), plain))
    images = sorted({name for path in plain if path.startswith("images/")
                     for name in _names(folder / path)})  # fmt: skip
    bundle = Bundle(str(folder.resolve()), _versions(images), files, links, tuple(images))
    _write(folder / MANIFEST, bundle)
    return bundle


def load(folder: Path) -> Bundle:
    """Read a bundle's manifest, and see that its files are there with their sizes.

    The checksums are compared on each machine, when a file has arrived there.

    Raises:
        NotFoundError: there is none.
        UserError: it is damaged, or a file is missing or has another size.
    """
    hint = f"make it again: mlstead bundle create {folder}"
    try:
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if data["mlstead_bundle"] != FORMAT:
            raise UserError(f"{folder}: a bundle of another version", hint=hint)
        bundle = _bundle(folder, data)
    except FileNotFoundError as error:
        raise NotFoundError(f"{folder}: no bundle there", hint=hint) from error
    except OSError as error:
        raise UserError(f"{folder / MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST}: damaged", hint=hint) from error
    for file in bundle.files:
        there = folder / file.path
        if there.is_symlink() or not there.is_file() or there.stat().st_size != file.size:
            raise UserError(f"{there}: missing, or not as the manifest says", hint=hint)
    return bundle


def _bundle(folder: Path, data: Mapping[str, Any]) -> Bundle:
    """Read a manifest, in which nothing may point out of its folders.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no such manifest.
    """
    files = tuple(BundleFile(it["path"], it["sha256"], it["size"]) for it in data["files"])
    links = {path: to for path, to in dict(data["links"]).items() if _belongs(path)}
    whole = all(_belongs(it.path) and _DIGEST.fullmatch(it.sha256) for it in files)
    images = [name for name in data["images"] if isinstance(name, str)]
    if not (
        whole
        and len(links) == len(data["links"])
        and all(_NAME.fullmatch(to) for to in links.values())
        and len({it.path for it in files} | set(links)) == len(files) + len(links)
        and len(images) == len(data["images"])
    ):
        raise ValueError("names that cannot be")
    return Bundle(str(folder.resolve()), dict(data["versions"]), files, links, tuple(images))


def _belongs(path: str) -> bool:
    """Say whether a path is one name in one of the folders."""
    name, _, file = path.partition("/")
    return name in FOLDERS and bool(_NAME.fullmatch(file))


def _entries(folder: Path) -> Iterator[str]:
    for name in FOLDERS:
        for entry in sorted((folder / name).iterdir()) if (folder / name).is_dir() else ():
            if not entry.is_file():
                raise UserError(f"{entry}: only files belong here")
            if not _NAME.fullmatch(entry.name):
                raise UserError(f"{folder / name}: {entry.name!r} cannot be a name in a bundle")
            yield f"{name}/{entry.name}"


def _described(folder: Path, path: str) -> BundleFile:
    with (folder / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return BundleFile(path, digest, (folder / path).stat().st_size)


def _names(archive: Path) -> list[str]:
    """Give the names of the images in an archive, from its manifest or index."""
    try:
        with tarfile.open(archive) as tar:
            for member, read in (("manifest.json", _tags), ("index.json", _annotated)):
                try:
                    content = tar.extractfile(member)
                except KeyError:
                    continue
                if content is not None:
                    return read(json.load(content))
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{archive}: no archive of images") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{archive}: no archive of images") from error
    raise UserError(f"{archive}: no archive of images")


def _tags(manifest: list[dict[str, Any]]) -> list[str]:
    return [str(tag) for image in manifest for tag in image["RepoTags"] or ()]


def _annotated(index: dict[str, Any]) -> list[str]:
    name = "io.containerd.image.name"
    found = [it.get("annotations") or {} for it in index["manifests"]]
    return [str(it[name]) for it in found if name in it]


def _versions(images: list[str]) -> Mapping[str, str]:
    """Give the versions of what has one that others must know, by the images' tags."""
    tags = dict(image.rsplit(":", 1) for image in images if ":" in image.rsplit("/", 1)[-1])
    return {name: tags[image] for name, image in _VERSIONS.items() if image in tags}


def _write(path: Path, bundle: Bundle) -> None:
    data = {
        "mlstead_bundle": FORMAT,
        "versions": bundle.versions,
        "files": [{"path": it.path, "sha256": it.sha256, "size": it.size} for it in bundle.files],
        "links": bundle.links,
        "images": bundle.images,
    }
    try:
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".bundle-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
        Path(aside).replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
