"""Makes the image that a task runs in: a base, the code, the packages; pushed, never run here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mlstead.clients.image_name import ImageName, is_digest, parse_image
from mlstead.clients.registry import OCI_MANIFEST, PLATFORM, Blob, Login, Registry, sha256
from mlstead.engines.base import Code, Environment
from mlstead.engines.kubernetes import environment_layer
from mlstead.engines.kubernetes.code_layers import FOLDER as CODE
from mlstead.engines.kubernetes.code_layers import code_parts
from mlstead.engines.kubernetes.environment_layer import FOLDER as ENVIRONMENT
from mlstead.engines.kubernetes.environment_layer import PROGRAMS
from mlstead.engines.kubernetes.image_push import Load, Sending, Way
from mlstead.engines.kubernetes.layers import Layer, LayerCache
from mlstead.engines.kubernetes.notes import drop_old, read_note, write_note
from mlstead.errors import NotFoundError, UserError

__all__ = ["CODE", "ENVIRONMENT", "PROGRAMS", "Wanted", "build"]

_FORMAT: Final = 1
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_PACKED: Final = f"{_LAYER}+gzip"
_DOCKER_LAYERS: Final = {
    "application/vnd.docker.image.rootfs.diff.tar": _LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": _PACKED,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_LAYER}+zstd",
}
_USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Told = Callable[[str], None]
Connect = Callable[[Login], Registry]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image to make.

    Attributes:
        base: an image by tag or digest; one in another registry is read without a login.
        repository: where the new image goes: host, port and name.
    """

    base: str
    repository: str
    code: Code | None = None
    environment: Environment | None = None


@dataclass(frozen=True, slots=True)
class _Base:
    """The base image, as it was found; its layers and configuration are plain JSON data."""

    name: ImageName
    layers: tuple[dict[str, Any], ...]
    config: dict[str, Any]

    def variable(self, name: str) -> str:
        """Give a variable that the image sets; "" if it does not."""
        rows = (self.config.get("config") or {}).get("Env") or []
        return next((row.partition("=")[2] for row in rows if row.startswith(f"{name}=")), "")


def build(
    wanted: Wanted,
    login: Login,
    cache: Path,
    told: Told = lambda line: None,
    *,
    connect: Connect = Registry,
) -> str:
    """Make an image and push it; give its name with its digest, which is all that pods need.

    The same base, code and environment give the same image; what the registry has is not sent
    again, and what was made here is not made again.

    Args:
        wanted: what is in it.
        login: of the registry that it goes to.
        cache: a folder for what was made; what is not used for a week is removed.
        told: gets a line for each thing that takes a while.
        connect: opens a registry.

    Raises:
        NotFoundError: there is no such base, or no such code.
        UserError: the base does not fit, the registry refuses, there is no wheel.
        UnavailableError: a registry or the package index does not answer.
    """
    base, aim = parse_image(wanted.base), parse_image(wanted.repository)
    if aim.address != login.address:
        raise UserError(f"{wanted.repository}: not in the registry {login.address}")
    with ExitStack() as stack:
        target = stack.enter_context(connect(login))
        same = base.address == login.address
        source = target if same else stack.enter_context(connect(Login(base.address)))
        way = Way(source, base.repository, target, aim.repository)
        base = replace(base, reference=_digest_of(source, base))
        note = cache / "images" / f"{_key(wanted, base.reference, aim)}.txt"
        digest = read_note(note)
        if not digest or target.digest(aim.repository, digest) != digest:
            digest = _make(wanted, base, way, cache, told)
            write_note(note, digest)
    return f"{login.address}/{aim.repository}@{digest}"


