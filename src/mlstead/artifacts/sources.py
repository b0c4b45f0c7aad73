"""Brings data from where it is: a web server, S3, or a path."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import mlstead.artifacts
import mlstead.clients
from mlstead import discover
from mlstead.artifacts import _disk, _hashing
from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.spec.address import shown

Progress = Callable[[int, int], None]


def fetch(
    url: str,
    sha256: str,
    target: Path,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Bring a file from a web server (sha256 needed), S3, or a path of this machine.

    Args:
        url: ``http://``, ``https://``, ``s3://bucket/key``, ``file://`` or a path.
        sha256: what the bytes must hash to; may be empty except for web servers.
        target: the file to write; it must not exist.
        limit: bytes it may have at most (web servers only).
        progress: told bytes done and bytes in all.

    Raises:
        UserError: the sha256 is missing or another one, or the address is not allowed.
        NotFoundError: there is no such file.
        ConflictError: the target exists.
        UnavailableError: the server does not answer.
    """
    sha256 = _checked(sha256)
    if target.exists():
        raise ConflictError(f"{target}: exists already")
    scheme = url.partition("://")[0].lower() if "://" in url else "file"
    with _disk.plain_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if scheme in ("http", "https"):
        if not sha256:
            raise UserError(
                f"{shown(url)}: a sha256 is needed", hint="ask the publisher; --sha256 …"
            )
        web = discover.part(mlstead.clients, "http")
        web.download(url, target, sha256=sha256, limit=limit, progress=progress)
        return target
    if scheme not in ("s3", "file"):
        raise UserError(f"{shown(url)}: cannot be fetched", hint="http, https, s3 or a path")
    aside = _disk.beside(target)
    try:
        with _disk.plain_errors(target):
            _from_s3(url, aside) if scheme == "s3" else _from_path(url, aside)
            _compare(url, aside, sha256)
            target.hardlink_to(aside)
    finally:
        aside.unlink(missing_ok=True)
    return target


def _checked(sha256: str) -> str:
    plain = sha256.lower().removeprefix("sha256:")
    if plain and not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise UserError(f"{sha256!r} is not a sha256", hint="64 hexadecimal digits")
    return plain


def _from_s3(url: str, aside: Path) -> None:
    location, _, key = url.rstrip("/").rpartition("/")
    if not location.removeprefix("s3://").strip("/") or location == "s3:/":
        raise UserError(f"{shown(url)}: names no object", hint="s3://BUCKET/KEY")
    if "@" in location.removeprefix("s3://").partition("/")[0]:
        raise UserError(
            f"{shown(url)}: an S3 address has no login in it",
            hint="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )
    discover.part(mlstead.artifacts, "s3").fetch_object(location, key, aside)


def _from_path(url: str, aside: Path) -> None:
    path = Path(url.removeprefix("file://")).expanduser()
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file")
    shutil.copyfile(path, aside)


def _compare(url: str, aside: Path, sha256: str) -> None:
    if not sha256:
        return
    found = _hashing.sha256_of(str(aside))
    if found != sha256:
        raise UserError(
            f"{shown(url)}: its sha256 is {found}, not {sha256}",
            hint="the file changed, or the number is wrong",
        )


def suggested_name(url: str) -> str:
    """Give a file name for what an address leads to; never one with a folder in it."""
    url = shown(url)  # nothing of a password or a token, which the name would bring to light
    name = url.partition("?")[0].partition("://")[2].rstrip("/")
    name = name.rpartition("/")[2] if "/" in name else ""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:200]
    return safe or hashlib.sha256(url.encode()).hexdigest()[:16]
