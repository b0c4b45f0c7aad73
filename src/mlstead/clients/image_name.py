"""Names of images as people write them: ``python:3.11``, ``10.0.0.5:5000/team/app@sha256:…``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlstead.errors import UserError

_HUB = "docker.io"
_HUB_SERVER = "registry-1.docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image in a registry.

    Attributes:
        address: host and port of the registry.
        repository: the name within it; reference: a tag or a digest.
    """

    address: str
    repository: str
    reference: str

    def __str__(self) -> str:
        between = "@" if ":" in self.reference else ":"
        return f"{self.address}/{self.repository}{between}{self.reference}"


def parse_image(text: str) -> ImageName:
    """Read a name; without a host it is Docker Hub's, without a tag it is ``latest``.

    Raises:
        UserError: it cannot be the name of an image.
    """
    rest, _, digest = text.partition("@")
    first, slash, after = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        address, rest = first, after
    else:
        address = _HUB
    repository, colon, tag = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if address in (_HUB, "index.docker.io"):
        address = _HUB_SERVER
        repository = repository if "/" in repository else f"library/{repository}"
    if not _ADDRESS.fullmatch(address) or (colon and not _TAG.fullmatch(tag)):
        raise _strange(text)
    if ("@" in text) != bool(_DIGEST.fullmatch(digest)) or not _REPOSITORY.fullmatch(repository):
        raise _strange(text)
    return ImageName(address, repository, digest or tag or "latest")


def check_repository(address: str, repository: str) -> None:
    """Refuse what cannot be a repository.

    Raises:
        UserError: it cannot.
    """
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise _strange(f"{address}/{repository}")


def is_digest(reference: str) -> bool:
    """Say whether a reference is a digest, which names the bytes themselves."""
    return bool(_DIGEST.fullmatch(reference))


def check_reference(reference: str) -> None:
    """Refuse what is neither a tag nor a digest.

    Raises:
        UserError: it is neither.
    """
    if not is_digest(reference) and not _TAG.fullmatch(reference):
        raise UserError(f"{reference[:80]!r} is neither a tag nor a sha256 digest")


def _strange(text: str) -> UserError:
    return UserError(
        f"{text[:120]!r} cannot be the name of an image",
        hint="host:port/name:tag or host:port/name@sha256:…, in small letters",
    )