def _make(wanted: Wanted, base: ImageName, way: Way, cache: Path, told: Told) -> str:
    """Make and push an image that the registry lacks; give its digest."""
    store = LayerCache(cache)
    found = _base(way.source, base, cache)
    parts = code_parts(wanted.code) if wanted.code else []
    if wanted.environment:
        python = found.variable("PYTHON_VERSION")
        part = environment_layer.environment_part(
            wanted.environment, python, PLATFORM, store.making
        )
        parts = [part, *parts] if part else parts
    layers = store.layers(parts, told)
    config = Blob.of_bytes(_dump(_config(found, layers)))
    manifest = _dump(_manifest(found, layers, config))
    sending = Sending(way, cache / "sent", told)
    load = Load(tuple((row["digest"], row["size"]) for row in found.layers), layers, config)
    sending.send(load, sha256(manifest), manifest)
    drop_old(cache)
    return sha256(manifest)


def _digest_of(source: Registry, base: ImageName) -> str:
    if is_digest(base.reference):
        return base.reference
    found = source.digest(base.repository, base.reference)
    if not found:
        raise NotFoundError(
            f"{base}: there is no such image", hint="name one that the registry has, with its tag"
        )
    return found


def _base(source: Registry, name: ImageName, cache: Path) -> _Base:
    """Read the base image; one that was read before is not asked for again.

    Raises:
        UserError: it is for another platform, or not as an image must be.
    """
    note = cache / "bases" / f"{name.reference.removeprefix('sha256:')}.json"
    try:
        layers, config = json.loads(read_note(note))
    except ValueError:
        layers, config = _fetched(source, name)
        write_note(note, json.dumps([layers, config]))
    return _Base(name, tuple(layers), config)


def _fetched(source: Registry, name: ImageName) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    manifest = source.resolve(name.repository, name.reference)
    try:
        layers = [
            {
                "mediaType": _DOCKER_LAYERS.get(row["mediaType"], row["mediaType"]),
                "digest": row["digest"],
                "size": int(row["size"]),
            }
            for row in manifest.data["layers"]
        ]
        config = json.loads(source.read(name.repository, manifest.data["config"]["digest"]))
        platform = f"{config.get('os', 'linux')}/{config['architecture']}"
        whole = len(config["rootfs"]["diff_ids"]) == len(layers)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: not an image that programs run in") from error
    if platform != PLATFORM:
        raise UserError(f"{name}: is for {platform}, not for {PLATFORM}")
    if not whole:
        raise UserError(f"{name}: not an image that programs run in")
    return layers, config


def _config(base: _Base, layers: Sequence[Layer]) -> dict[str, Any]:
    """Give the configuration: that of the base, with our layers and where to find packages."""
    config = dict(base.config)
    inner = [*config["rootfs"]["diff_ids"], *(layer.inner for layer in layers)]
    config["rootfs"] = {**config["rootfs"], "diff_ids": inner}
    when = config.get("created", "1970-01-01T00:00:00Z")
    made = [{"created": when, "created_by": f"mlstead: {it.title}"} for it in layers]
    config["history"] = [*(config.get("history") or []), *made]
    if any(layer.title.startswith("environment") for layer in layers):
        own = dict(config.get("config") or {})
        own["Env"] = _with_packages(base, own.get("Env") or [])
        config["config"] = own
    return config


def _with_packages(base: _Base, variables: Sequence[str]) -> list[str]:
    path = f"{PROGRAMS}:{base.variable('PATH') or _USUAL_PATH}"
    more = base.variable("PYTHONPATH")
    kept = [row for row in variables if row.partition("=")[0] not in ("PATH", "PYTHONPATH")]
    return [*kept, f"PATH={path}", f"PYTHONPATH={ENVIRONMENT}{more and f':{more}'}"]


def _manifest(base: _Base, layers: Sequence[Layer], config: Blob) -> dict[str, Any]:
    own = [{"mediaType": _PACKED, "digest": it.digest, "size": it.size} for it in layers]
    about = {"mediaType": _CONFIG, "digest": config.digest, "size": config.size}
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": about,
            "layers": [*base.layers, *own]}  # fmt: skip


def _key(wanted: Wanted, base: str, aim: ImageName) -> str:
    """Name all that the image depends on."""
    environment, code = wanted.environment, wanted.code
    parts = [
        _FORMAT,
        base,
        PLATFORM,
        str(aim),
        code and code.tree,
        environment and [environment.key, environment.requirements, environment.version],
        environment and [environment.hashes, environment.setup],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _dump(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
