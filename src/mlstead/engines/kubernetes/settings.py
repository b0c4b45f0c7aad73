"""What a context says of a cluster, and where what this laptop knows of it is kept."""

import contextlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlstead.errors import UserError

OPTIONS: Final = (
    "kubeconfig", "kube_context", "namespace", "image", "registry", "registry_user",
    "registry_authority", "pod_endpoint",
)  # fmt: skip
"""The options of a context; a registry's password is the secret named after the registry."""
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Settings:
    """One cluster for one laptop.

    Attributes:
        folder: what this laptop knows of the tasks; home: the state of mlstead.
        token: tells this laptop's tasks from those of others in the same namespace.
        kubeconfig: "" for the user's own; kube_context: "" for the current one.
        namespace: "" for the context's own.
        image: what tasks run that name none; registry: where images of code are pushed.
        artifacts: where objects go; endpoint: the S3 server; pod_endpoint: as pods reach it.
    """

    folder: Path
    home: Path
    token: str
    kubeconfig: str = ""
    kube_context: str = ""
    namespace: str = ""
    image: str = ""
    registry: str = ""
    registry_user: str = ""
    registry_authority: str = ""
    artifacts: str = ""
    endpoint: str = ""
    pod_endpoint: str = ""


def settings_of(
    home: Path, name: str, options: Mapping[str, str], artifacts: str, endpoint: str
) -> Settings:
    """Check what a context says.

    Raises:
        UserError: an option is not one, or what pods need is missing.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise UserError(f"context {name}: no option {unknown[0]!r}", hint=", ".join(OPTIONS))
    namespace = options.get("namespace", "")
    if namespace and not _NAMESPACE.fullmatch(namespace):
        raise UserError(f"context {name}: {namespace!r} cannot be a namespace")
    if not artifacts.startswith("s3://"):
        raise UserError(
            f"context {name}: pods leave their logs and outputs in S3, and it names no bucket",
            hint="mlstead context add NAME --engine kubernetes --artifacts s3://BUCKET/PREFIX "
            "--endpoint https://…",
        )
    folder = home / "kubernetes" / name
    return Settings(folder, home, _token(folder), artifacts=artifacts, endpoint=endpoint, **options)


def _token(folder: Path) -> str:
    """Give what tells the tasks of this home from all others; made once."""
    file = folder / "id"
    try:
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = folder / f".id.{secrets.token_hex(4)}"
        aside.write_text(secrets.token_hex(4), encoding="ascii")
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(aside)
        aside.unlink()
        return file.read_text(encoding="ascii")
